"""What happens when things go wrong: each fault while clients ask that know the right answers."""

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import servers
from .bodies import binary
from .clients import Clients, Connection
from .disconnects import disconnects
from .load import Say
from .malformed import malformed

SETTLE = 1.0
"""Seconds of undisturbed load before a fault."""


def faults(folder: Path, quick: bool, say: Say) -> dict[str, Any]:
    """All faults, by name: what came of it, and `passed`: whether nothing came that must not."""
    found = {}
    for run in (killed, queue_full, malformed, disconnects, reloaded, stopped):
        begun = time.monotonic()
        result = asyncio.run(run(folder, quick))
        found[run.__name__] = result | {"seconds": round(time.monotonic() - begun, 1)}
        say(f"{run.__name__}: {'passed' if result['passed'] else 'FAILED'} {found[run.__name__]}")
    return found


async def killed(folder: Path, quick: bool) -> dict[str, Any]:
    """The process that answers is killed under load, several times; requests that it had are lost, no others."""
    times, lost, back = 2 if quick else 5, [], []
    with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
        async with Clients(server.port, folder, 32) as clients:
            for _ in range(times):
                await asyncio.sleep(SETTLE)
                worker, since = server.worker(), time.perf_counter()
                os.kill(worker, signal.SIGKILL)
                back.append(await _until_answered(clients, since))
                await asyncio.sleep(SETTLE)
                lost.append(sum(event.what == "lost" for event in clients.events if event.ended >= since))
        counts = clients.counts()
        alive = server.is_ready()
    return {
        "kills": times,
        "clients": clients.count,
        "outcomes": dict(counts),
        "lost": lost,
        "seconds_until_answered": [round(value, 2) for value in back],
        "alive": alive,
        "passed": alive and counts.keys() <= {"right", "lost"} and max(lost) <= clients.count,
    }


async def _until_answered(clients: Clients, since: float) -> float:
    """Seconds from a time until a request that was sent after it had its answer."""
    while time.perf_counter() - since < servers.PATIENCE:
        await asyncio.sleep(0.02)
        found = [event.ended for event in clients.events[-500:] if event.what == "right" and event.sent > since]
        if found:
            return min(found) - since
    return float("inf")


async def queue_full(folder: Path, quick: bool) -> dict[str, Any]:
    """More ask than may wait: they are told to come again, and the others answered."""
    options = ("--max-queue", 16, "--max-batch", 16)
    with servers.demur(folder / "guard.onnx", *servers.QUIET, *options) as server:
        async with Clients(server.port, folder, 128, ("binary",)) as clients:
            await asyncio.sleep(3 if quick else 15)
        counts, alive = clients.counts(), server.is_ready()
    return {
        "clients": clients.count,
        "options": " ".join(map(str, options)),
        "outcomes": dict(counts),
        "alive": alive,
        "passed": alive and counts.keys() == {"right", "503"},
    }


async def reloaded(folder: Path, quick: bool) -> dict[str, Any]:
    """The guard's file is replaced by another guard's, to and fro; each answer is right for one of them."""
    times = 4 if quick else 20
    home = folder / "reloaded"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    served = home / "guard.onnx"
    shutil.copy(folder / "guard.onnx", served)
    took = []
    with servers.demur(served, *servers.QUIET) as server:
        async with Clients(server.port, folder, 32) as clients:
            await asyncio.sleep(SETTLE)
            for i in range(times):
                name = ("other", "guard")[i % 2]
                version = clients.answers.versions[(1, 0)[i % 2]]
                shutil.copy(folder / f"{name}.onnx", home / "next")
                since = time.perf_counter()
                os.replace(home / "next", served)  # noqa: PTH105 - as `mv` does it
                took.append(await _until_version(clients, version, since))
        counts, alive = clients.counts(), server.is_ready()
    versions = [event.version for event in clients.events if event.version]
    return {
        "replacements": times,
        "clients": clients.count,
        "outcomes": dict(counts),
        "answers_by_version": dict(Counter(versions)),
        "slowest_reload_seconds": round(max(took), 2),
        "longest_gap_seconds": round(clients.longest_gap(), 3),
        "alive": alive,
        "passed": alive and counts.keys() == {"right"} and max(took) < servers.PATIENCE,
    }


async def _until_version(clients: Clients, version: str, since: float) -> float:
    """Seconds until a version answers."""
    while time.perf_counter() - since < servers.PATIENCE:
        await asyncio.sleep(0.05)
        found = [e.ended for e in clients.events[-500:] if e.version == version and e.sent > since]
        if found:
            return min(found) - since
    return float("inf")


async def stopped(folder: Path, quick: bool) -> dict[str, Any]:
    """The server is told to end under load, several times: what it has accepted is answered first.

    Lost is a request on a connection that was open when the server was told, or that was sent before. Whoever connects
    later may be refused. Half of a body comes before the stop, and the rest a moment later.
    """
    times = 2 if quick else 10
    outcomes: Counter[str] = Counter()
    after: Counter[str] = Counter()
    statuses, seconds, halves, lost = [], [], Counter[str](), 0
    for _ in range(times):
        with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
            async with Clients(server.port, folder, 32) as clients:
                await asyncio.sleep(SETTLE)
                half = asyncio.create_task(_half_sent(server.port, clients, folder))
                await asyncio.sleep(0.2)
                since = time.perf_counter()
                server.process.send_signal(signal.SIGTERM)
                statuses.append(await asyncio.to_thread(server.process.wait, servers.PATIENCE))
                seconds.append(time.perf_counter() - since)
                halves[await half] += 1
            early = [event for event in clients.events if event.made < since]
            lost += sum(event.what in ("lost", "no answer", "not connected") for event in early)
            outcomes += Counter(event.what for event in early)
            after += Counter(event.what for event in clients.events if event.made >= since)
    return {
        "stops": times,
        "clients": clients.count,
        "outcomes": dict(outcomes),
        "lost": lost,
        "on_connections_made_after": dict(after),
        "half_sent_before": dict(halves),
        "exit_statuses": statuses,
        "slowest_stop_seconds": round(max(seconds), 2),
        "passed": lost == 0
        and outcomes.keys() <= {"right", "503"}
        and set(statuses) == {0}
        and after.keys() <= {"right", "503", "not connected", "lost"}
        and halves.keys() <= {"right", "503"},
    }


async def _half_sent(port: int, clients: Clients, folder: Path) -> str:
    """Send half of a request, and the other half after a moment; what came."""
    X = np.load(folder / "images.npy")
    request = binary(X[:1])
    connection = await Connection.open(port)
    try:
        await connection.send(request[: len(request) // 2])
        await asyncio.sleep(0.5)
        await connection.send(request[len(request) // 2 :])
        async with asyncio.timeout(servers.PATIENCE):
            answer = await connection.read()
    except (OSError, asyncio.IncompleteReadError):
        return "lost"
    except TimeoutError:
        return "no answer"
    finally:
        connection.close()
    if answer.status != 200:
        return str(answer.status)
    return "right" if clients.answers.version_of(0, answer.headers, answer.body) else "wrong"
