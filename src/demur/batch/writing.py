"""Answers as a folder of Parquet files, a task a part."""

import functools
import sys
import uuid
from typing import Any, NamedTuple

from demur.batch.collections import parts_of
from demur.batch.finding import Found
from demur.batch.guards import Packed
from demur.batch.job import Job, answered
from demur.batch.lazy import first_look
from demur.batch.output import Output, Part, digest
from demur.errors import DemurError, UnfinishedBatch

RETRIES = 3
"""Of a part whose reading or writing fails, as networks and object stores do."""


class Written(NamedTuple):
    """What was written.

    Attributes:
        path: of the folder.
        rows: how many there are.
        flagged: how many of them are; 0 where that was not asked for.
        failed: how many have no answer, but a reason in the column `error`.
        parts: files.
        reused: of those, how many were there before.
        faults: of the first failed rows, why, by id.
    """

    path: str
    rows: int
    flagged: int
    failed: int
    parts: int
    reused: int
    faults: dict[str, str]


def written(
    job: Job,
    guard: Packed,
    data: Any,
    found: Found | None,
    ids: tuple[str, ...],
    output: Output,
    client: Any,
    *,
    overwrite: bool,
    verbose: bool,
) -> Written:
    """Write the answers, on the client's workers: those parts that are not there yet."""
    import dask

    if found is not None:
        first_look(job, found)
    parts = found.pieces if found is not None else parts_of(data, guard.layout, ids)
    manifest = {
        "guard": guard.ref.content,
        "outputs": list(job.outputs),
        "ids": list(ids),
        "columns": None if job.reading.columns is None else list(job.reading.columns),
        "scale": job.reading.scale,
        "on_error": job.on_error,
        "data": dask.base.tokenize(data) if found is None else digest([found.state, repr(found.pieces)]),
        "parts": len(parts),
    }
    done = output.begin(manifest, overwrite=overwrite)
    todo = [number for number in range(len(parts)) if number not in done]
    run = uuid.uuid4().hex  # a key that the scheduler remembers would not be computed again
    keys = [f"demur-score-{run}-{number}" for number in todo]
    if found is not None:
        write = functools.partial(write_part, job, output)
        futures = client.map(write, todo, [parts[number] for number in todo], key=keys, retries=RETRIES)
    else:
        tasks = [
            dask.delayed(write_part)(job, output, number, parts[number], dask_key_name=key)
            for number, key in zip(todo, keys, strict=True)
        ]
        futures = client.compute(tasks, retries=RETRIES)
    told = [*_gathered(client, futures, verbose), *(output.read(number) for number in sorted(done))]
    output.store.files.invalidate_cache()  # the workers have written what this process has listed before
    faults = {name: reason for part in told for name, reason in part.faults.items()}
    return Written(
        output.path,
        sum(part.rows for part in told),
        sum(part.flagged for part in told),
        sum(part.failed for part in told),
        len(parts),
        len(done),
        dict(list(faults.items())[:10]),
    )


def write_part(job: Job, output: Output, number: int, part: Any) -> "Part | DemurError":
    """Answer for a part and write it. What is wrong for good is returned, so that Dask does not try it again."""
    try:
        return output.write(number, answered(job, part))
    except DemurError as error:
        return error


def _gathered(client: Any, futures: list[Any], verbose: bool) -> list[Part]:
    """Wait for all parts; the first that is wrong ends the job."""
    from distributed import KilledWorker, as_completed, progress

    if verbose and futures:
        progress(futures, notebook=False, scheduler=client.scheduler.address)
        print(file=sys.stdout)
    told: list[Part] = []
    try:
        for future in as_completed(futures, loop=client.loop):
            part = future.result()
            if isinstance(part, DemurError):
                raise part
            told.append(part)
    except KilledWorker as error:
        raise UnfinishedBatch(
            "the same rows have ended one worker after the other, for lack of memory perhaps: pass a smaller "
            f"batch_size, or more memory a worker. What is done is kept, and the same call goes on ({error.task})"
        ) from error
    finally:
        client.cancel([future for future in futures if not future.done()])
    return told
