"""Load for minutes: does memory stay where it was, and do answers stay as soon?"""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import servers
from .load import Say, shown
from .open_loop import Plan, open_loop

SHARE_OF_PEAK = 0.7
SETTLED, WINDOW, LAST = 0.2, 0.1, 0.2
"""Shares of the time: memory is compared from when it has settled, over a window, with that of the last ones."""


def soak(folder: Path, peak: float, quick: bool, say: Say) -> dict[str, Any]:
    """Figures of a long load at 70 % of the peak."""
    seconds = 20 if quick else 600
    plan = Plan(
        folder=str(folder), port=0, rate=SHARE_OF_PEAK * peak, seconds=seconds, interval=seconds / 10, warm_up=2
    )
    with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
        worker = server.worker()
        memory: list[tuple[float, int]] = []
        over = threading.Event()
        begun = time.perf_counter()

        def sample() -> None:
            while not over.is_set():
                found = servers.resident(worker)
                if found is not None:
                    memory.append((time.perf_counter() - begun, found))
                over.wait(1)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            before = servers.cpu_seconds([worker])
            found = open_loop(dataclasses.replace(plan, port=server.port))
            found["server_cores"] = (servers.cpu_seconds([worker]) - before) / (time.perf_counter() - begun)
        finally:
            over.set()
            sampler.join()
        found["alive"] = server.is_ready() and server.worker() == worker
        found["server_counted"] = server.answered()
        found["tracebacks"] = server.said("Traceback")
    found["seconds"], found["share_of_peak"] = seconds, SHARE_OF_PEAK
    found["memory"] = flatness(memory, seconds)
    grown = found["memory"]["last_mb"] / found["memory"]["settled_mb"] - 1
    say(
        f"soak, {seconds} s: {shown(found)}; memory {found['memory']['settled_mb']:.1f} MB, in the end "
        f"{found['memory']['last_mb']:.1f} MB, {100 * grown:+.1f} %"
    )
    say("  p99 over time, ms: " + ", ".join(f"{part['p99_ms']:.1f}" for part in found["over_time"]))
    return found


def flatness(memory: list[tuple[float, int]], seconds: float) -> dict[str, Any]:
    """Means of resident memory, in MB: after it has settled, and in the end; and some of what it was in between."""
    times, sizes = np.array(memory).T
    settled = sizes[(times >= SETTLED * seconds) & (times < (SETTLED + WINDOW) * seconds)]
    last = sizes[(times >= (1 - LAST) * seconds) & (times <= seconds)]
    step = max(1, len(sizes) // 20)
    return {
        "settled_mb": float(settled.mean() / 1e6),
        "last_mb": float(last.mean() / 1e6),
        "most_mb": float(sizes.max() / 1e6),
        "grown": float(last.mean() / settled.mean() - 1),
        "every_mb": [round(float(size / 1e6), 1) for size in sizes[::step]],
    }
