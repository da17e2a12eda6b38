"""Dask's collections, arrays, DataFrames and bags: as pieces of work, their scores, and a calibration on them."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.batch.cluster import current_client, deliver, distributed_module
from demur.batch.columns import Batch, Faults, Reading, arrow, check_columns, rows_of, stacked
from demur.batch.formats import Piece, Store
from demur.batch.formats.base import ROW
from demur.batch.guards import loaded, packed
from demur.batch.task import Job, answered
from demur.calibration.thresholds import Calibration
from demur.errors import EmptyInput, InvalidSetting, NonFinite, RowsFailed, ShapeMismatch, WrongType
from demur.guards.base import Guard
from demur.guards.decision import Groups, calibration_of, grouped
from demur.guards.results import Floats, Labels
from demur.onnx.runtime import ExportedGuard
from demur.rows.arrays import is_table
from demur.rows.layout import Field, Layout, describe_layout, fits, flat
from demur.rows.rows import SOME, Rows
from demur.rows.texts import Text, as_texts

INDEX = "index"
"""The name of a DataFrame's index among the ids, where the index has none."""
TOGETHER = 16
"""Sketches that one task merges."""


@dataclass(frozen=True)
class ArrayRows(Piece):
    """Rows of a block of arrays, named by their numbers, the first of which is `start`."""

    rows: Rows
    start: int

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002 - there are no files
        """Cut the block."""
        start = self.start
        for rows in self.rows.batches(size):
            stop = start + len(rows)
            yield Batch(arrow().table({ROW: np.arange(start, stop)}), reading.scaled(rows.raw), {})
            start = stop


def _piece(arrays: Any, layout: Layout, start: int) -> ArrayRows:
    """A block whose arrays have been computed."""
    return ArrayRows(Rows(arrays, layout), start)


@dataclass(frozen=True)
class FrameRows(Piece):
    """Rows of a partition of a DataFrame, named by the columns `ids`, or by the index where there are none."""

    frame: Any
    ids: tuple[str, ...]

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002
        """Cut the partition."""
        if len(self.frame) == 0:  # an empty partition still has a schema
            yield Batch(self._names(self.frame), None, {})
        for frame in (self.frame.iloc[i : i + size] for i in range(0, len(self.frame), size)):
            table = arrow().Table.from_pandas(frame, preserve_index=False)
            rows, faults = rows_of(table, reading, self.ids)
            yield Batch(self._names(frame), rows, faults)

    def _names(self, frame: Any) -> Any:
        pa = arrow()
        if self.ids:
            return pa.Table.from_pandas(frame[list(self.ids)], preserve_index=False).replace_schema_metadata(None)
        return pa.table({str(frame.index.name or INDEX): pa.Array.from_pandas(frame.index)})


@dataclass(frozen=True)
class ListRows(Piece):
    """Rows of a partition of a bag: pairs of an id and a row, or rows that are numbered, beginning with `start`."""

    rows: list[Any]
    start: int

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:  # noqa: ARG002
        """Stack rows."""
        layout = reading.layout
        if not self.rows:  # an empty partition still has a schema
            yield Batch(arrow().table({ROW: np.zeros(0, "int64")}), None, {})
        if not isinstance(layout, Field | Text):
            raise WrongType(f"the rows of a bag are one array each; the classifier takes {describe_layout(layout)}")
        for start in range(0, len(self.rows), size):
            numbered = enumerate(self.rows[start : start + size], start=self.start + start)
            pairs = [entry if isinstance(entry, tuple) else (number, entry) for number, entry in numbered]
            ids = arrow().table({ROW: [pair[0] for pair in pairs]})
            if isinstance(layout, Text):
                yield Batch(ids, as_texts([pair[1] for pair in pairs]), {})
                continue
            faults = Faults()
            arrays = (_checked(np.asarray(pair[1]), layout) for pair in pairs)
            yield Batch(ids, reading.scaled(stacked(arrays, layout, faults)), faults)


def _checked(array: npt.NDArray[Any], field: Field) -> npt.NDArray[Any] | str:
    """An array, or why it is no row of the field."""
    if array.dtype.kind in "buif" and fits(array.shape, field.shape):
        return array
    return f"it is of shape {array.shape} and type {array.dtype}; a row has {field.shape}"


