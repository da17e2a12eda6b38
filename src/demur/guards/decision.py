"""From scores to decisions: which rows are flagged, by a threshold or with control of the false-discovery rate."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.calibration.dependence import dependence_of
from demur.calibration.sketch import ScoreSketch
from demur.calibration.thresholds import Calibration, Threshold, benjamini_hochberg, check_level, instances_needed
from demur.errors import DependentRows, NoPower, NotCalibrated, TooFewInstances
from demur.guards.results import CorrectData, Floats, Labels, PredictData, Scored
from demur.rows.classes import UNKNOWN, Classes

Control = Literal["fdr"] | None

RARE = 0.01
"""The share of a batch that control of the false-discovery rate should be able to find."""


def decide(
    scored: Scored, threshold: Threshold | None, calibration: Calibration | None, control: Control, level: float
) -> PredictData:
    """The flags, scores and p-values of rows; see `Guard.predict` for the arguments. Invalid rows are flagged.

    Raises:
        InvalidSetting, NotCalibrated: see `check_control`.

    Warns:
        NoPower: no row was flagged, and hardly any row could be.
    """
    check_control(control, level, calibration)
    predicted = scored.y
    data = PredictData(is_adversarial=np.zeros(len(scored.score), bool), instance_score=scored.score)
    if calibration is not None:
        data["p_value"] = calibration.p_values(scored.score, predicted)
    if control is not None:
        data["is_adversarial"] = benjamini_hochberg(data["p_value"], level)
        if calibration is not None and not data["is_adversarial"].any():
            _warn_of_power(predicted, calibration, level)
    elif threshold is not None:
        limit = threshold[predicted] if isinstance(threshold, np.ndarray) else threshold
        data["is_adversarial"] = np.asarray(scored.score > limit)
    data["is_adversarial"][scored.invalid] = True
    return data


def _warn_of_power(predicted: Labels, calibration: Calibration, level: float) -> None:
    """Warn if there are too few calibration scores to flag one row in a hundred of a batch, or a single row.

    The smallest p-value is `1 / (n + 1)`; k rows with this p-value are flagged if it is at most `k level / m`.
    """
    m = len(predicted)
    share = max(RARE, 1 / max(m, 1))
    needed = math.ceil(1 / (level * share))
    present = {group: one.n for group, one in calibration.distributions.items() if group is None or group in predicted}
    few = {group: n for group, n in present.items() if n + 1 < needed}
    if not few:
        return
    group, n = min(few.items(), key=lambda item: item[1])
    of = "" if group is None else f" of class {group}"
    each = "" if group is None else " of each class"
    checks.warn(
        f"control='fdr' flags none of the {m:,} rows, and it hardly can: with {n:,} calibration rows{of} the smallest "
        f"p-value is {1 / (n + 1):.2g}, so that at least {min(1.0, 1 / (level * (n + 1))):.2%} of a batch must score "
        f"above all of them. Call infer_threshold on at least {2 * needed:,} rows{each}, or decide by the threshold",
        NoPower,
    )


def correction(
    scored: Scored, flagged: PredictData, classes: Classes = UNKNOWN, *, all_predictions: bool
) -> CorrectData:
    """Add classes to the flags of `decide`: the opinion's where flagged, the classifier's elsewhere and where invalid.

    With `all_predictions`, the classifier's and the opinion's class of each row are added, too.
    """
    corrected = np.where(flagged["is_adversarial"], scored.y_opinion, scored.y)
    corrected[scored.invalid] = scored.y[scored.invalid]
    return CorrectData(
        **flagged,
        corrected=classes.named(corrected),
        no_defense=classes.named(scored.y) if all_predictions else None,
        defense=classes.named(scored.y_opinion) if all_predictions else None,
    )


def check_control(control: Control, level: float, calibration: Calibration | None) -> None:
    """Raise InvalidSetting for a wrong `control` or `level`, and NotCalibrated if p-values are needed and missing."""
    if control is None:
        return
    checks.chosen(control, ("fdr",), "control, if it is given,")
    check_level(level)
    if calibration is None:
        raise NotCalibrated("control='fdr' needs p-values, and the detector is not calibrated: call infer_threshold(X)")


def calibrate(
    scored: Scored,
    *,
    fpr: float | None,
    threshold_perc: float,
    margin: float,
    labels: npt.NDArray[np.integer[Any]] | None,
    classes: int | None,
    name_of: Callable[[int], str] = str,
) -> Calibration:
    """Set thresholds from the scores of normal rows, and keep the scores for p-values.

    Args:
        scored: what the graph says of the rows.
        fpr: false-positive rate to promise; None for a percentile.
        threshold_perc: the percentile, if there is no `fpr`.
        margin: added to each threshold, in nats.
        labels: `(n,)`, true classes: only rows that the classifier gets right count.
        classes: how many classes there are, for a threshold for each predicted class; None for one threshold.
        name_of: what a class is called, for messages.

    Raises:
        TooFewInstances: too few rows, or rows of a class, for the rate.
        InvalidSetting: a rate, percentile or margin is impossible.

    Warns:
        DependentRows: scores depend on the scores of the rows before.
    """
    groups = grouped(scored.score, scored.y, labels, classes)
    found = calibration_of(groups, fpr=fpr, threshold_perc=threshold_perc, margin=margin, name_of=name_of)
    dependence = dependence_of(scored.score, None if classes is None else scored.y)
    if dependence is not None:
        checks.warn(
            f"of the calibration rows, {dependence.said}. If they come in the order of time, or several times, call "
            f"infer_threshold(X[::{dependence.every}]), on every {dependence.every}th of them alone; if they are only "
            "sorted, shuffle them",
            DependentRows,
        )
    return found


class Groups(NamedTuple):
    """The scores of calibration rows, for each predicted class or, under None, for all."""

    counted: Mapping[int | None, ScoreSketch]
    """The scores that thresholds and p-values come from."""
    whole: Mapping[int | None, ScoreSketch] | None = None
    """The scores of all rows, from which drift is measured; None where `counted` has all."""

    @classmethod
    def merged(cls, parts: Sequence["Groups"]) -> "Groups":
        """The groups of all rows, from the groups of several parts of the rows."""
        counted, *whole = (
            {group: ScoreSketch.merged([part[group] for part in column]) for group in column[0]}
            for column in zip(*parts, strict=True)
            if column[0] is not None
        )
        return cls(counted, *whole)


def grouped(
    score: Floats, predicted: Labels, labels: npt.NDArray[np.integer[Any]] | None, classes: int | None
) -> Groups:
    """The scores of rows in groups: see `calibrate`."""

    def of(counts: npt.NDArray[np.bool_]) -> dict[int | None, ScoreSketch]:
        if classes is None:
            return {None: ScoreSketch.of(score[counts])}
        return {k: ScoreSketch.of(score[counts & (predicted == k)]) for k in range(classes)}

    every = of(np.ones(len(predicted), bool))
    return Groups(every) if labels is None else Groups(of(predicted == labels), every)


def calibration_of(
    groups: Groups,
    *,
    fpr: float | None,
    threshold_perc: float,
    margin: float,
    name_of: Callable[[int], str] = str,
) -> Calibration:
    """Set thresholds from the scores that count, of each group: see `calibrate`."""
    sketches = groups.counted
    if not any(sketch.n for sketch in sketches.values()):
        raise TooFewInstances(
            "the classifier gets no instance right, so none can calibrate: are the labels its classes?"
        )

    needed = 1 if fpr is None else instances_needed(fpr)
    few = [f"class {name_of(k)} has {one.n}" for k, one in sketches.items() if k is not None and one.n < needed]
    if few:
        raise TooFewInstances(
            f"a threshold for each predicted class needs at least {needed} instances of each: {', '.join(few)}; "
            "pass more, ask for a higher rate, or leave groups out"
        )
    limits = [
        one.percentile_threshold(threshold_perc, margin) if fpr is None else one.conformal_threshold(fpr, margin)
        for one in sketches.values()
    ]
    distributions = {group: sketch.distribution() for group, sketch in sketches.items()}
    whole = {group: sketch.distribution() for group, sketch in (groups.whole or {}).items()}
    if sum(one.n for one in whole.values()) == sum(one.n for one in distributions.values()):
        whole = {}  # the classifier gets all of them right
    threshold = limits[0] if None in sketches else np.array(limits)
    return Calibration(distributions, threshold, fpr, threshold_perc if fpr is None else None, margin, whole or None)
