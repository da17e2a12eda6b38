"""Which rate can be served in time? Latencies of requests that arrive at random, at one rate after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import servers
from .bodies import binary
from .load import shown
from .open_loop import Plan, open_loop
from .wrk import write_requests, wrk

RATES = (250, 500, 1000, 1500, 2000, 2500, 3000)


def rates(folder: Path, quick: bool, say: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """What `open_loop` says, by requests a second; the guard is small enough that serving is what is measured."""
    X = np.load(folder / "images.npy")
    requests = write_requests(folder / "rates", [binary(X[i : i + 1]) for i in range(8)])
    found = {}
    with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
        wrk(server.port, requests, 8, 2)  # to warm up
        for rate in RATES:
            plan = Plan(str(folder), server.port, rate, 2 if quick else 10, poisson=True, interval=1)
            found[str(rate)] = open_loop(plan)
            say(f"{rate} a second: {shown(found[str(rate)])}")
    return found
