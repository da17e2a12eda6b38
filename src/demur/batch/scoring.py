"""Many rows, on many machines: `score`."""

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demur.batch import cluster
from demur.batch.answering import OUTPUTS, OnError, as_names, check_outputs
from demur.batch.finding import find
from demur.batch.formats import Asked, Store
from demur.batch.formats.base import part_rows as usual_part_rows
from demur.batch.guards import Runtime, packed
from demur.batch.job import ERROR, Job
from demur.batch.lazy import lazily
from demur.batch.output import Output
from demur.batch.tables import Reading
from demur.batch.writing import written
from demur.checks import check_whole, is_number
from demur.errors import InvalidSetting, WrongType
from demur.rows.layout import Field
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
        outputs: names in `demur.batch.OUTPUTS`; None for all that the guard can say of a row in one number.
        out: a folder, to write Parquet files to. A job that was stopped goes on from the parts that are there.
        client: a `distributed.Client` or a scheduler's address; None for the current client or else, with `out`, a
            local cluster.
        ids: columns that name the rows and are kept. None: the index of a DataFrame; the number of the row in an array;
            of files, `file` and `row`.
        columns: those that a row is made of; None for all but `ids`. See `demur.batch.tables.rows_of`.
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
        RowsFailed: rows cannot be answered; it names them. Of a lazy result, when it is computed.
        UnfinishedBatch: workers died, again and again, of the same rows.
        InvalidSetting, WrongType, ShapeMismatch, EmptyInput, MissingExtra, FileNotFoundError: see `demur.errors`.
    """
    _check(scale, batch_size, part_rows, on_error, workers, storage_options)
    cluster.distributed_module()
    guarded = packed(guard, runtime, usual_folder())
    names = check_outputs(guarded.guard, outputs)
    chosen = None if columns is None else as_names(columns, "columns")
    reading = Reading(guarded.layout, chosen, scale, guarded.guard.channels_first)
    if scale is not None and not isinstance(guarded.layout, Field):
        raise InvalidSetting("scale is for rows that are one array")
    kept = () if ids is None else as_names(ids, "ids")
    taken = [name for name in kept if name in OUTPUTS or name == ERROR]
    if taken:
        raise InvalidSetting(f"ids: {taken[0]} is the name of an output; rename the column")
    job = Job(guarded.ref, names, reading, Store("file"), batch_size, on_error)
    if not is_collection(data):
        if not isinstance(data, str | os.PathLike | list | tuple):
            raise WrongType(
                f"data is a Dask array, bag or DataFrame, or paths of files; got {type(data).__name__}: "
                "detector.score(X) scores what is in memory"
            )
        asked = Asked(kept, part_rows or usual_part_rows(guarded.layout), chosen or ())
        found = find(data, asked, storage_options)
        job = dataclasses.replace(job, store=found.store)
    else:
        found = None
    if out is not None and not isinstance(out, str | os.PathLike):
        raise WrongType(f"out is the path of a folder; got {type(out).__name__}")
    if out is None:
        with contextlib.suppress(ValueError):
            client = client or cluster.distributed_module().default_client()
        if client is not None:
            with cluster.connected(client) as there:
                cluster.deliver(there, guarded)
        return lazily(job, guarded, data, found, kept)
    with cluster.connected(client, workers=workers, memory_limit=memory_limit) as there:
        cluster.deliver(there, guarded)
        return written(
            job,
            guarded,
            data,
            found,
            kept,
            Output.at(out, storage_options),
            there,
            overwrite=overwrite,
            verbose=verbose,
        )


def _check(scale: Any, batch_size: Any, part_rows: Any, on_error: Any, workers: Any, storage_options: Any) -> None:
    if scale is not None and not (is_number(scale) and scale != 0):
        raise InvalidSetting(f"scale is a finite number other than 0; got {scale!r}")
    for name, value in {"batch_size": batch_size, "part_rows": part_rows, "workers": workers}.items():
        if value is not None:
            check_whole(name, value, 1)
    if on_error not in ("raise", "skip"):
        raise InvalidSetting(f"on_error is 'raise' or 'skip'; got {on_error!r}")
    if storage_options is not None and not isinstance(storage_options, dict):
        raise InvalidSetting(f"storage_options is a dict of what the file system takes; got {storage_options!r}")


@functools.cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="demur-batch-")  # gone with the process


def usual_folder() -> Path:
    """Where guards lie that lazy collections of this process will need."""
    return Path(_kept().name)
