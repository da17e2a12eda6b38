"""`.txt` files of LightGBM."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from demur.classifiers.files.base import Asked
from demur.classifiers.files.trees import Trees
from demur.errors import WrongType
from demur.extras import extra

CLASSES = ("binary", "multiclass", "multiclassova", "cross_entropy")
"""Objectives whose predictions are classes."""
UNNAMED = re.compile(r"Column_\d+")
"""What LightGBM calls the columns of an array."""


class LightgbmFile(Trees):
    """LightGBM's trees, whose probabilities are those of `LGBMClassifier`."""

    def __init__(self, booster: Any) -> None:
        names = booster.feature_name()
        infos = booster.dump_model(num_iteration=1)["feature_infos"]
        chosen = [name for name in names if infos.get(name, {}).get("values")]
        kept = booster.pandas_categorical or []
        if len(kept) != len(chosen):  # some of them were of no use to the trees: LightGBM goes by types then
            chosen = []
        super().__init__(
            booster.num_feature(),
            None if all(map(UNNAMED.fullmatch, names)) else names,
            dict(zip(chosen, kept, strict=False)),
            max(2, booster.num_model_per_iteration()),
        )
        self.booster_ = booster

    def predict_proba(self, rows: Any) -> Any:
        """Probabilities, `(n, classes)`."""
        found = np.asarray(self.booster_.predict(self.prepared(rows)))
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found


def read(path: Path, asked: Asked) -> Any:
    """Load a classifier that `save_model` wrote.

    Raises:
        WrongType: it is not LightGBM's, or predicts numbers.
        MissingExtra: LightGBM is not installed.
    """
    with extra("lightgbm", "lightgbm"):
        import lightgbm
    if not path.read_bytes().startswith(b"tree"):
        raise WrongType(f"{path} is no model of LightGBM's: it must be what booster_.save_model('{path.name}') wrote")
    booster = lightgbm.Booster(model_file=str(path))
    objective = str(booster.params.get("objective", "none"))
    if objective.split(" ", maxsplit=1)[0] not in CLASSES:
        raise WrongType(f"{path} is no {asked.role}: its objective, {objective}, is not one of classes")
    return LightgbmFile(booster)
