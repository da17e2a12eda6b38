"""Sends requests at a constant rate, whether answers come or not; a latency counts from when a request was due.

A process of its own: `python -m serving.open_loop` reads its settings as JSON from standard input, and prints JSON. It
waits in `select`, whose clock is finer than the millisecond of an event loop's timers.
"""

import bisect
import contextlib
import gc
import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .answers import Answers
from .bodies import binary

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """What to send.

    Attributes:
        folder: of the guards and images.
        port: of the server.
        rate: requests a second.
        seconds: how long.
        warm_up: seconds before that of which nothing is kept.
        poisson: whether the gaps between requests are exponential, as those of many independent senders are, not equal.
        interval: seconds that figures over time are taken of.
        connections: at most so many are opened; a request that finds none free waits, and its latency counts that.
    """

    folder: str
    port: int
    rate: float
    seconds: float
    warm_up: float = 1.0
    poisson: bool = False
    interval: float = 30.0
    connections: int = 256


def open_loop(plan: Plan) -> dict[str, Any]:
    """Run a plan in a process of its own; see `Sender.figures`."""
    command = [sys.executable, "-m", "serving.open_loop"]
    done = subprocess.run(
        command, input=json.dumps(asdict(plan)), stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT / "benchmarks"
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Link:
    """A connection, and the request on it that waits for an answer."""

    __slots__ = ("answer", "due", "row", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.due, self.row = 0.0, 0

    def fileno(self) -> int:
        """What `select` waits for."""
        return self.socket.fileno()

    def whole(self) -> tuple[int, dict[str, str], bytes] | None:
        """Read what has come: status, headers and body of the answer, once it is whole."""
        part = self.socket.recv(65_536)
        if not part:
            raise ConnectionResetError
        self.answer += part
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return None
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return None if len(body) < int(headers["content-length"]) else (int(status.split()[1]), headers, body)


class Sender:
    """Sends by a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._answers = Answers.read(Path(plan.folder))
        X = np.load(Path(plan.folder) / "images.npy")
        self._requests = [binary(X[i : i + 1]) for i in range(len(X))]
        self._free: list[Link] = []
        self._busy: set[Link] = set()
        self._outcomes: Counter[str] = Counter()
        self._found: list[tuple[float, float]] = []
        """When each right answer was due, and how long it took, from the beginning."""
        self._late: list[float] = []

    def run(self) -> None:
        """Send everything, and wait for what is still to come."""
        plan = self.plan
        total = int(plan.rate * (plan.warm_up + plan.seconds))
        rng = np.random.default_rng(0)
        gaps = rng.exponential(1 / plan.rate, total) if plan.poisson else np.full(total, 1 / plan.rate)
        self._begun = begun = time.perf_counter() + 0.1
        dues = deque((begun + np.cumsum(gaps)).tolist())
        sent, end = 0, dues[-1] + 10
        while (dues or self._busy) and (now := time.perf_counter()) < end:
            while dues and dues[0] <= now and (link := self._link()) is not None:
                self._send(link, dues.popleft(), sent % len(self._requests))
                sent += 1
            wait = min(0.1, dues[0] - time.perf_counter()) if dues else 0.1
            if len(self._busy) >= self.plan.connections:
                wait = 0.1
            for link in select.select(self._busy, (), (), max(0.0, wait))[0]:
                self._read(link)
        self._outcomes["no answer"] += len(dues) + len(self._busy)

    def _link(self) -> Link | None:
        if self._free:
            return self._free.pop()
        if len(self._busy) >= self.plan.connections:
            return None
        try:
            return Link(self.plan.port)
        except OSError:
            self._outcomes["not connected"] += 1
            return None

    def _send(self, link: Link, due: float, row: int) -> None:
        link.due, link.row, link.answer = due, row, b""
        try:
            link.socket.sendall(self._requests[row])
        except OSError:
            self._outcomes["reset"] += 1
            link.socket.close()
            return
        self._busy.add(link)
        if due - self._begun > self.plan.warm_up:
            self._late.append(time.perf_counter() - due)

    def _read(self, link: Link) -> None:
        try:
            found = link.whole()
        except OSError:
            self._outcomes["reset"] += 1
            self._busy.remove(link)
            link.socket.close()
            return
        if found is None:
            return
        took = time.perf_counter() - link.due
        self._busy.remove(link)
        self._free.append(link)
        status, headers, body = found
        if status != 200:
            self._outcomes[str(status)] += 1
        elif self._answers.version_of(link.row, headers, body) is None:
            self._outcomes["wrong"] += 1
        else:
            self._outcomes["right"] += 1
            self._found.append((link.due - self._begun, took))

    def figures(self) -> dict[str, Any]:
        """What came of it.

        `outcomes` counts answers, the warm-up's too; `late_p99_ms` is how late requests were sent, for want of a
        processor for this process or, once there are `plan.connections`, of a free connection; `over_time` has the
        percentiles of each interval.
        """
        plan = self.plan
        found = np.array(sorted(self._found))
        found = found[found[:, 0] > plan.warm_up] - (plan.warm_up, 0)
        p50, p99 = percentiles(found[:, 1])
        over_time = []
        for i in range(round(plan.seconds / plan.interval)):
            bounds = [bisect.bisect(found[:, 0], plan.interval * edge) for edge in (i, i + 1)]
            part = found[slice(*bounds), 1]
            if len(part):
                over_time.append(dict(zip(("p50_ms", "p99_ms"), percentiles(part), strict=True)))
        return {
            "rate": plan.rate,
            "per_second": len(found) / plan.seconds,
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": 1000 * float(found[:, 1].max()),
            "p99_of_p50": p99 / p50,
            "outcomes": dict(self._outcomes),
            "connections": len(self._free) + len(self._busy),
            "late_p99_ms": 1000 * float(np.percentile(self._late, 99)),
            "tool_cores": time.process_time() / (plan.seconds + plan.warm_up),
            "over_time": over_time,
        }


def percentiles(seconds: Any) -> tuple[float, float]:
    """The 50th and the 99th, in milliseconds."""
    p50, p99 = (1000 * float(value) for value in np.percentile(seconds, (50, 99)))
    return p50, p99


def main() -> None:
    sender = Sender(Plan(**json.load(sys.stdin)))
    gc.freeze()
    gc.disable()
    with contextlib.suppress(KeyboardInterrupt):
        sender.run()
    print(json.dumps(sender.figures()))


if __name__ == "__main__":
    main()
