"""Clients that leave at any moment, or send half a request and wait: others are answered all the time."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import servers
from .bodies import FORMS
from .clients import Clients, Connection

HELD = 200
LEAVING_AT_ONCE = 32
REQUEST_SECONDS = 5
CLOSED_WITHIN = 30
"""Seconds: the server waits 10 for the head of a request, and as long as it is told for its body."""


async def disconnects(folder: Path, quick: bool) -> dict[str, Any]:
    """Clients close or reset, before or after they have sent all, and 200 connections are half open."""
    times = 200 if quick else 2000
    X = np.load(folder / "images.npy")
    rng = random.Random(0)
    requests = [make(X[i : i + 1]) for i in range(8) for make in FORMS.values()]
    with servers.demur(folder / "guard.onnx", *servers.QUIET, "--request-seconds", REQUEST_SECONDS) as server:
        worker = server.worker()
        async with Clients(server.port, folder, 8) as clients:
            await asyncio.sleep(1)
            files = servers.descriptors(worker)
            begun = time.perf_counter()
            held = [asyncio.create_task(_hold(server.port, rng.choice(requests), rng)) for _ in range(HELD)]
            await asyncio.sleep(0.5)
            holding = servers.descriptors(worker) - files
            gate = asyncio.Semaphore(LEAVING_AT_ONCE)
            left = Counter(
                await asyncio.gather(*(_leave(server.port, rng.choice(requests), rng, gate) for _ in range(times)))
            )
            came = Counter(await asyncio.gather(*held))
            held_seconds = time.perf_counter() - begun
            await asyncio.sleep(1)
            remaining = servers.descriptors(worker) - files
        counts = clients.counts()
        alive = server.is_ready() and server.worker() == worker
        said = server.answered()
        tracebacks = server.said("Traceback")
    return {
        "left": dict(left),
        "held_open": HELD,
        "held_at_once": holding,
        "held_ended_by": dict(came),
        "all_held_closed_within_seconds": round(held_seconds, 1),
        "descriptors_left_over": remaining,
        "clients": clients.count,
        "outcomes": dict(counts),
        "longest_gap_seconds": round(clients.longest_gap(), 3),
        "p99_ms": round(clients.p99_ms(), 2),
        "server_counted": said,
        "tracebacks": tracebacks,
        "alive": alive,
        "passed": alive
        and counts.keys() == {"right"}
        and "still open" not in came
        and remaining <= 1
        and tracebacks == 0
        and not any(status >= "500" for status in said),
    }


async def _leave(port: int, request: bytes, rng: random.Random, gate: asyncio.Semaphore) -> str:
    """Connect, send some or all, and leave."""
    is_whole, by_reset = rng.random() < 0.5, rng.random() < 0.5
    part = request if is_whole else request[: rng.randrange(len(request))]
    pause = rng.choice((0.0, 0.0, rng.random() / 50))
    async with gate:
        try:
            connection = await Connection.open(port)
            await connection.send(part)
        except OSError:
            return "not connected"
        await asyncio.sleep(pause)
        if by_reset:
            connection.abort()
        else:
            connection.close()
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()
    return ("before reading" if is_whole else "half sent") + (", reset" if by_reset else ", closed")


async def _hold(port: int, request: bytes, rng: random.Random) -> str:
    """Send a part, and wait until the server ends it: by which status, or without one."""
    connection = await Connection.open(port)
    try:
        await connection.send(request[: rng.randrange(len(request))])
        async with asyncio.timeout(CLOSED_WITHIN):
            answer = await connection.read()
            await connection.reader.read()
        return str(answer.status)
    except TimeoutError:
        return "still open"
    except (OSError, asyncio.IncompleteReadError):
        return "closed"
    finally:
        connection.abort()
