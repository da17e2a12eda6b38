"""From scores to decisions: which instances are flagged, by a threshold or so that few of the flags are false."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from demur.calibration import (
    Calibration,
    Threshold,
    benjamini_hochberg,
    check_level,
    instances_needed,
)
from demur.classes import UNKNOWN, Classes
from demur.errors import InvalidSetting, NotCalibrated, TooFewInstances
from demur.results import CorrectData, Floats, Labels, PredictData, Scored
from demur.sketch import ScoreSketch

Control = Literal["fdr"] | None


def decide(
    scored: Scored, threshold: Threshold | None, calibration: Calibration | None, control: Control, level: float
) -> PredictData:
    """Flag instances.

    Args:
        scored: what the graph says of them.
        threshold: flagged is what scores strictly above it; used if there is no `control`.
        calibration: for p-values; None if there was none.
        control: "fdr": flag so that of the flagged instances at most a share of `level` is expected to be normal.
        level: see `control`.

    Returns:
        The flags, scores and p-values; what is invalid is flagged.

    Raises:
        InvalidSetting, NotCalibrated: see `check_control`.
    """
    check_control(control, level, calibration)
    predicted = scored.y
    data = PredictData(is_adversarial=np.zeros(len(scored.score), bool), instance_score=scored.score)
    if calibration is not None:
        data["p_value"] = calibration.p_values(scored.score, predicted)
    if control == "fdr":
        data["is_adversarial"] = benjamini_hochberg(data["p_value"], level)
    elif threshold is not None:
        limit = threshold[predicted] if isinstance(threshold, np.ndarray) else threshold
        data["is_adversarial"] = np.asarray(scored.score > limit)
    data["is_adversarial"][scored.invalid] = True
    return data


def correction(
    scored: Scored, flagged: PredictData, classes: Classes = UNKNOWN, *, all_predictions: bool
) -> CorrectData:
    """Classes: the opinion's where an instance is flagged, the classifier's elsewhere and where it is invalid.

    Args:
        scored: what the graph says of the instances, with the indices of classes.
        flagged: what `decide` made of it.
        classes: what the classes are called.
        all_predictions: whether the classifier's and the opinion's class of each instance are told too.
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
    """Raise unless decisions can be made this way.

    Raises:
        InvalidSetting: `control` is not known, or `level` not between 0 and 1.
        NotCalibrated: p-values are needed and there is no calibration.
    """
    if control is None:
        return
    if control != "fdr":
        raise InvalidSetting(f"control is None, for the threshold, or 'fdr'; got {control!r}")
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
    """Set thresholds from the scores of normal instances, and keep the scores for p-values.

    Args:
        scored: what the graph says of the instances.
        fpr: false-positive rate to promise; None for a percentile.
        threshold_perc: the percentile, if there is no `fpr`.
        margin: added to each threshold, in nats.
        labels: `(n,)`, true classes: only instances that the classifier gets right count.
        classes: how many there are, for one threshold for each class that the classifier predicts; None for one in all.
        name_of: what a class is called, for messages.

    Raises:
        TooFewInstances: for the rate, of all or of a class; the message names the class.
        InvalidSetting: a rate, percentile or margin outside what it can mean.
    """
    sketches = grouped(scored.score, scored.y, labels, classes)
    return calibration_of(sketches, fpr=fpr, threshold_perc=threshold_perc, margin=margin, name_of=name_of)


def grouped(
    score: Floats, predicted: Labels, labels: npt.NDArray[np.integer[Any]] | None, classes: int | None
) -> dict[int | None, ScoreSketch]:
    """Scores that count, for each predicted class or, under None, for all: see `calibrate`."""
    counts = np.ones(len(predicted), bool) if labels is None else predicted == labels
    if classes is None:
        return {None: ScoreSketch.of(score[counts])}
    return {k: ScoreSketch.of(score[counts & (predicted == k)]) for k in range(classes)}


def calibration_of(
    sketches: Mapping[int | None, ScoreSketch],
    *,
    fpr: float | None,
    threshold_perc: float,
    margin: float,
    name_of: Callable[[int], str] = str,
) -> Calibration:
    """Set thresholds from the scores that count, of each group: see `calibrate`."""
    if not any(sketch.n for sketch in sketches.values()):
        raise TooFewInstances(
            "the classifier gets no instance right, so none can calibrate: are the labels its classes?"
        )

    def threshold_of(sketch: ScoreSketch) -> float:
        if fpr is None:
            return sketch.percentile_threshold(threshold_perc, margin)
        return sketch.conformal_threshold(fpr, margin)

    percentage = threshold_perc if fpr is None else None
    if None in sketches:
        limit = threshold_of(sketches[None])
        return Calibration({None: sketches[None].distribution()}, limit, fpr, percentage, margin)
    needed = 1 if fpr is None else instances_needed(fpr)
    few = [
        f"class {name_of(group)} has {sketch.n}"
        for group, sketch in sketches.items()
        if group is not None and sketch.n < needed
    ]
    if few:
        raise TooFewInstances(
            f"a threshold for each predicted class needs at least {needed} instances of each: {', '.join(few)}; "
            "pass more, ask for a higher rate, or leave groups out"
        )
    distributions = {group: sketch.distribution() for group, sketch in sketches.items()}
    limits = np.array([threshold_of(sketch) for sketch in sketches.values()])
    return Calibration(distributions, limits, fpr, percentage, margin)