def pieces_of(data: Any, job: Job) -> list[Any]:
    """The pieces of a collection, each delayed.

    Raises:
        ShapeMismatch: the rows do not match the layout.
        InvalidSetting: the rows cannot be numbered, or ids are asked for of a collection without columns.
        WrongType: `data` is another collection.
    """
    import dask

    if hasattr(data, "to_delayed") and is_frame(data):
        check_ids(data, job.ids)
        return [dask.delayed(FrameRows)(part, job.ids) for part in data.to_delayed()]
    if job.ids:
        raise InvalidSetting("ids: arrays and bags have no columns; pass pairs of an id and a row in a bag")
    if all(hasattr(part, "chunks") for part in flat(data)):
        return _blocks(data, job.reading.layout)
    if not hasattr(data, "to_delayed"):
        raise WrongType(f"data is a Dask array, bag or DataFrame, or files; got {type(data).__name__}")
    parts = data.to_delayed()
    counts = [dask.delayed(len)(part) for part in parts]
    starts = itertools.accumulate(counts, lambda a, b: a + b, initial=dask.delayed(0))
    return [dask.delayed(ListRows)(part, start) for part, start in zip(parts, starts, strict=False)]


def check_ids(frame: Any, ids: tuple[str, ...]) -> None:
    """Raise InvalidSetting unless a DataFrame has the columns that name its rows."""
    check_columns(ids, list(frame.columns), "ids: there is no column {}; the data have {}", InvalidSetting)


def is_frame(data: Any) -> bool:
    """Whether a collection is a DataFrame."""
    return hasattr(data, "columns") and hasattr(data, "dtypes")


def _blocks(data: Any, layout: Layout) -> list[Any]:
    """The blocks of arrays, all cut as the first array is."""
    import dask

    if not isinstance(data, dict | tuple | list) and not isinstance(layout, Field):
        raise WrongType(f"the classifier takes {describe_layout(layout)}; got one array")
    if type(data) is not type(layout) and isinstance(data, dict | tuple) and not is_table(data):
        raise WrongType(f"the classifier takes {describe_layout(layout)}; got a {type(data).__name__} of arrays")
    given = [data[name] for name in layout] if isinstance(layout, dict) else flat(data)
    arrays = [array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) if array.ndim > 1 else array for array in given]
    for array, field in zip(arrays, flat(layout), strict=True):
        if array.ndim == 0 or not fits(array.shape[1:], field.shape):
            raise ShapeMismatch(f"rows must have shape {describe_layout(field)}; got {array.shape}")
        if np.isnan(array.shape[0]):
            raise InvalidSetting("the lengths of the chunks are not known: call X.compute_chunk_sizes() first")
    arrays = [array.rechunk({0: arrays[0].chunks[0]}) for array in arrays]
    lengths = arrays[0].chunks[0]
    if not sum(lengths):
        raise EmptyInput("the array has no rows; pass at least one")
    starts = itertools.accumulate(lengths, initial=0)
    blocks = zip(*(array.to_delayed().ravel() for array in arrays), strict=True)

    def structure(parts: Sequence[Any]) -> Any:
        if isinstance(layout, dict):
            return dict(zip(layout, parts, strict=True))
        return tuple(parts) if isinstance(layout, tuple) else parts[0]

    return [
        dask.delayed(_piece)(structure(parts), layout, start)
        for parts, start, n in zip(blocks, starts, lengths, strict=False)
        if n
    ]


# Scores of collections ------------------------------------------------------------------------------------------------


def gathered(guard: Guard, X: Any, *, batch_size: int | None = None) -> tuple[Floats, Labels]:
    """Score a collection where its parts are: scores `(n,)`, in nats, and the indices `(n,)` of the predicted classes.

    Raises:
        RowsFailed: rows cannot be judged, and the guard does not flag such rows.
    """
    job = _job_in_memory(guard, batch_size)
    import dask

    tasks = [dask.delayed(scores_of)(job, piece) for piece in pieces_of(X, job)]
    score, predicted = zip(*dask.compute(*tasks), strict=True)
    return np.concatenate(score), np.concatenate(predicted)


