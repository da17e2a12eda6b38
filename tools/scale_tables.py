"""The arithmetic of docs/batch.md: from measured costs a row and a request to machines and money."""

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""

# What is asked, and what is assumed. The page says so; change them here.
ROWS_A_DAY = 1_000_000_000
REQUESTS = 10_000
P99_MS = 20.0
PEAK = 2.0
"""The busiest hour, against the mean."""
USED = 0.7
"""Of a core, at the peak."""
CORES = 16
"""Of a machine."""
PRICE = 0.04
"""Of a core for an hour, in dollars: an assumption, about what clouds ask for on demand."""
DAY = 86_400
RESULT_ROWS = 256


def results(name: str) -> Any:
    """What a script has measured."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def core_ms(network: str, kind: str) -> float:
    """Milliseconds of one core for a row of a batch; the pass that was measured used all cores."""
    found = results("runtime")
    return float(
        found["networks"][network][kind]["256 rows"]["exported guard"] * found["machine"]["cores"] / RESULT_ROWS
    )


def around_ms() -> float:
    """Milliseconds of one core for reading a row of 784 bytes, deciding and writing: what is not the networks."""
    found = results("batch")["throughput"]["rows a second"]["1"]["Dask"]
    return max(0.0, 1000 / found - core_ms("CNN, 28x28x1", "ModelDistillation"))


def continuous() -> Table:
    """A billion rows a day: cores, machines and money, by network."""
    rows = []
    for network, kinds in results("runtime")["networks"].items():
        for kind in kinds:
            cost = core_ms(network, kind) + around_ms()
            mean = ROWS_A_DAY / DAY * cost / 1000
            cores = math.ceil(mean * PEAK / USED)
            machines = math.ceil(cores / CORES) + 1  # one may fail
            money = machines * CORES * 24 * PRICE
            rows.append(
                [
                    f"{network}, `{kind}`",
                    f"{cost:.3f} ms",
                    f"{mean:,.1f}",
                    f"{cores:,}",
                    f"{machines:,}",
                    f"{money:,.0f} $",
                    f"{1e6 * money / ROWS_A_DAY:.2f} $",
                ]
            )
    return ["", "a row, one core", "cores, busy", "cores, at the peak", "machines", "a day", "a million rows"], rows


def in_time() -> int:
    """The highest rate at which the 99th percentile was within the limit, and at all lower ones."""
    best = 0
    for rate, found in results("serve")["rates"].items():
        lost = sum(count for outcome, count in found["outcomes"].items() if outcome != "right")
        if found["p99_ms"] > P99_MS or lost:
            break
        best = int(rate)
    return best


def rates() -> Table:
    """Latencies by rate."""
    rows = [
        [f"{int(rate):,}", f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.1f}", f"{found['server_cores']:.2f}"]
        if "server_cores" in found
        else [f"{int(rate):,}", f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.1f}"]
        for rate, found in results("serve")["rates"].items()
    ]
    return ["requests a second", "p50, ms", "p99, ms"], [row[:3] for row in rows]


def endpoints() -> Table:
    """Ten thousand requests a second: replicas, cores and money, by network."""
    serve = results("serve")
    free = 1000 / in_time()  # milliseconds between two requests of one replica, with the small guard
    rows = []
    for network, kinds in results("runtime")["networks"].items():
        for kind in kinds:
            one = results("runtime")["networks"][network][kind]["one row"]["exported guard"]
            each = free + max(0.0, one - serve["load"]["guard_ms"])
            replicas = math.ceil(REQUESTS * each / 1000)
            cores = 2 * (replicas + 2)
            rows.append(
                [
                    f"{network}, `{kind}`",
                    f"{one:.2f} ms",
                    f"{1000 / each:,.0f}",
                    f"{replicas:,} + 2",
                    f"{cores:,}",
                    f"{cores * 24 * PRICE:,.0f} $",
                ]
            )
    return ["", "one row", "a second, a replica", "replicas", "cores", "a day"], rows
