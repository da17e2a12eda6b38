"""A classifier outside of an exported guard: how it is asked, and which answers are valid. NumPy only."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.errors import (
    ClassifierFailed,
    DemurError,
    InvalidSetting,
    NonFinite,
    NotADistribution,
    ShapeMismatch,
    WrongType,
)
from demur.guards.description import LOGITS, Outside
from demur.rows.arrays import row_list
from demur.rows.encoder import TableEncoder
from demur.rows.layout import mapped
from demur.rows.rows import Rows

SUM_TOLERANCE = 1e-2
"""How far the sum of the probabilities of a row may be from 1: enough for float16."""

NEEDED = (
    "the classifier is outside of this guard: pass reference=, what the classifier answers for these rows, or load the "
    "guard with demur.runtime.load(path, model=classifier)"
)


def asked(
    model: Any, rows: Rows, able: npt.NDArray[np.bool_], classes: int, answer: str, *, finite: bool
) -> npt.NDArray[np.float32]:
    """Ask a classifier, an estimator with `predict_proba` or a function, about rows; see `as_reference`.

    If the classifier fails on the rows that the companion cannot judge (`able` is False), the answer for them is NaN.

    Raises:
        ClassifierFailed: the classifier raised an error.
        ShapeMismatch, NonFinite, NotADistribution: see `as_reference`.
    """
    found = np.full((len(rows), classes), np.nan, "float32")
    for part in (able, ~able):
        chosen = np.flatnonzero(part)
        some = rows if part.all() else rows[chosen]
        with contextlib.suppress(*(() if part is able else (ClassifierFailed, NonFinite))):
            if len(chosen):
                found[chosen] = as_reference(_answer(model, some), len(chosen), classes, answer, finite=finite)
    return found


def _answer(model: Any, rows: Rows) -> Any:
    try:
        return getattr(model, "predict_proba", model)(rows.raw)
    except DemurError:
        raise
    except Exception as error:
        raise ClassifierFailed(f"the classifier raised {type(error).__name__} on {len(rows)} rows: {error}") from error


def check_model(model: Any) -> None:
    """Raise WrongType unless `model` can be asked about rows."""
    if not (callable(model) or hasattr(model, "predict_proba")) or isinstance(model, type):
        raise WrongType(
            "model is an estimator with predict_proba, or a function from a batch of rows to the classifier's answers; "
            f"got {model!r}"
        )


def as_reference(answers: Any, n: int, classes: int, answer: str, *, finite: bool) -> npt.NDArray[np.float32]:
    """A classifier's answers, PROBABILITIES or LOGITS, as a guard takes them: float32 `(n, classes)`.

    With two classes, answers may also be `(n,)` or `(n, 1)`, of the second class. NaN and infinity are errors if
    `finite` is set.

    Raises:
        ShapeMismatch, NonFinite, NotADistribution: the answers are not probabilities (or logits) of these rows.
    """
    found = np.asarray(answers)
    if found.dtype.kind not in "buif":
        raise ShapeMismatch(f"reference must hold {answer}, ({n}, {classes}) numbers; got dtype {found.dtype}")
    found = found.astype("float32")
    if classes == 2 and found.shape in ((n,), (n, 1)):
        second = found.reshape(n, 1)
        found = np.concatenate([np.zeros_like(second) if answer == LOGITS else 1 - second, second], axis=1)
    if found.shape != (n, classes):
        raise ShapeMismatch(f"reference must hold {answer} of shape ({n}, {classes}); got {found.shape}")
    able = np.isfinite(found).all(axis=1)
    if finite and not able.all():
        raise NonFinite(f"reference holds NaN or infinity for rows {row_list(np.flatnonzero(~able))}")
    off = np.abs(found[able].sum(axis=1) - 1)
    if answer != LOGITS and able.any() and (off.max() > SUM_TOLERANCE or found[able].min() < -SUM_TOLERANCE):
        raise NotADistribution(
            "reference must hold the classifier's probabilities: rows of numbers from 0 to 1 that sum to 1; got a row "
            f"that sums to {found[able].sum(axis=1)[off.argmax()]:.4g}, with smallest number {found[able].min():.4g}. "
            "If these are logits, pass their softmax"
        )
    return found


def companion_rows(outside: Outside, preprocess: Any) -> Callable[[Any], Any]:
    """A function from the caller's rows to the companion's: the encoder in the file, or what the caller gives.

    Raises:
        InvalidSetting: `preprocess` is given, and the detector had none.
    """
    if preprocess is not None and not outside.preprocess:
        raise InvalidSetting("companion_preprocess is for a guard whose detector had one: leave it out")
    if outside.encoder is not None:
        return TableEncoder(outside.encoder).transform

    def made(rows: Any) -> Any:
        found = rows if preprocess is None else getattr(preprocess, "transform", preprocess)(rows)
        return mapped(np.asarray, found.toarray() if hasattr(found, "toarray") else found)

    return made
