"""The classifier's accuracy on rows without labels, estimated from scores."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.calibration.harm import Array, HarmCalibration, Limits, features, learned, limits_of, shares_of_errors
from demur.checks import check_whole, is_number
from demur.detectors.base import Detector, check_detector
from demur.drift.batch import drift_meta
from demur.errors import EmptyInput, InvalidSetting, NotCalibrated, TooFewInstances
from demur.evaluation.norms import bounds_of
from demur.evaluation.target import Target
from demur.evaluation.threats import corruptions_of
from demur.extras import extra
from demur.guards.results import Floats, Result
from demur.rows.rows import Rows
from demur.rows.sources import collected

FEWEST = 50
"""Labelled rows that are needed."""


class AccuracyData(TypedDict):
    """The estimate for rows without labels."""

    accuracy: float
    """Of the classifier."""
    accuracy_interval: tuple[float, float]
    """In which the accuracy lies nine times in ten, if the rows have drifted like the corruptions."""
    extrapolated: bool
    """Whether scores, entropies or confidences have changed further than in any corrupted copy: then the intervals
    promise nothing."""
    harmful_fraction: float
    """How far the accuracy has fallen: the share of the rows that the classifier gets wrong and would get right if they
    were like the labelled rows. 0 if chance explains the fall (one-sided, at 5 %)."""
    harmful_interval: tuple[float, float]
    reference_accuracy: float
    """On the labelled rows."""
    n: int
    invalid: NotRequired[int]
    """Rows that could not be judged and were left out, from a detector with `on_invalid="flag"`."""


AccuracyResult = Result[AccuracyData]
"""What `demur.drift.estimate_accuracy` returns."""


@checks.explained
def calibrate_accuracy(
    detector: Detector,
    X: Any,
    y: Any = None,
    *,
    corruptions: Sequence[str] | Mapping[str, Any] | Literal["default"] = "default",
    rows: int = 1000,
    corrupted_share: float = 0.0,
    X_train: Any = None,
    y_train: Any = None,
    seed: int = 0,
    batch_size: int = 256,
) -> HarmCalibration:
    """Learn from labelled rows, and from corrupted copies of them, what scores say about the classifier's errors.

    The detector keeps what was learned: `estimate_accuracy` needs it, `predict` and `correct` then say how likely the
    classifier is wrong on each row (`data["harm_probability"]`), and `save` writes it.

    Examples:
        >>> harm = calibrate_accuracy(detector, X_test, y_test, corruptions=["gaussian noise"])
        >>> estimate = estimate_accuracy(detector, X_new)["data"]
        >>> 0 <= estimate["accuracy"] <= 1
        True

    Args:
        detector: fitted.
        X: `(n, *input_shape)`, normal rows that neither the classifier nor `fit` was trained on: on training rows the
            classifier errs less, and all estimates would be too high. Or a stream or a data set of such rows, which is
            put together in memory.
        y: `(n,)`, their true classes, as `detector.classes` calls them; None where `X` gives pairs of rows and labels.
        corruptions: names of `demur.evaluation.corruptions`, or functions `X, severity, seed -> X` by name, for
            severities 1 to 5. They tell how accuracy changes with scores, and how far off an estimate may be.
        rows: how many of `X` each corruption is tried on.
        corrupted_share: share, 0 to 1, of corrupted rows among the rows that `harm_probability` is meant for; the
            others are like `X`. With 0, the mean of `harm_probability` on rows like `X` is the error rate.
        X_train: rows that the classifier was trained on. They say what is typical of a column of a table, and there is
            a warning if rows of `X` are among them.
        y_train: the true classes of `X_train`: there is a warning if the classifier is as good on `X` as on `X_train`.
        seed: of what is drawn.
        batch_size: rows a forward pass.

    Returns:
        What was learned; also in `detector.harm`.

    Raises:
        InvalidSetting: no corruption is known for such rows and none is given.
        TooFewInstances: fewer than 50 rows.
        WrongType, ShapeMismatch, EmptyInput, NonFinite, MissingExtra: see `demur.errors`.

    Warns:
        WrongRows: rows are on another scale than the rows of `fit`, are among these or the rows of `X_train`, or `y`
            are the classes of other rows.
    """
    check_detector(detector)
    _isotonic()  # a missing package is told before anything is computed
    check_whole("rows", rows, FEWEST)
    check_whole("seed", seed, 0)
    if not (is_number(corrupted_share) and 0 <= corrupted_share <= 1):
        raise InvalidSetting(f"corrupted_share is a share of rows, 0 to 1; got {corrupted_share!r}")
    X = detector.ready_for(X)
    layout = detector.layout
    given, found = collected(X, layout, labels=y is None)
    X = Rows.of(given, layout, finite=not detector.route.takes_missing)
    labels = detector.labels.indices(found if y is None else y, len(X))
    if len(labels) < FEWEST:
        raise TooFewInstances(f"at least {FEWEST} labelled rows are needed; got {len(labels)}")
    clean, _ = _judged(detector, X, labels, batch_size)
    detector.check_rows(X, clean.probabilities.argmax(axis=1), clean.y, X_train, y_train, batch_size)
    if not clean.wrong.any():
        checks.warn(
            f"the classifier is right on all {len(labels):,} labelled rows, so nothing can be learned about its "
            "errors, and accuracies will be estimated too high: pass more rows, that the classifier was not trained on",
        )
    limits = limits_of(clean.score, clean.probabilities, int(clean.wrong.sum()))

    chosen = np.random.default_rng(seed).permutation(len(labels))[:rows]
    before, classes = X[chosen].raw, labels[chosen]
    shape = detector.input_shape if isinstance(detector.input_shape, tuple) else ()
    plain = all(isinstance(size, int) or size is None for size in shape) and hasattr(before, "dtype")
    target = Target(detector, bounds_of(None, X.raw, shape) if plain else (0.0, 1.0))
    asked = corruptions_of(corruptions, target, X.raw, X_train, [])
    if not asked:
        raise InvalidSetting(
            "nothing is known that could happen to such rows: pass corruptions={'name': function}, of rows, severity "
            "and seed"
        )
    copies = [
        _judged(detector, corruption.change(before, corruption.severity, seed, 0), classes, batch_size)[0]
        for corruption in asked
    ]
    same, _ = _judged(detector, before, classes, batch_size)
    of_each = clean.features(limits)
    changes = np.array([copy.features(limits).mean(axis=0) for copy in copies]) - same.features(limits).mean(axis=0)
    accuracy_changes = np.array([same.wrong.mean() - copy.wrong.mean() for copy in copies])
    found = learned(changes, accuracy_changes, np.array([corruption.name for corruption in asked]), len(chosen))
    scores, wrong = _curve(clean, copies, corrupted_share)
    accuracy = 1 - float(clean.wrong.mean())
    detector.harm = HarmCalibration(
        score_limit=limits.score,
        entropy_limit=limits.entropy,
        weights=found.weights,
        origin=of_each.mean(axis=0),
        anchor=accuracy,
        accuracy=accuracy,
        n=len(clean.wrong),
        noise=float((of_each @ found.weights).std()),
        spread=0.0,
        spread_by_change=found.spread,
        reached=np.abs(changes).max(axis=0),
        scores=scores,
        wrong=wrong,
    )
    return detector.harm


@checks.explained
def estimate_accuracy(detector: Detector, X: Any, *, batch_size: int = 256) -> AccuracyResult:
    """Estimate the classifier's accuracy on rows without labels.

    The estimate is the accuracy on the labelled rows, plus a weighted sum of how far three features have changed: the
    share of rows whose score is not above a limit, the share whose entropy is not above another limit ("average
    thresholded confidence", Garg et al., 2022, arXiv:2201.04234, which uses this feature alone), and the mean
    confidence. As many labelled rows exceed a limit as the classifier gets wrong; the weights are learned from
    corrupted copies of the labelled rows. Rows that have not drifted get the accuracy on the labelled rows, but for
    chance. docs/drift.md compares the estimate with others.

    The estimate sees what scores and confidence show. If the true classes of the same rows change, nothing in the rows
    says so, and no estimate without labels can notice.

    Args:
        detector: a detector on which `calibrate_accuracy` was called.
        X: `(n, *input_shape)`, rows, or a stream of them.
        batch_size: rows a forward pass.

    Returns:
        `{"meta": ..., "data": ...}`, see `AccuracyData`.

    Raises:
        NotCalibrated: `calibrate_accuracy` was not called.
        EmptyInput: there is no row, or none that can be judged.
        InvalidSetting, WrongType, ShapeMismatch, NonFinite: see `demur.errors`.
    """
    check_detector(detector)
    harm = detector.harm
    if harm is None:
        raise NotCalibrated(
            "what scores say about the classifier's errors is not known: call "
            "demur.drift.calibrate_accuracy(detector, X_labelled, y) first"
        )
    detector.check_scale(X)
    found, valid = _judged(detector, X, None, batch_size)
    n = len(found.score)
    change = harm.change_of(found.score, found.probabilities)
    low, high = harm.interval(change, n)
    data = AccuracyData(
        accuracy=harm.accuracy_at(change),
        accuracy_interval=(low, high),
        extrapolated=not harm.is_known(change, n),
        harmful_fraction=harm.harm_at(change, n),
        harmful_interval=(max(0.0, harm.accuracy - high), max(0.0, harm.accuracy - low)),
        reference_accuracy=harm.accuracy,
        n=n,
    )
    if detector.on_invalid == "flag":
        data["invalid"] = int((~valid).sum())
    return AccuracyResult.of(drift_meta(detector), data)


class _Judged(NamedTuple):
    """Of rows that can be judged: scores `(n,)`, the classifier's probabilities `(n, classes)`, true classes `(n,)`."""

    score: Array
    probabilities: Floats
    y: npt.NDArray[np.int64]

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """`(n,)`, whether the classifier is wrong."""
        return np.asarray(self.probabilities.argmax(axis=1) != self.y)

    def features(self, limits: Limits) -> Array:
        """See `demur.calibration.harm.features`."""
        return features(self.score, self.probabilities, limits)


def _judged(
    detector: Detector, X: Any, y: npt.NDArray[np.int64] | None, batch_size: int
) -> tuple[_Judged, npt.NDArray[np.bool_]]:
    """The rows that can be judged, and which of all rows these are; without y, true classes are not known."""
    score, probabilities, _ = detector.score(X, batch_size=batch_size, return_predictions=True)
    valid = np.isfinite(score)
    if not valid.any():
        raise EmptyInput(f"none of the {len(valid)} rows can be judged: their scores are not finite")
    y = np.full(len(valid), -1) if y is None else y
    return _Judged(score[valid].astype("float64"), probabilities[valid], y[valid]), valid


def _curve(clean: _Judged, copies: Sequence[_Judged], corrupted_share: float) -> tuple[Array, Array]:
    """Scores, and the chance that the classifier is wrong at each, which never falls: by isotonic regression."""
    parts = [(clean, 1 - corrupted_share), *((copy, corrupted_share / len(copies)) for copy in copies)]
    parts = [(part, share) for part, share in parts if share > 0]
    scores, wrong = (np.concatenate([getattr(part, name) for part, _ in parts]) for name in ("score", "wrong"))
    weights = np.concatenate([np.full(len(part.score), share / len(part.score)) for part, share in parts])
    knots, shares, total = shares_of_errors(scores, wrong, weights)
    curve = _isotonic()(increasing=True, out_of_bounds="clip").fit(knots, shares, sample_weight=total)
    return knots, np.asarray(curve.predict(knots), "float64")


def _isotonic() -> Any:
    with extra("scikit-learn", "drift"):
        from sklearn.isotonic import IsotonicRegression
    return IsotonicRegression