def _job_in_memory(guard: Guard, batch_size: int | None) -> Job:
    """Pack a guard, send it to the workers of the current client, if there is one, and make the job of scoring."""
    distributed_module()  # raises an error if Dask is not installed
    guarded = packed(guard, "auto" if isinstance(guard, ExportedGuard) else "live")
    client = current_client()
    if client is not None:  # otherwise Dask's own scheduler works, in this process
        deliver(client, guarded)
    reading = Reading(guard.layout, channels_first=guard.channels_first)
    return Job(guarded.ref, ("instance_score", "no_defense"), reading, batch_size)


def scores_of(job: Job, piece: Piece) -> tuple[Floats, Labels]:
    """The scores and the indices of the predicted classes of a piece, all rows of which must be answered."""
    try:
        table = answered(job, piece)
    except RowsFailed as error:
        raise RowsFailed(error.faults, "Remove such rows, or give the classifier what they lack") from None
    predicted = loaded(job.ref).labels.indices(table["no_defense"].to_numpy(), table.num_rows)
    return table["instance_score"].to_numpy(), predicted


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

    The arguments are explained at `Detector.infer_threshold`. The scores of the parts become sketches, which are
    merged. Up to a million scores in a group give the calibration that the same rows in memory give. Of more scores,
    the threshold is at a rank that is higher by at most `ScoreSketch.error`, and never lower: a promised rate holds.

    Returns:
        The calibration, and some of the rows; None in place of the rows if the first part has none.

    Raises:
        NonFinite, RowsFailed: rows cannot be judged.
        TooFewInstances, InvalidSetting, ShapeMismatch, WrongType, MissingExtra: see `demur.errors`.
    """
    job = _job_in_memory(detector, batch_size)
    import dask

    classes = detector.n_classes if by_class else None
    pieces = pieces_of(X, job)
    sketches = [
        dask.delayed(sketched)(job, piece, true, classes)
        for piece, true in zip(pieces, _labels_of(labels, X, len(pieces)), strict=True)
    ]
    while len(sketches) > 1:
        starts = range(0, len(sketches), TOGETHER)
        sketches = [dask.delayed(Groups.merged)(sketches[start : start + TOGETHER]) for start in starts]
    found, first = dask.compute(sketches[0], pieces[0])
    name_of = detector.labels.name_of
    calibration = calibration_of(found, fpr=fpr, threshold_perc=threshold_perc, margin=margin, name_of=name_of)
    return calibration, next(iter(first.batches(job.store, job.reading, SOME))).rows


def sketched(job: Job, piece: Piece, labels: Any, classes: int | None) -> Groups:
    """The scores of a piece as sketches."""
    score, predicted = scores_of(job, piece)
    if not np.isfinite(score).all():
        raise NonFinite(f"{(~np.isfinite(score)).sum()} of {len(score)} rows of a part cannot be judged; remove them")
    true = None if labels is None else loaded(job.ref).labels.indices(labels, len(score), "labels")
    return grouped(score, predicted, true, classes)


def _labels_of(labels: Any, X: Any, parts: int) -> list[Any]:
    """The true classes of each part."""
    if labels is None:
        return [None] * parts
    if hasattr(labels, "to_delayed"):
        found = list(np.ravel(labels.to_delayed()))
        if len(found) != parts:
            raise ShapeMismatch(f"labels must have the {parts} chunks of X; got {len(found)}: labels.rechunk(...)")
        return found
    if not hasattr(X, "chunks"):
        raise WrongType(
            "labels of a DataFrame or a bag must be a Dask collection with the same partitions; got "
            f"{type(labels).__name__}"
        )
    ends = list(itertools.accumulate(n for n in X.chunks[0] if n))
    if np.shape(labels)[:1] != (ends[-1],):
        raise ShapeMismatch(f"labels must hold the true class, for each of the {ends[-1]} rows; got {np.shape(labels)}")
    return np.split(np.asarray(labels), ends[:-1])
