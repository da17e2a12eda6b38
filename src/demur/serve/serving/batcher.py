"""Adaptive batching without a timer: requests that wait at the same time are run together."""

import asyncio
import contextlib
import functools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from demur.guards.tensors import Arrays, TensorGuard
from demur.serve.serving.protocol import ProtocolError

logger = logging.getLogger("demur.serve.batching")

RETRY_SECONDS = 1


@dataclass(slots=True)
class Job:
    """Rows that wait for a batch."""

    guard: TensorGuard
    feed: Arrays
    rows: int
    extra: tuple[str, ...]
    threshold: float | None
    future: asyncio.Future[Arrays]
    kind: Any = field(init=False)
    """Jobs of one kind can be run together: with the same guard and threshold, on rows of the same shape."""

    def __post_init__(self) -> None:
        self.kind = (id(self.guard), self.threshold, *(array.shape[1:] for array in self.feed.values()))


class Batcher:
    """Runs the requests for one model; requests that wait at the same time are run together.

    A request that finds nothing running is run at once. While a batch runs, requests gather, and form the next batch.
    There is no timer: no request waits for others to come.

    All methods are called in one event loop; guards run in one thread of the batcher.

    Args:
        name: of the model.
        max_batch: most rows of one pass.
        max_queue: most rows that may wait; `waiting` rows do.
        observe: called in the thread, after the answers are on their way, with the guard, a batch, the outputs, and
            the threshold of the requests, if they have one.
        ran: called in the thread with the rows and the seconds of each pass.
        waits: called in the event loop with the number of rows that wait, whenever it changes.
    """

    def __init__(
        self,
        name: str,
        *,
        max_batch: int,
        max_queue: int,
        observe: Callable[[Any, Arrays, Arrays, float | None], object],
        ran: Callable[[int, float], object],
        waits: Callable[[int], object],
    ) -> None:
        self.max_batch, self.max_queue = max_batch, max_queue
        self.waiting = 0
        self._observe, self._ran, self._waits = observe, ran, waits
        self._jobs: deque[Job] = deque()
        self._is_running = False
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        # A daemon: a guard that never returns must not keep the process from its end.
        threading.Thread(target=self._work_on, name=f"demur-{name}", daemon=True).start()

    async def run(
        self,
        guard: TensorGuard,
        feed: Arrays,
        rows: int,
        *,
        extra: tuple[str, ...] = (),
        threshold: float | None = None,
    ) -> Arrays:
        """Run rows, `(rows, ...)` by name, with others that wait or alone; not if cancelled before the batch starts.

        The answer has the guard's default outputs and those of `extra`, and may have others. Raises ProtocolError if
        the queue is full, or closed.
        """
        if self._is_closed:
            raise ProtocolError(503, "the server is shutting down", retry_after=RETRY_SECONDS)
        if self.waiting + rows > self.max_queue:
            raise ProtocolError(
                503, f"the queue is full: {self.waiting} rows wait; try again later", retry_after=RETRY_SECONDS
            )
        loop = asyncio.get_running_loop()
        job = Job(guard, feed, rows, extra, threshold, loop.create_future())
        self._jobs.append(job)
        self._count(rows)
        if not self._is_running:
            # At the end of this turn of the loop: requests that the network brought together are run together.
            self._is_running = True
            self._idle.clear()
            loop.call_soon(self._next)
        return await job.future

    async def close(self) -> None:
        """Take no more rows, finish those that were taken, and have all of them observed."""
        self._is_closed = True
        await self._idle.wait()
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks.put(lambda: loop.call_soon_threadsafe(ended.set))
        self._tasks.put(None)
        await ended.wait()

    def _count(self, rows: int) -> None:
        self.waiting += rows
        self._waits(self.waiting)

    def _next(self) -> None:
        """Start the next batch, if anything waits."""
        batch = self._taken()
        if not batch:
            self._is_running = False
            self._idle.set()
            return
        self._tasks.put(functools.partial(self._work, batch, asyncio.get_running_loop()))

    def _taken(self) -> list[Job]:
        """Take the next batch from the queue: the oldest job and others of its kind. Cancelled jobs are dropped."""
        batch: list[Job] = []
        others: deque[Job] = deque()
        rows = 0
        while self._jobs:
            job = self._jobs.popleft()
            if job.future.done():
                self._count(-job.rows)
            elif batch and job.kind != batch[0].kind:
                others.append(job)
            elif batch and rows + job.rows > self.max_batch:
                others.append(job)
                break
            else:
                batch.append(job)
                rows += job.rows
        others.extend(self._jobs)
        self._jobs = others
        self._count(-rows)
        return batch

    # In the thread ------------------------------------------------------------------------------------------------

    def _work_on(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _work(self, batch: list[Job], loop: asyncio.AbstractEventLoop) -> None:
        seen: list[tuple[Job, Arrays, Arrays]] = []
        answers: list[Arrays | BaseException]
        try:
            feed = _joined([job.feed for job in batch])
            outputs = self._passes(batch, feed)
            answers = [*_parts(outputs, [job.rows for job in batch])]
            seen = [(batch[0], feed, outputs)]
        except BaseException as error:  # every request must get an answer, whatever the error is
            # One bad request shall not spoil the others.
            answers = [error] if len(batch) == 1 else [self._alone(job) for job in batch]
            found = zip(batch, answers, strict=True)
            seen = [(job, job.feed, answer) for job, answer in found if isinstance(answer, dict)]
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(self._finish, batch, answers)
        try:
            for job, fed, came in seen:
                self._observe(job.guard, fed, came, job.threshold)
        except Exception:
            logger.exception("looking at a batch failed; the answers were sent")

    def _alone(self, job: Job) -> Arrays | BaseException:
        try:
            return self._passes([job], job.feed)
        except BaseException as error:
            return error

    def _passes(self, batch: list[Job], feed: Arrays) -> Arrays:
        """Run a batch, in several passes if it is too large for one."""
        guard = batch[0].guard
        # Outputs that are not among the default ones cost time: they are computed only where a request asks for them.
        wanted = (*guard.default_outputs, *{name: None for job in batch for name in job.extra})
        rows = sum(job.rows for job in batch)
        found = []
        for start in range(0, rows, self.max_batch):
            begun = time.perf_counter()
            if rows <= self.max_batch:
                part = feed
            else:
                if batch[0].future.cancelled():
                    raise asyncio.CancelledError
                part = {name: array[start : start + self.max_batch] for name, array in feed.items()}
            found.append(guard.run(part, wanted, batch[0].threshold))
            self._ran(min(self.max_batch, rows - start), time.perf_counter() - begun)
        return _joined(found)

    # In the event loop --------------------------------------------------------------------------------------------

    def _finish(self, batch: list[Job], answers: list[Arrays | BaseException]) -> None:
        for job, answer in zip(batch, answers, strict=True):
            if job.future.done():
                continue
            if isinstance(answer, dict):
                job.future.set_result(answer)
            elif isinstance(answer, asyncio.CancelledError):
                job.future.cancel()
            else:
                job.future.set_exception(answer)
        self._next()


def _joined(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _parts(arrays: Arrays, sizes: list[int]) -> Iterable[Arrays]:
    """The rows of each request."""
    start = 0
    for size in sizes:
        yield {name: array[start : start + size] for name, array in arrays.items()}
        start += size
