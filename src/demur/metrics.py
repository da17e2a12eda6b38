"""How well scores tell bad inputs from clean ones, and harmful corruption from harmless. No Keras."""

from typing import Any, NamedTuple, TypedDict, cast

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, InvalidSetting, MissingExtra, NonFinite

Scores = npt.NDArray[np.floating[Any]]


def auroc(score_clean: Scores, score_bad: Scores) -> float:
    """Area under the ROC curve: the chance that a bad input scores above a clean one, ties counting half.

    Args:
        score_clean: `(n,)`, scores of clean inputs.
        score_bad: `(m,)`, scores of inputs that should be flagged.

    Raises:
        EmptyInput: one of them is empty.
        NonFinite: a score is NaN.
        MissingExtra: scikit-learn is not installed.
    """
    clean, bad = _checked(score_clean, "score_clean"), _checked(score_bad, "score_bad")
    is_bad = np.repeat([0, 1], [len(clean), len(bad)])
    return float(_sklearn_metrics().roc_auc_score(is_bad, np.concatenate([clean, bad])))


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


class Estimate(NamedTuple):
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class ScoreEvaluation(TypedDict):
    """How well scores tell bad inputs from clean ones; see `evaluate_scores`."""

    auroc: Estimate
    average_precision: Estimate
    tpr_at_1_fpr: Estimate
    tpr_at_5_fpr: Estimate
    tpr_at_10_fpr: Estimate
    fpr_at_95_tpr: Estimate


def evaluate_scores(score_clean: Scores, score_bad: Scores, *, resamples: int = 1000, seed: int = 0) -> ScoreEvaluation:
    """Evaluate scores as a test for bad inputs, with 95 % intervals.

    The true-positive rate at a false-positive rate is the highest that a threshold reaches whose false-positive rate
    on these clean scores does not exceed it; the false-positive rate at a true-positive rate is the lowest likewise.
    Average precision depends on how many inputs of each kind there are. Intervals are percentiles of the bootstrap
    (Efron & Tibshirani, 1993): clean and bad scores are resampled apart, with replacement.

    Args:
        score_clean: `(n,)`, scores of clean inputs; infinity is a score like any other.
        score_bad: `(m,)`, scores of inputs that should be flagged.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        For each figure its value and the bounds of its interval.

    Raises:
        EmptyInput: one of them is empty.
        NonFinite: a score is NaN.
        InvalidSetting: fewer than one resample.
        MissingExtra: scikit-learn is not installed.
    """
    clean, bad = _checked(score_clean, "score_clean"), _checked(score_bad, "score_bad")
    if resamples < 1:
        raise InvalidSetting(f"resamples is a whole number of at least 1; got {resamples}")
    values = _figures(clean, bad)
    rng = np.random.default_rng(seed)
    drawn = np.array([_figures(rng.choice(clean, len(clean)), rng.choice(bad, len(bad))) for _ in range(resamples)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    names = list(ScoreEvaluation.__annotations__)
    estimates = {name: Estimate(values[i], float(low[i]), float(high[i])) for i, name in enumerate(names)}
    return cast("ScoreEvaluation", estimates)


def _figures(clean: Scores, bad: Scores) -> list[float]:
    """The figures of a ScoreEvaluation, in its order."""
    metrics = _sklearn_metrics()
    is_bad = np.repeat([0, 1], [len(clean), len(bad)])
    scores = np.concatenate([clean, bad])
    fpr, tpr, _ = metrics.roc_curve(is_bad, scores, drop_intermediate=False)
    return [
        float(metrics.auc(fpr, tpr)),
        float(metrics.average_precision_score(is_bad, scores)),
        *(float(tpr[fpr <= rate].max()) for rate in (0.01, 0.05, 0.10)),
        float(fpr[tpr >= 0.95].min()),
    ]


def _sklearn_metrics() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingExtra("scikit-learn", "metrics") from error
    return metrics


def _checked(score: Scores, name: str) -> Scores:
    values = np.asarray(score, "float64").reshape(-1)
    if len(values) == 0:
        raise EmptyInput(f"scores of both kinds are needed; {name} is empty")
    if np.isnan(values).any():
        raise NonFinite(f"{name} holds NaN")
    # The curves refuse infinity; what is above every finite score may as well be the largest finite number.
    return np.asarray(np.nan_to_num(values))
