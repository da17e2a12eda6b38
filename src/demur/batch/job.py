"""What one task does: read rows, have the guard answer, and make a table of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from demur.batch.answering import DISTRIBUTIONS, ROWS_AT_ONCE, Answers, OnError, answers
from demur.batch.formats import Store
from demur.batch.formats.base import row_bytes
from demur.batch.guards import GuardRef, loaded, on_worker
from demur.batch.tables import Batch, Reading, arrow

ERROR = "error"
"""The column that says why a row has no answer, with on_error="skip"."""
ACTIVATIONS = 32
"""What a pass takes for each byte of its rows as float32; convolutions take 10 to 30 times as much."""
BUDGET = 2**29
"""Bytes that a pass may take where no worker says how much memory it has."""


class Part(Protocol):
    """Rows that are answered in one task, in files or in memory."""

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Yield the rows, at most `size` at a time."""


@dataclass(frozen=True)
class Job:
    """What every task has to know.

    Attributes:
        ref: the guard.
        outputs: what is asked for.
        reading: how rows are made of what is read.
        store: where files are.
        batch_size: rows a pass; None for what the worker's memory allows, at most 256.
        on_error: "raise" or "skip".
    """

    ref: GuardRef
    outputs: tuple[str, ...]
    reading: Reading
    store: Store
    batch_size: int | None
    on_error: OnError

    @classmethod
    def in_memory(cls, ref: GuardRef, outputs: tuple[str, ...], reading: Reading, batch_size: int | None) -> "Job":
        """A job on rows that are in no files, all of which must be answered."""
        return cls(ref, outputs, reading, Store("file"), batch_size, "raise")


def answered(job: Job, part: Part) -> Any:
    """Answer for the rows of a part: a `pyarrow.Table` of their ids and what was asked for, a row a row.

    Raises:
        RowsFailed: rows cannot be answered, and the job's `on_error` is "raise".
        DemurError: see `demur.batch.answering.answers`.
    """
    guard = loaded(job.ref)
    size = job.batch_size or rows_a_pass(job)
    tables = [table_of(job, batch, guard) for batch in part.batches(job.store, job.reading, size)]
    return arrow().concat_tables(tables).combine_chunks()


def rows_a_pass(job: Job) -> int:
    """How many rows go through the networks at once, so that a quarter of the worker's memory is enough."""
    worker = on_worker()
    limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    budget = BUDGET if not limit else limit // 4 // max(1, worker.state.nthreads)
    return int(max(1, min(ROWS_AT_ONCE, budget // (ACTIVATIONS * row_bytes(job.reading.layout)))))


def table_of(job: Job, batch: Batch, guard: Any) -> Any:
    """The table of one batch."""
    n = batch.ids.num_rows
    if n == 0:
        return empty_table(job, batch.ids.schema, guard)
    found = answers(
        guard,
        batch.rows,
        job.outputs,
        batch_size=n,
        on_error=job.on_error,
        names=Named(batch.ids),
        faults=batch.faults,
    )
    return with_answers(job, batch.ids, found)


def with_answers(job: Job, ids: Any, found: Answers) -> Any:
    """The ids, and beside them what is said of the rows."""
    pa = arrow()
    table = ids
    mask = None
    if job.on_error == "skip":
        mask = np.zeros(ids.num_rows, bool)
        mask[list(found.faults)] = True
    for name, values in found.columns.items():
        if name in DISTRIBUTIONS:
            flat = pa.array(values.reshape(-1))
            missing = None if mask is None else pa.array(mask)
            column = pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=missing)
        else:
            column = pa.array(values, mask=mask)
        table = table.append_column(name, column)
    if mask is not None:
        reasons = [found.faults.get(number) for number in range(ids.num_rows)]
        table = table.append_column(ERROR, pa.array(reasons, "string"))
    return table


def empty_table(job: Job, ids: Any, guard: Any) -> Any:
    """The table of no rows: its schema.

    Args:
        job: the job.
        ids: the schema of the ids.
        guard: the guard.
    """
    from demur.batch.answering import type_of

    shapes = {name: (0, guard.n_classes) if name in DISTRIBUTIONS else (0,) for name in job.outputs}
    columns = {name: np.zeros(shape, type_of(guard, name)) for name, shape in shapes.items()}
    return with_answers(job, ids.empty_table(), Answers(columns, {}))


class Named:
    """The names of rows, for messages: made when they are needed."""

    def __init__(self, ids: Any) -> None:
        self.ids = ids

    def __getitem__(self, number: int) -> str:
        values = [(name, self.ids[name][number].as_py()) for name in self.ids.column_names]
        if len(values) == 1:
            return str(values[0][1])
        return ", ".join(f"{name} {value}" for name, value in values)
