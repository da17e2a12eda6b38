"""How well scores tell bad inputs from clean ones, and harmful corruption from harmless. No Keras."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, MissingExtra, NonFinite

Scores = npt.NDArray[np.floating[Any]]


def auroc(score_clean: Scores, score_bad: Scores) -> float:
    """Area under the ROC curve: the chance that a bad input scores above a clean one, ties counting half.

    Args:
        score_clean: `(n,)`, scores of clean inputs.
        score_bad: `(m,)`, scores of inputs that should be flagged.

    Raises:
        EmptyInput: one of them is empty.
        NonFinite: a score is NaN or infinite.
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingExtra("scikit-learn", "metrics") from error
    for name, score in (("score_clean", score_clean), ("score_bad", score_bad)):
        if np.size(score) == 0:
            raise EmptyInput(f"the area under a ROC curve needs scores of both kinds; {name} is empty")
        if not np.isfinite(score).all():
            raise NonFinite(f"{name} holds NaN or infinity")
    is_bad = np.repeat([0, 1], [len(score_clean), len(score_bad)])
    return float(roc_auc_score(is_bad, np.concatenate([score_clean, score_bad])))


def flagged_rate(score: Scores, threshold: float) -> float:
    """Share of the scores strictly above the threshold: on clean inputs the false-positive rate, on bad the true.

    Raises:
        EmptyInput: there are no scores.
    """
    if np.size(score) == 0:
        raise EmptyInput("a rate needs at least one score; got none")
    return float(np.mean(np.asarray(score) > threshold))


class HarmSplit(NamedTuple):
    """Which corrupted instances the corruption harmed: booleans `(n,)` each, both False where it was wrong before."""

    harmful: npt.NDArray[np.bool_]
    """The prediction was right and is now wrong."""
    harmless: npt.NDArray[np.bool_]
    """The prediction was right and still is."""


def split_by_harm(y: npt.NDArray[Any], before: npt.NDArray[Any], after: npt.NDArray[Any]) -> HarmSplit:
    """Split instances by what a corruption did to the classifier's prediction.

    Args:
        y: `(n,)`, true classes.
        before: `(n,)`, the classifier's classes on the clean instances.
        after: `(n,)`, its classes on the corrupted ones.
    """
    was_right = np.asarray(before) == np.asarray(y)
    still_right = np.asarray(after) == np.asarray(y)
    return HarmSplit(harmful=was_right & ~still_right, harmless=was_right & still_right)
