"""How many requests a server answers, and how soon: by wrk, in a closed loop, and at a constant rate."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

import demur.runtime

from . import servers
from .bodies import FORMS
from .hey import hey
from .open_loop import Plan, open_loop
from .wrk import write_requests, wrk

CONNECTIONS = (1, 8, 32, 128)
PEAK_AT = 32
SENT = 64
"""Images that wrk sends, one after the other."""
FLOOR = "uvicorn alone"

Say = Callable[[str], None]


def load(folder: Path, quick: bool, say: Say) -> dict[str, Any]:
    """All figures of load.

    Returns:
        `closed_loop`: by contender, form of the body and connections, what `wrk` says, the median of the rounds by
        requests per second; `guard_ms`: the guard's own time for one row; `half_of_peak`: by way of arriving.
    """
    X = np.load(folder / "images.npy")
    requests = {
        form: write_requests(folder / f"requests-{number}", [make(X[i : i + 1]) for i in range(SENT)])
        for number, (form, make) in enumerate(FORMS.items())
    }
    seconds, rounds = (2, 1) if quick else (3, 2)
    found: dict[str, Any] = {"seconds": seconds, "rounds": rounds, "guard_ms": own_milliseconds(folder, X)}
    say(f"the guard alone: {found['guard_ms']:.3f} ms for one row")
    with started(folder) as contenders:
        found["mlserver"] = any(name.startswith("MLServer") for name, _ in contenders)
        if not found["mlserver"]:
            say(f"MLServer is left out: {servers.MLSERVER} is made by tests/e2e/test_mlserver.py")
        measured: dict[tuple[str, str, int], list[Any]] = {}
        for _ in range(rounds):
            for (name, form), server in contenders.items():
                for connections in CONNECTIONS if name != "demur, as it comes" else (1, PEAK_AT):
                    one = closed_loop(server, requests[form], connections, seconds)
                    measured.setdefault((name, form, connections), []).append(one)
                    say(f"{name}, {form}, {connections} connections: {shown(one)}")
    found["closed_loop"] = nested(measured)
    binary = found["closed_loop"]["demur"]["binary"]
    found["peak"] = max(row["per_second"] for row in binary.values())
    found["half_of_peak"] = constant_rate(folder, X, requests["binary"], found["peak"] / 2, 5 * seconds, say)
    return found


def constant_rate(
    folder: Path, X: Any, requests: Path, rate: float, seconds: float, say: Say
) -> dict[str, dict[str, Any]]:
    """Latencies at a constant rate, by the way in which requests arrive."""
    found: dict[str, dict[str, Any]] = {}
    with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
        wrk(server.port, requests, PEAK_AT, 2)  # to warm up
        for arrivals in ("evenly", "at random"):
            plan = Plan(str(folder), server.port, rate, seconds, poisson=arrivals == "at random", interval=seconds / 3)
            found[arrivals] = open_loop(plan)
        by_hey = hey(server.port, X, folder, rate, seconds)
        if by_hey is not None:
            found["by hey"] = by_hey
    for way, one in found.items():
        say(f"half of peak, {way}: {shown(one)}, p99 is {one['p99_of_p50']:.1f} x p50")
    return found


def own_milliseconds(folder: Path, X: Any, calls: int = 2000) -> float:
    """Median milliseconds that the guard takes for one row, where no server is."""
    guard = demur.runtime.load(folder / "guard.onnx", threads=1)
    feed = guard.feed(X[:1])
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        guard.run(feed)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[dict[tuple[str, str], servers.Server]]:
    """All contenders at once, by name and form of the body; those that are not measured just now do nothing."""
    guard = folder / "guard.onnx"
    ways: dict[str, tuple[AbstractContextManager[servers.Server], tuple[str, ...]]] = {
        "demur": (servers.demur(guard, *servers.QUIET), tuple(FORMS)),
        "demur, as it comes": (servers.demur(guard), ("binary",)),
        FLOOR: (servers.floor(folder), ("binary",)),
    }
    if servers.MLSERVER.exists():
        ways["MLServer, 1 worker"] = servers.mlserver(guard, None), ("flat JSON",)
        ways["MLServer, in its own process"] = servers.mlserver(guard, 0), ("flat JSON",)
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name, (start, forms) in ways.items():
            server = stack.enter_context(start)
            contenders |= {(name, form): server for form in forms}
        yield contenders


def closed_loop(server: servers.Server, requests: Path, connections: int, seconds: float) -> dict[str, Any]:
    """What wrk says, after a second to warm up; how many cores the server took, and how many answers it counted."""
    wrk(server.port, requests, connections, 1)
    counted = server.answered().get("200")
    before, begun = servers.cpu_seconds(server.pids()), time.perf_counter()
    found = wrk(server.port, requests, connections, seconds)
    after, ended = servers.cpu_seconds(server.pids()), time.perf_counter()
    found["server_cores"] = (after - before) / (ended - begun)
    if counted is not None:  # wrk does not count what it has sent last
        found["server_counted"] = server.answered()["200"] - counted
    return found


def nested(measured: dict[tuple[str, str, int], list[Any]]) -> dict[str, Any]:
    """The median round of each, by contender, form and connections; errors are those of all rounds."""
    found: dict[str, Any] = {}
    for (name, form, connections), rounds in measured.items():
        ordered = sorted(rounds, key=lambda one: one["per_second"])
        middle = dict(ordered[len(ordered) // 2])
        middle["errors"] = {kind: sum(one["errors"][kind] for one in rounds) for kind in middle["errors"]}
        middle["rounds_per_second"] = [round(one["per_second"], 1) for one in rounds]
        found.setdefault(name, {}).setdefault(form, {})[str(connections)] = middle
    return found


def shown(one: dict[str, Any]) -> str:
    """On a short line."""
    outcomes = one["outcomes"] if "outcomes" in one else {"errors": sum(one["errors"].values())}
    cores = {key: f"{one[f'{key}_cores']:.2f} cores" for key in ("tool", "server") if f"{key}_cores" in one}
    late = {"sent late, p99": f"{one['late_p99_ms']:.2f} ms"} if "late_p99_ms" in one else {}
    more = ", ".join(f"{name} {value}" for name, value in (outcomes | cores | late).items())
    return f"{one['per_second']:,.0f}/s, p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms, {more}"
