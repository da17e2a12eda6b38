"""Clients that know the right answers: each sends the next request when it has an answer, and notes what came."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .answers import Answers
from .bodies import FORMS

PATIENCE = 40.0
"""Seconds without an answer after which a client gives up: longer than any limit of the server's."""
PAUSE = 0.01
"""Seconds before the next try where nobody listens."""


class Answer(NamedTuple):
    """What a server answered; headers by name in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection to a server. Errors are those of asyncio: OSError, IncompleteReadError, LimitOverrunError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.made = time.perf_counter()

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """To a port of this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        """Send some bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> Answer:
        """The next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(status.split()[1]), headers, body)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        await self.send(request)
        return await self.read()

    def close(self) -> None:
        """Say that nothing more comes, and read no more."""
        self.writer.close()

    def abort(self) -> None:
        """Close at once, with a reset."""
        self.writer.transport.abort()


class Event(NamedTuple):
    """What came of one request.

    Attributes:
        what: "right", "wrong", "not connected", "lost" (it was sent, and the connection closed without an answer), "no
            answer" (within `PATIENCE`), or the status of an error, with "without Retry-After" if a 503 has none.
        sent: when, in seconds of the performance counter.
        ended: when this was known.
        made: when its connection was.
        version: of the guard that answered.
    """

    what: str
    sent: float
    ended: float
    made: float
    version: str | None = None


class Clients:
    """Several clients that ask the same server.

    Args:
        port: of the server.
        folder: of the guards and images.
        count: how many clients.
        forms: of the bodies, in turn.
        pause: seconds between an answer and the next request.
    """

    def __init__(
        self, port: int, folder: Path, count: int, forms: Sequence[str] = tuple(FORMS), pause: float = 0.0
    ) -> None:
        self.port, self.count, self._pause = port, count, pause
        self.answers = Answers.read(folder)
        X = np.load(folder / "images.npy")
        self._requests = [
            (i, FORMS[form](X[i : i + 1])) for i, form in zip(range(len(X)), itertools.cycle(forms), strict=False)
        ]
        self.events: list[Event] = []
        self._is_over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Clients":
        starts = np.linspace(0, len(self._requests), self.count, endpoint=False, dtype=int)
        self._tasks = [asyncio.create_task(self._ask_on(int(start))) for start in starts]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let each have its last answer."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    def counts(self) -> Counter[str]:
        """How often each came."""
        return Counter(event.what for event in self.events)

    def longest_gap(self) -> float:
        """The most seconds between two right answers, of whichever clients."""
        times = np.sort([event.ended for event in self.events if event.what == "right"])
        return float(np.diff(times).max()) if len(times) > 1 else float("inf")

    def p99_ms(self) -> float:
        """Of the right answers."""
        return 1000 * float(np.percentile([e.ended - e.sent for e in self.events if e.what == "right"], 99))

    async def _ask_on(self, start: int) -> None:
        connection: Connection | None = None
        for row, request in itertools.islice(itertools.cycle(self._requests), start, None):
            if self._is_over.is_set():
                break
            connection = await self._ask(connection, row, request)
            if self._pause:
                await asyncio.sleep(self._pause)
        if connection is not None:
            connection.close()

    async def _ask(self, connection: Connection | None, row: int, request: bytes) -> Connection | None:
        """Send one request; returns the connection if it can take another."""
        sent = time.perf_counter()
        made = sent if connection is None else connection.made

        def note(what: str, version: str | None = None) -> None:
            self.events.append(Event(what, sent, time.perf_counter(), made, version))

        try:
            if connection is None:
                connection = await Connection.open(self.port)
        except OSError:
            note("not connected")
            await asyncio.sleep(PAUSE)
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await connection.ask(request)
        except TimeoutError:
            note("no answer")
            connection.abort()
            return None
        except (OSError, asyncio.IncompleteReadError):
            note("lost")
            connection.abort()
            return None
        if answer.status == 200:
            version = self.answers.version_of(row, answer.headers, answer.body)
            note("right" if version else "wrong", version)
        else:
            has_hint = answer.status != 503 or "retry-after" in answer.headers
            note(f"{answer.status}" + ("" if has_hint else " without Retry-After"))
        if answer.headers.get("connection") == "close":
            connection.close()
            return None
        return connection
