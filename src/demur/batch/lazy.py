"""Answers as a lazy Dask DataFrame: nothing is computed before the caller asks."""

import functools
from typing import Any

from demur.batch.answering import OUTPUTS
from demur.batch.collections import FrameRows, check_ids, is_frame, parts_of
from demur.batch.finding import Found
from demur.batch.formats.base import ROW
from demur.batch.guards import Packed
from demur.batch.job import ERROR, Job, answered, empty_table
from demur.batch.tables import arrow
from demur.private import columns_of
from demur.rows.rows import Rows


def lazily(job: Job, guard: Packed, data: Any, found: Found | None, ids: tuple[str, ...]) -> Any:
    """The answers as a lazy Dask DataFrame."""
    import dask
    import dask.dataframe as dd

    if found is not None:
        meta = _framed(job, empty_table(job, first_look(job, found).schema, guard.guard))
        return dd.from_map(functools.partial(_frame, job), found.pieces, meta=meta, label="demur-score")
    if is_frame(data):
        check_ids(data, ids)
        meta = _beside(job, ids, columns_of(data))
        return data.map_partitions(functools.partial(_beside, job, ids), meta=meta)
    parts = parts_of(data, guard.layout, ids)
    first = _schema_of_ids(data)
    meta = _framed(job, empty_table(job, first, guard.guard))
    tasks = [dask.delayed(_frame)(job, part) for part in parts]
    return dd.from_delayed(tasks, meta=meta, verify_meta=False, prefix="demur-score")


def first_look(job: Job, found: Found) -> Any:
    """Read one row, so that what is wrong with all of them is told at once; returns its ids."""
    batch = next(found.pieces[0].batches(job.store, job.reading, 1))
    if not batch.faults:
        Rows.of(batch.rows, job.reading.layout, "the data", finite=False)
    return batch.ids


def _schema_of_ids(data: Any) -> Any:
    """The schema of the ids of arrays or a bag: numbers, or what the first pair of a bag has."""
    pa = arrow()
    first = data.take(1, warn=False) if hasattr(data, "take") and not hasattr(data, "chunks") else ()
    name = first[0][0] if first and isinstance(first[0], tuple) else 0
    return pa.table({ROW: [name]}).schema


def _frame(job: Job, part: Any) -> Any:
    """The answers of a part, as pandas has them."""
    return _framed(job, answered(job, part))


def _beside(job: Job, ids: tuple[str, ...], frame: Any) -> Any:
    """The answers of a partition, with its index."""
    answers = _framed(job, answered(job, FrameRows(frame, ids)))
    if not ids:
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
    plain = [name for name in table.column_names if name not in OUTPUTS]
    answers = table.drop_columns(plain)

    def as_pandas(kind: Any) -> Any:
        if pa.types.is_fixed_size_list(kind):  # Dask would make strings of objects
            return pd.ArrowDtype(kind)
        return can_lack.get(kind) if job.on_error == "skip" else None

    frame = answers.to_pandas(types_mapper=as_pandas)
    for number, name in enumerate(name for name in plain if name != ERROR):
        values = table[name]
        if pa.types.is_dictionary(values.type):  # pandas' categories would differ from part to part
            values = values.cast(values.type.value_type)
        frame.insert(number, name, values.to_pandas())
    if ERROR in plain:
        frame[ERROR] = table[ERROR].to_pandas()
    return frame
