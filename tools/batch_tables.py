"""The tables of what `benchmarks/batch.py` has measured."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results" / "batch.json"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def results() -> Any:
    """What the script has measured."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def throughput() -> Table:
    """Dask against plain processes."""
    found = results()["throughput"]
    rows = [
        [workers, f"{measured['Dask']:,.0f}", f"{measured['processes']:,.0f}", f"{found['of processes'][workers]:.2f}x"]
        for workers, measured in found["rows a second"].items()
    ]
    rows.append(["two, of one", f"{found['two workers, of one']:.2f}x", "", ""])
    return ["workers", "`demur.batch`, rows a second", "plain processes, rows a second", "of these"], rows


def proofs() -> Table:
    """Kills and memory."""
    kills, memory = results()["kills"], results()["memory"]
    runs, n = len(kills["runs"]), kills["rows"]
    return ["what", "found"], [
        [
            f"one of {kills['workers']} workers killed at a random moment, {n:,} rows, {runs} runs",
            f"{kills['runs with each id once']} of {runs} with each id once; scores differ by "
            f"{kills['largest difference']:.1e} at most",
        ],
        [
            f"{memory['rows']:,} rows, {memory['workers']} workers of {memory['limit, bytes'] / 1e9:.0f} GB",
            f"{memory['most held by a worker, bytes'] / 1e6:,.0f} MB held at most; "
            f"{memory['workers started anew']} workers started anew",
        ],
    ]
