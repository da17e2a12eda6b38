"""How much does it hurt: the classifier's accuracy on rows without labels, from their scores."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from demur.data import check_classes, check_layout, check_whole, row_count, taken
from demur.detectors.base import Detector
from demur.drift.batch import drift_meta
from demur.errors import (
    EmptyInput,
    InvalidSetting,
    MissingExtra,
    NotCalibrated,
    TooFewInstances,
    WrongType,
)
from demur.evaluation.budgets import bounds_of
from demur.evaluation.planning import corruptions_of
from demur.evaluation.target import Target
from demur.harm import Array, HarmCalibration, learned_weights, limit_of, shares, spread_of
from demur.results import Meta

KNOTS = 200
FEWEST = 50
"""Labelled rows that are needed."""


class AccuracyData(TypedDict):
    """What is estimated of rows without labels."""

    accuracy: float
    """Of the classifier."""
    accuracy_interval: tuple[float, float]
    """In which the accuracy lies nine times in ten, if the rows drifted like the corruptions that were learned from."""
    harmful_fraction: float
    """Share of the rows that the classifier gets wrong and would get right if they were like the labelled ones."""
    harmful_interval: tuple[float, float]
    reference_accuracy: float
    """On the labelled rows."""
    n: int
    invalid: NotRequired[int]
    """Rows that could not be judged and were left out, from a detector with `on_invalid="flag"`."""


class AccuracyResult(TypedDict):
    """What `demur.drift.estimate_accuracy` returns."""

    meta: Meta
    data: AccuracyData


def calibrate_accuracy(
    detector: Detector,
    X: Any,
    y: Any,
    *,
    corruptions: Sequence[str] | Mapping[str, Any] | Literal["default"] = "default",
    rows: int = 1000,
    X_train: Any = None,
    seed: int = 0,
    batch_size: int = 256,
) -> HarmCalibration:
    """Learn from labelled rows, and from corrupted copies of them, what scores say about the classifier's errors.

    The detector keeps it: `estimate_accuracy` needs it, `predict` and `correct` then say of each row how likely the
    classifier is wrong (`data["harm_probability"]`), and `save` writes it.

    Examples:
        >>> harm = calibrate_accuracy(detector, X_test, y_test, corruptions=["gaussian noise"])
        >>> estimate = estimate_accuracy(detector, X_new)["data"]
        >>> 0 <= estimate["accuracy"] <= 1
        True

    Args:
        detector: fitted.
        X: `(n, *input_shape)`, normal rows that `fit` has not seen.
        y: `(n,)`, their true classes.
        corruptions: names of `demur.evaluation.corruptions`, or functions `X, severity, seed -> X` by name, for
            severities 1 to 5. They tell how far off an estimate may be, and how often rows with high scores are wrong.
        rows: how many of `X` each corruption is tried on.
        X_train: normal rows that say what is typical of a table's column.
        seed: of what is drawn.
        batch_size: rows a forward pass.

    Returns:
        What was learned; it is in `detector.harm` too.

    Raises:
        InvalidSetting: no corruption is known for such rows and none is given.
        TooFewInstances: fewer than 50 rows.
        WrongType, ShapeMismatch, EmptyInput, NonFinite, MissingExtra: see `demur.errors`.
    """
    if not isinstance(detector, Detector):
        raise WrongType(f"detector is an AdversarialAE or a ModelDistillation; got {type(detector).__name__}")
    isotonic = _isotonic()
    check_whole("rows", rows, FEWEST)
    check_whole("seed", seed, 0)
    X = check_layout(detector._ready_for(X), detector.classifier.layout, finite=not detector.route.takes_missing)
    labels = check_classes(y, row_count(X))
    if len(labels) < FEWEST:
        raise TooFewInstances(f"at least {FEWEST} labelled rows are needed; got {len(labels)}")
    score, entropy, wrong = _judged(detector, X, labels, batch_size)
    accuracy, count = 1 - float(wrong.mean()), int(wrong.sum())
    limits = limit_of(score, count), limit_of(entropy, count)

    chosen = np.random.default_rng(seed).permutation(len(labels))[:rows]
    before, classes = taken(X, chosen), labels[chosen]
    shape = detector.input_shape if isinstance(detector.input_shape, tuple) else ()
    plain = all(isinstance(size, int) or size is None for size in shape) and hasattr(before, "dtype")
    target = Target(detector, bounds_of(None, X, shape) if plain else (0.0, 1.0))
    asked = corruptions_of(corruptions, target, X, X_train, [])
    if not asked:
        raise InvalidSetting(
            "nothing is known that could happen to such rows: pass corruptions={'name': function}, of rows, severity "
            "and seed"
        )
    of, accuracies, names = [shares(score, limits[0], entropy, limits[1])], [accuracy], [""]
    scores, errors = [score], [wrong]
    for corruption in asked:
        changed = corruption.change(before, corruption.severity, seed, 0)
        score_of, entropy_of, wrong_of = _judged(detector, changed, classes, batch_size)
        of.append(shares(score_of, limits[0], entropy_of, limits[1]))
        accuracies.append(1 - float(wrong_of.mean()))
        names.append(corruption.name)
        scores.append(score_of)
        errors.append(wrong_of)
    every, whether = np.concatenate(scores), np.concatenate(errors)
    known = np.isfinite(every)
    curve = isotonic(increasing=True, out_of_bounds="clip").fit(every[known], whether[known])
    knots = np.unique(np.quantile(every[known], np.linspace(0, 1, KNOTS)))
    detector.harm = HarmCalibration(
        score_limit=limits[0],
        entropy_limit=limits[1],
        weights=learned_weights(np.array(of), np.array(accuracies)),
        accuracy=accuracy,
        n=len(labels),
        spread=spread_of(np.array(of), np.array(accuracies), np.array(names)),
        scores=knots,
        wrong=np.asarray(curve.predict(knots), "float64"),
    )
    return detector.harm


def estimate_accuracy(detector: Detector, X: Any, *, batch_size: int = 256) -> AccuracyResult:
    """Estimate the classifier's accuracy on rows without labels.

    Of the rows, the share whose score is not above a limit and the share whose entropy is not above another estimate
    accuracy each: the limits are what as many labelled rows exceed as the classifier gets wrong ("average thresholded
    confidence", Garg et al., 2022, arXiv:2201.04234, which knows the second alone). Their weights are learned from
    corrupted copies of the labelled rows. docs/drift.md compares it with others.

    Args:
        detector: one that `calibrate_accuracy` was called on.
        X: `(n, *input_shape)`, rows, or a stream of them.
        batch_size: rows a forward pass.

    Returns:
        `{"meta": ..., "data": ...}`, see `AccuracyData`.

    Raises:
        NotCalibrated: `calibrate_accuracy` was not called.
        EmptyInput: there is no row, or none that can be judged.
        InvalidSetting, WrongType, ShapeMismatch, NonFinite: see `demur.errors`.
    """
    if not isinstance(detector, Detector):
        raise WrongType(f"detector is an AdversarialAE or a ModelDistillation; got {type(detector).__name__}")
    harm = detector.harm
    if harm is None:
        raise NotCalibrated(
            "what scores say about the classifier's errors is not known: call "
            "demur.drift.calibrate_accuracy(detector, X_labelled, y) first"
        )
    score, probabilities, _ = detector.score(X, batch_size=batch_size, return_predictions=True)
    valid = np.isfinite(score)
    n = int(valid.sum())
    if n == 0:
        raise EmptyInput(f"none of the {len(valid)} rows can be judged: their scores are not finite")
    accuracy = harm.accuracy_of(score[valid], _entropy(probabilities[valid]))
    low, high = harm.interval(accuracy, n)
    data = AccuracyData(
        accuracy=accuracy,
        accuracy_interval=(low, high),
        harmful_fraction=max(0.0, harm.accuracy - accuracy),
        harmful_interval=(max(0.0, harm.accuracy - high), max(0.0, harm.accuracy - low)),
        reference_accuracy=harm.accuracy,
        n=n,
    )
    if detector.on_invalid == "flag":
        data["invalid"] = int((~valid).sum())
    return {"meta": drift_meta(detector), "data": data}


def _judged(detector: Detector, X: Any, y: Any, batch_size: int) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """The scores of rows, the entropies of the classifier's distributions, and whether it is wrong."""
    score, probabilities, _ = detector.score(X, batch_size=batch_size, return_predictions=True)
    return np.asarray(score, "float64"), _entropy(probabilities), probabilities.argmax(axis=1) != y


def _entropy(probabilities: npt.NDArray[np.float32]) -> Array:
    p = np.asarray(probabilities, "float64")
    return np.asarray(-(p * np.log(np.maximum(p, 1e-30))).sum(axis=1))


def _isotonic() -> Any:
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise MissingExtra("scikit-learn", "drift") from error
    return IsotonicRegression
