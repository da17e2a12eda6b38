"""Anything with scikit-learn's `predict_proba` as a classifier: estimators and pipelines, XGBoost, LightGBM."""

import hashlib
from typing import Any

import numpy as np

from demur.classifiers.base import BlackBoxClassifier
from demur.classifiers.outputs import EACH_LABEL
from demur.classifiers.state import digest_of_state
from demur.errors import ShapeMismatch
from demur.rows.layout import Columns, Field, Layout


class EstimatorClassifier(BlackBoxClassifier):
    """Asks `predict_proba`. Rows keep their type, a DataFrame its columns. Classes are in the order of `classes_`."""

    kind = "an estimator with predict_proba"
    takes_tables = True

    @classmethod
    def accepts(cls, model: Any) -> bool:
        return hasattr(model, "predict_proba") and not isinstance(model, type)

    def settled(self, layout: Layout) -> Layout:
        features = getattr(self.model, "n_features_in_", None)
        if isinstance(layout, Columns):
            columns = [str(name) for name in getattr(self.model, "feature_names_in_", layout.names)]
            if missing := [name for name in columns if name not in layout.names]:
                raise ShapeMismatch(f"the {self.role} was fitted on columns that the table lacks: {', '.join(missing)}")
        elif isinstance(layout, Field) and features is not None and layout.shape != (features,):
            raise ShapeMismatch(f"the {self.role} takes rows of {features} features; got rows of shape {layout.shape}")
        return super().settled(layout)

    def known_classes(self) -> int | None:
        classes = getattr(self.model, "classes_", None)
        return None if classes is None else len(classes)

    def ask(self, rows: Any) -> Any:
        found = self.model.predict_proba(rows)
        if isinstance(found, list) and found and np.ndim(found[0]) == 2:
            raise ShapeMismatch(
                f"the {self.role} returns {len(found)} arrays, one for each label of a multi-output model, and "
                f"{EACH_LABEL}"
            )
        return found

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        return fingerprint(model)


def fingerprint(model: Any) -> str | None:
    """A SHA-256 of what an estimator has learned; None if it holds what cannot be read.

    Of gradient boosting it is that of the trees as the library writes them, of anything else see `digest_of_state`.
    """
    if hasattr(model, "get_booster"):
        return hashlib.sha256(bytes(model.get_booster().save_raw("ubj"))).hexdigest()
    if hasattr(model, "booster_"):
        return hashlib.sha256(model.booster_.model_to_string().encode()).hexdigest()
    return digest_of_state(model)


def earlier_fingerprint(model: Any) -> str | None:
    """What earlier versions saved of an estimator: joblib's hash, which differs between processes for many.

    None without joblib, and of estimators that it cannot hash.
    """
    try:
        import joblib

        return str(joblib.hash(model, hash_name="sha1"))
    except Exception:
        return None
