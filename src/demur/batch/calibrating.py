"""Thresholds and p-values from the scores of a Dask collection: sketches of its parts, merged."""

import itertools
from typing import Any

import numpy as np

from demur.batch.collections import parts_of
from demur.batch.formats import Store
from demur.batch.gathering import scores_of_part, sent
from demur.batch.guards import loaded
from demur.batch.job import Job
from demur.batch.tables import Reading
from demur.calibration.thresholds import Calibration
from demur.errors import NonFinite, ShapeMismatch, WrongType
from demur.guards.decision import Groups, calibration_of, grouped
from demur.rows.rows import SOME

TOGETHER = 16
"""Sketches that one task merges."""


def calibrated(
    detector: Any,
    X: Any,
    *,
    fpr: float | None,
    threshold_perc: float,
    margin: float,
    labels: Any,
    by_class: bool,
    batch_size: int,
) -> tuple[Calibration, Any]:
    """Calibrate a live detector on a Dask collection, by the current client's workers or Dask's own scheduler.

    Of at most a million scores, a group, the result is that of the same rows in memory. Of more, the threshold is that
    of a rank higher by at most `ScoreSketch.error`, and never a lower one, so a promised rate holds.

    Args:
        detector: the detector.
        X: a Dask array, or a tuple or dict of them; a bag or DataFrame.
        fpr: see `Detector.infer_threshold`, as for the next two.
        threshold_perc: see there.
        margin: see there.
        labels: `(n,)`, true classes, as the detector calls them; an array, of Dask or not.
        by_class: whether each predicted class has a threshold of its own.
        batch_size: rows a pass.

    Returns:
        The calibration, and some of the rows; None in their place where the first part has none.

    Raises:
        NonFinite, RowsFailed: rows cannot be judged.
        TooFewInstances, InvalidSetting, ShapeMismatch, WrongType, MissingExtra: see `demur.errors`.
    """
    guarded = sent(detector)  # says so if Dask is not there
    import dask

    reading = Reading(detector.layout, channels_first=detector.channels_first)
    job = Job.in_memory(guarded.ref, ("instance_score", "no_defense"), reading, batch_size)
    classes = detector.n_classes if by_class else None
    parts = parts_of(X, reading.layout, ())
    sketches = [
        dask.delayed(sketched)(job, part, true, classes)
        for part, true in zip(parts, _labels_of(labels, X, len(parts)), strict=True)
    ]
    while len(sketches) > 1:
        sketches = [
            dask.delayed(Groups.merged)(sketches[start : start + TOGETHER])
            for start in range(0, len(sketches), TOGETHER)
        ]
    found, first = dask.compute(sketches[0], parts[0])
    name_of = detector.labels.name_of
    calibration = calibration_of(found, fpr=fpr, threshold_perc=threshold_perc, margin=margin, name_of=name_of)
    return calibration, next(iter(first.batches(Store("file"), reading, SOME))).rows


def sketched(job: Job, part: Any, labels: Any, classes: int | None) -> Groups:
    """The scores of a part."""
    score, predicted = scores_of_part(job, part)
    if not np.isfinite(score).all():
        raise NonFinite(f"{(~np.isfinite(score)).sum()} of {len(score)} rows of a part cannot be judged; remove them")
    true = None if labels is None else loaded(job.ref).labels.indices(labels, len(score), "labels")
    return grouped(score, predicted, true, classes)


def _labels_of(labels: Any, X: Any, parts: int) -> list[Any]:
    """True classes, for each part."""
    if labels is None:
        return [None] * parts
    if hasattr(labels, "to_delayed"):
        found = list(np.ravel(labels.to_delayed()))
        if len(found) != parts:
            raise ShapeMismatch(f"labels must have the {parts} chunks of X; got {len(found)}: labels.rechunk(...)")
        return found
    if not hasattr(X, "chunks"):
        raise WrongType("labels of a DataFrame or a bag are a Dask collection with its partitions")
    ends = list(itertools.accumulate(n for n in X.chunks[0] if n))
    if np.shape(labels)[:1] != (ends[-1],):
        raise ShapeMismatch(f"labels must hold the true class, for each of the {ends[-1]} rows; got {np.shape(labels)}")
    return np.split(np.asarray(labels), ends[:-1])
