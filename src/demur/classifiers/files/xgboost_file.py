"""`.json` and `.ubj` files of XGBoost."""

import json
from pathlib import Path
from typing import Any

from demur.classifiers.files.base import Asked
from demur.classifiers.files.trees import Trees
from demur.errors import WrongType
from demur.extras import extra

CLASSES = ("binary:", "multi:", "reg:logistic")
"""How the names of objectives begin whose predictions are classes."""


class XgboostFile(Trees):
    """XGBoost's trees, whose probabilities are those of `XGBClassifier`."""

    def __init__(self, model: Any) -> None:
        booster = model.get_booster()
        known = booster.get_categories(export_to_arrow=True).to_arrow() if hasattr(booster, "get_categories") else []
        categories = {name: values.to_pylist() for name, values in known or [] if values is not None}
        super().__init__(booster.num_features(), booster.feature_names, categories, int(model.n_classes_))
        self.model = model

    def get_booster(self) -> Any:
        """The trees."""
        return self.model.get_booster()

    def predict_proba(self, rows: Any) -> Any:
        """Probabilities, `(n, classes)`."""
        return self.model.predict_proba(self.prepared(rows))


def read(path: Path, asked: Asked) -> Any:
    """Load a classifier that `save_model` wrote.

    Raises:
        WrongType: it is not XGBoost's, or predicts numbers.
        MissingExtra: XGBoost is not installed.
    """
    with extra("xgboost", "xgboost"):
        import xgboost
    model = xgboost.XGBClassifier()
    try:
        booster = xgboost.Booster(model_file=str(path))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        model.load_model(path)
    except xgboost.core.XGBoostError as error:
        raise WrongType(f"{path} is no model of XGBoost's: it must be what save_model('{path.name}') wrote") from error
    except TypeError as error:  # of a regressor or ranker, which XGBoost tells apart where it was one of its estimators
        raise WrongType(f"{path} is no {asked.role}: {error}") from error
    if not objective.startswith(CLASSES):
        raise WrongType(f"{path} is no {asked.role}: its objective, {objective}, is not one of classes")
    return XgboostFile(model)
