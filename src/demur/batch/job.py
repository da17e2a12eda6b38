"""Many rows, on many machines: `score`, with the answers in a folder or as a lazy Dask DataFrame."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demur.batch.answer import OUTPUTS, OnError, as_names, check_on_error, check_outputs
from demur.batch.cluster import connected, current_client, deliver, distributed_module
from demur.batch.collections import FrameRows, check_ids, is_frame, pieces_of
from demur.batch.columns import Batch, Reading, arrow
from demur.batch.formats import Asked, Found, find
from demur.batch.formats.base import ROW
from demur.batch.formats.base import part_rows as usual_part_rows
from demur.batch.guards import Runtime, packed
from demur.batch.output import Output, written
from demur.batch.task import ERROR, Job, answered, table_of
from demur.checks import check_whole, is_number
from demur.errors import InvalidSetting, WrongType
from demur.guards.base import Guard
from demur.private import columns_of
from demur.rows.layout import Field
from demur.rows.rows import Rows
from demur.rows.sources import is_collection


def score(
    guard: Any,
    data: Any,
    outputs: str | Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    client: Any = None,
    ids: str | Sequence[str] | None = None,
    columns: str | Sequence[str] | None = None,
    scale: float | None = None,
    batch_size: int | None = None,
    part_rows: int | None = None,
    on_error: OnError = "raise",
    runtime: Runtime = "auto",
    overwrite: bool = False,
    storage_options: dict[str, Any] | None = None,
    workers: int | None = None,
    memory_limit: Any = "auto",
    verbose: bool = False,
) -> Any:
    """Have a guard answer for many rows, on a Dask cluster or on this machine's cores: one row out for one row in.

    Examples:
        >>> np.save("rows.npy", X_new)
        >>> lazy = score("guard.onnx", "rows.npy", ["instance_score", "corrected"])
        >>> list(lazy.columns), len(lazy.compute())
        (['file', 'row', 'instance_score', 'corrected'], 40)

    Args:
        guard: a detector, a guard of `demur.runtime.load`, or the path of an exported one.
        data: a Dask array, bag or DataFrame; or a path, glob or folder, or a list of them, of Parquet, `.npy`, Zarr or
            image files, local or of any file system that `fsspec` knows.
        outputs: names in `demur.batch.OUTPUTS`; None for all that the guard can say of a row in one value.
        out: a folder, to write Parquet files to. A job that was stopped goes on from the parts that are there.
        client: a `distributed.Client` or a scheduler's address; None for the current client or else, with `out`, a
            local cluster.
        ids: columns that name the rows and are kept. None: the index of a DataFrame; the number of the row in an array;
            of files, `file` and `row`.
        columns: columns that a row is made of; None for all but `ids`. See `demur.batch.columns.rows_of`.
        scale: multiply rows by it, as float32.
        batch_size: rows a pass; None for what a quarter of the worker's memory allows, at most 256.
        part_rows: rows a task, about, of files; None for 50,000, or 128 MB of them.
        on_error: "raise", or "skip" for a row without answers, and the reason in a column `error`.
        runtime: what computes: "onnx", the exported file; "live", the detector; "auto", the detector on workers with a
            GPU and the exported file, where there can be one, on others.
        overwrite: whether what `out` holds of another job is thrown away.
        storage_options: what the file systems of `data` and `out` need to know.
        workers: of a local cluster; None for one a core.
        memory_limit: of each worker of a local cluster; see `demur.batch.cluster.connected`.
        verbose: show Dask's progress bar.

    Returns:
        A lazy `dask.dataframe.DataFrame` of ids and outputs; with `out`, what was written.

    Raises:
        RowsFailed: rows cannot be answered; the error names them. A lazy result raises it when it is computed.
        UnfinishedBatch: workers died, again and again, of the same rows.
        InvalidSetting, WrongType, ShapeMismatch, EmptyInput, MissingExtra, FileNotFoundError: see `demur.errors`.
    """
    _check(scale, batch_size, part_rows, on_error, workers, storage_options)
    distributed_module()  # raises an error if Dask is not installed
    guarded = packed(guard, runtime)
    layout = guarded.guard.layout
    names = check_outputs(guarded.guard, outputs)
    chosen = None if columns is None else as_names(columns, "columns")
    if scale is not None and not isinstance(layout, Field):
        raise InvalidSetting("scale is for rows that are one array")
    kept = () if ids is None else as_names(ids, "ids")
    taken = [name for name in kept if name in OUTPUTS or name == ERROR]
    if taken:
        raise InvalidSetting(f"ids: {taken[0]} is the name of an output; rename the column")
    reading = Reading(layout, chosen, scale, guarded.guard.channels_first)
    if out is not None and not isinstance(out, str | os.PathLike):
        raise WrongType(f"out is the path of a folder; got {type(out).__name__}")
    job, found, first = Job(guarded.ref, names, reading, batch_size, kept, on_error=on_error), None, None
    if not is_collection(data):
        if not isinstance(data, str | os.PathLike | list | tuple):
            raise WrongType(
                f"data is a Dask array, bag or DataFrame, or paths of files; got {type(data).__name__}: "
                "detector.score(X) scores what is in memory"
            )
        found = find(data, Asked(kept, part_rows or usual_part_rows(layout), chosen or ()), storage_options)
        job = dataclasses.replace(job, store=found.store)
        first = first_look(job, found)
    if out is None:
        client = client or current_client()
        if client is not None:
            with connected(client) as there:
                deliver(there, guarded)
        return lazily(job, guarded.guard, data, found, first)
    with connected(client, workers=workers, memory_limit=memory_limit) as there:
        deliver(there, guarded)
        output = Output.at(out, storage_options)
        return written(job, data, found, output, there, overwrite=overwrite, verbose=verbose)


def _check(scale: Any, batch_size: Any, part_rows: Any, on_error: Any, workers: Any, storage_options: Any) -> None:
    if scale is not None and not (is_number(scale) and scale != 0):
        raise InvalidSetting(f"scale is a finite number other than 0; got {scale!r}")
    for name, value in {"batch_size": batch_size, "part_rows": part_rows, "workers": workers}.items():
        if value is not None:
            check_whole(name, value, 1)
    check_on_error(on_error)
    if storage_options is not None and not isinstance(storage_options, dict):
        raise InvalidSetting(f"storage_options is a dict of what the file system takes; got {storage_options!r}")


# A lazy DataFrame -----------------------------------------------------------------------------------------------------


def lazily(job: Job, guard: Guard, data: Any, found: Found | None, first: Any) -> Any:
    """The answers as a Dask DataFrame: nothing is computed before the caller asks; `first` has the first row's ids."""
    import dask
    import dask.dataframe as dd

    if found is None and is_frame(data):
        check_ids(data, job.ids)
        return data.map_partitions(functools.partial(_beside, job), meta=_beside(job, columns_of(data)))
    pieces = pieces_of(data, job) if found is None else found.pieces
    first = _first_id(data) if found is None else first
    meta = _framed(job, table_of(job, Batch(first.schema.empty_table(), None, {}), guard))
    if found is not None:
        return dd.from_map(functools.partial(_frame, job), pieces, meta=meta, label="demur-score")
    tasks = [dask.delayed(_frame)(job, piece) for piece in pieces]
    return dd.from_delayed(tasks, meta=meta, verify_meta=False, prefix="demur-score")


