"""`.skops` files: estimators of scikit-learn, without pickle."""

from pathlib import Path
from typing import Any

from demur.classifiers.files.base import Asked
from demur.errors import WrongType
from demur.extras import extra


def read(path: Path, asked: Asked) -> Any:
    """Load an estimator whose types are all trusted, by skops or by name.

    Raises:
        WrongType: a type is not trusted, the file is damaged, or the estimator gives no probabilities.
        MissingExtra: skops is not installed.
    """
    with extra("skops", "skops"):
        from skops.io import get_untrusted_types, load
    try:
        unknown = [name for name in get_untrusted_types(file=path) if name not in asked.trust]
        model = None if unknown else load(path, trusted=list(asked.trust))
    except Exception as error:  # whatever a damaged file leads to, or one of other versions
        raise WrongType(f"skops cannot load the {asked.role} {path}: {type(error).__name__}: {error}") from error
    if unknown:
        raise WrongType(
            f"{path} holds types that skops does not trust by itself: {', '.join(unknown)}. If you made the file, or "
            f"trust who did, name each of them: {' '.join(f'--trust {name}' for name in unknown)} (in Python trust=)"
        )
    if not hasattr(model, "predict_proba"):
        raise WrongType(
            f"{path} holds a {type(model).__name__}, which has no predict_proba: demur needs probabilities. "
            "sklearn.calibration.CalibratedClassifierCV(estimator) gives them"
        )
    return model
