"""The scores of a Dask collection, in the order of its rows: what drift tests and monitors look at."""

from typing import Any

import numpy as np

from demur.batch import cluster
from demur.batch.collections import parts_of
from demur.batch.guards import Packed, loaded, packed
from demur.batch.job import Job, answered
from demur.batch.scoring import usual_folder
from demur.batch.tables import Reading
from demur.errors import RowsFailed
from demur.guards.base import Guard
from demur.guards.results import Floats, Labels
from demur.onnx.runtime import ExportedGuard


def gathered(guard: Guard, X: Any, *, batch_size: int | None = None) -> tuple[Floats, Labels]:
    """Score a collection where its parts are; the scores, 4 bytes a row, come back.

    Args:
        guard: a detector, live or exported.
        X: a Dask array, or a tuple or dict of them; a bag or DataFrame.
        batch_size: rows a pass; None for what memory allows.

    Returns:
        Scores `(n,)`, in nats, and the indices of the classes that the classifier predicts, `(n,)`.

    Raises:
        RowsFailed: rows cannot be judged, and the guard does not flag such.
    """
    guarded = sent(guard)  # says so if Dask is not there
    import dask

    reading = Reading(guarded.layout, channels_first=guard.channels_first)
    job = Job.in_memory(guarded.ref, ("instance_score", "no_defense"), reading, batch_size)
    tasks = [dask.delayed(scores_of_part)(job, part) for part in parts_of(X, guarded.layout, ())]
    score, predicted = zip(*dask.compute(*tasks), strict=True)
    return np.concatenate(score), np.concatenate(predicted)


def sent(guard: Guard) -> Packed:
    """Pack a guard, as it is, and send it to the workers of the current client, if there is one."""
    distributed = cluster.distributed_module()
    guarded = packed(guard, "auto" if isinstance(guard, ExportedGuard) else "live", usual_folder())
    try:
        client = distributed.default_client()
    except ValueError:
        return guarded  # then Dask's own scheduler works, in this process
    cluster.deliver(client, guarded)
    return guarded


def scores_of_part(job: Job, part: Any) -> tuple[Floats, Labels]:
    """The scores and the indices of the predicted classes of a part, all rows of which must be answered."""
    try:
        table = answered(job, part)
    except RowsFailed as error:
        raise RowsFailed(error.faults, "Remove such rows, or give the classifier what they lack") from None
    predicted = loaded(job.ref).labels.indices(table["no_defense"].to_numpy(), table.num_rows)
    return table["instance_score"].to_numpy(), predicted