def first_look(job: Job, found: Found) -> Any:
    """The ids of the first row, which is read so that what is wrong with all rows is told at once."""
    batch = next(found.pieces[0].batches(job.store, job.reading, 1))
    if not batch.faults:
        Rows.of(batch.rows, job.reading.layout, "the data", finite=False)
    return batch.ids


def _first_id(data: Any) -> Any:
    """The id of the first row of an array or a bag: a number, or what the first pair of a bag has."""
    first = data.take(1, warn=False) if hasattr(data, "take") and not hasattr(data, "chunks") else ()
    return arrow().table({ROW: [first[0][0] if first and isinstance(first[0], tuple) else 0]})


def _frame(job: Job, piece: Any) -> Any:
    """The answers for a piece, as pandas has them."""
    return _framed(job, answered(job, piece))


def _beside(job: Job, frame: Any) -> Any:
    """The answers for a partition, with the index of the partition."""
    answers = _frame(job, FrameRows(frame, job.ids))
    if not job.ids:
        answers = answers.drop(columns=[answers.columns[0]])
    answers.index = frame.index
    return answers


def _framed(job: Job, table: Any) -> Any:
    """A table as pandas has it: with types that can lack a value, where rows may be skipped."""
    import pandas as pd

    pa = arrow()
    can_lack = {
        pa.bool_(): pd.BooleanDtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.float32(): pd.Float32Dtype(),
        pa.float64(): pd.Float64Dtype(),
    }

    def as_pandas(kind: Any) -> Any:
        if pa.types.is_fixed_size_list(kind):  # Dask would make strings of objects
            return pd.ArrowDtype(kind)
        return can_lack.get(kind) if job.on_error == "skip" else None

    plain = [name for name in table.column_names if name not in OUTPUTS]
    frame = table.drop_columns(plain).to_pandas(types_mapper=as_pandas)
    for number, name in enumerate(plain):
        values = table[name]
        if pa.types.is_dictionary(values.type):  # pandas' categories would differ from part to part
            values = values.cast(values.type.value_type)
        frame.insert(len(frame.columns) if name == ERROR else number, name, values.to_pandas())
    return frame
