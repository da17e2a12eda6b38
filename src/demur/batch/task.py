"""What one task does: read rows, have the guard answer, and make a table of the answers."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from demur.batch.answer import DISTRIBUTIONS, ROWS_AT_ONCE, Answers, OnError, answers, empty_columns
from demur.batch.columns import Batch, Reading, arrow
from demur.batch.formats import Piece, Store
from demur.batch.formats.base import row_bytes
from demur.batch.guards import GuardRef, loaded, on_worker
from demur.guards.base import Guard

ERROR = "error"
"""The column that says why a row has no answer, with on_error="skip"."""
ACTIVATIONS = 32
"""What a pass takes for each byte of its rows as float32; convolutions take 10 to 30 times as much."""
BUDGET = 2**29
"""Bytes that a pass may take where no worker says how much memory it has."""


MEMORY = Store("file")
"""The store of pieces that are in no files."""


@dataclass(frozen=True)
class Job:
    """What every task has to know; a `batch_size` of None is what the worker's memory allows, at most 256 rows."""

    ref: GuardRef
    outputs: tuple[str, ...]
    reading: Reading
    batch_size: int | None
    ids: tuple[str, ...] = ()
    store: Store = MEMORY
    on_error: OnError = "raise"


def answered(job: Job, piece: Piece) -> Any:
    """Answer for the rows of a piece, as `demur.batch.answers`: a `pyarrow.Table` of ids and outputs."""
    guard = loaded(job.ref)
    size = job.batch_size or rows_a_pass(job)
    tables = [table_of(job, batch, guard) for batch in piece.batches(job.store, job.reading, size)]
    return arrow().concat_tables(tables).combine_chunks()


def rows_a_pass(job: Job) -> int:
    """How many rows go through the networks at once, so that a quarter of the worker's memory is enough."""
    worker = on_worker()
    limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    budget = BUDGET if not limit else limit // 4 // max(1, worker.state.nthreads)
    return int(max(1, min(ROWS_AT_ONCE, budget // (ACTIVATIONS * row_bytes(job.reading.layout)))))


def table_of(job: Job, batch: Batch, guard: Guard) -> Any:
    """The ids of a batch, and beside them the answers; the schema alone for a batch without rows."""
    pa = arrow()
    table, n = batch.ids, batch.ids.num_rows
    if n == 0:
        found = Answers(empty_columns(guard, job.outputs, 0), {})
    else:
        names, faults = Named(batch.ids), batch.faults
        found = answers(guard, batch.rows, job.outputs, batch_size=n, on_error=job.on_error, names=names, faults=faults)
    mask = None
    if job.on_error == "skip":
        mask = np.zeros(n, bool)
        mask[list(found.faults)] = True
    for name, values in found.columns.items():
        if name in DISTRIBUTIONS:
            missing = None if mask is None else pa.array(mask)
            column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1], mask=missing)
        else:
            column = pa.array(values, mask=mask)
        table = table.append_column(name, column)
    if mask is not None:
        table = table.append_column(ERROR, pa.array([found.faults.get(number) for number in range(n)], "string"))
    return table


@dataclass
class Named:
    """The names of rows, for messages: made when they are needed."""

    ids: Any

    def __getitem__(self, number: int) -> str:
        values = {name: self.ids[name][number].as_py() for name in self.ids.column_names}
        if len(values) == 1:
            return str(*values.values())
        return ", ".join(f"{name} {value}" for name, value in values.items())
