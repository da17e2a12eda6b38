"""How rare false alarms are on streams without drift, and how soon drift is found: by simulation, on scores alone.

    KERAS_BACKEND=tensorflow python benchmarks/drift_streams.py

What a monitor says depends on scores through their ranks among the calibration scores alone, so any continuous
distribution stands for all. Clean scores are exponential, drifted ones among them larger by 4. Each stream has a
calibration set of its own. Takes about half an hour on one core; writes docs/results/drift-streams.json.
"""

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine

from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.drift import Monitor
from demur.drift.conditional import conditional_p_values
from demur.drift.evidence import Martingale, Observed

ROOT = Path(__file__).resolve().parent.parent
ALPHA = 0.01
SIZES = (200, 1_000, 10_000)
STREAMS, LENGTH = 1_000, 100_000
NAIVE_STREAMS = 100
CLEAN_BEFORE = (0, 1_000, 100_000)
CONTAMINATIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
REPEATS, PATIENCE = 100, 20_000
METHODS: dict[str, dict[str, Any]] = {
    "martingale": {},
    "cusum": {"run_length": 100_000},
    "window": {"window": 100},
}


def calibrated(rng: np.random.Generator, size: int) -> Calibration:
    return Calibration({None: ScoreDistribution.of(rng.exponential(size=size))}, 1.0, 0.05)


def false_alarms(method: str, size: int) -> dict[str, Any]:
    """Of streams without drift: how many raised an alarm, and the scores looked at in a second."""
    alarms, started, watching = 0, time.perf_counter(), 0.0
    for seed in range(STREAMS):
        rng = np.random.default_rng([seed, size])
        monitor = Monitor(calibrated(rng, size), alpha=ALPHA, method=method, **METHODS[method])
        scores = rng.exponential(size=LENGTH)
        before = time.perf_counter()
        alarms += monitor.update(scores=scores).alarm_count > 0
        watching += time.perf_counter() - before
    found = {"streams": STREAMS, "length": LENGTH, "alarms": int(alarms), "per_second": STREAMS * LENGTH / watching}
    print(f"{method}, {size}: {found}, {time.perf_counter() - started:.0f} s", flush=True)
    return found


def naive_false_alarms(size: int) -> dict[str, Any]:
    """The same bets on p-values that ignore which calibration set was drawn."""
    alarms = 0
    for seed in range(NAIVE_STREAMS):
        rng = np.random.default_rng([seed, size])
        distribution = calibrated(rng, size).distributions[None]
        p = distribution.p_values(rng.exponential(size=LENGTH))
        martingale = Martingale(ALPHA, 1 / (size + 1))
        alarms += bool((martingale.add(Observed(p, p, size, None)) >= martingale.limit).any())
    return {"streams": NAIVE_STREAMS, "length": LENGTH, "alarms": alarms}


def delays(method: str, size: int, clean: int) -> dict[float, Any]:
    """Scores from the beginning of a drift to the alarm, by the share that drifts: median and ninth decile.

    None where it was not found.
    """
    found: dict[float, list[float]] = {share: [] for share in CONTAMINATIONS}
    for seed in range(REPEATS):
        rng = np.random.default_rng([seed, size, clean])
        before = Monitor(calibrated(rng, size), alpha=ALPHA, method=method, **METHODS[method])
        if clean:
            before.update(scores=rng.exponential(size=clean))
        if before.alarm:
            continue  # a false alarm
        for share in CONTAMINATIONS:
            monitor = copy.deepcopy(before)
            scores = rng.exponential(size=PATIENCE) + 4 * (rng.random(PATIENCE) < share)
            for begin in range(0, PATIENCE, 1000):
                if monitor.update(scores=scores[begin : begin + 1000]).alarm:
                    break
            found[share].append(monitor.alarms[0].at - clean if monitor.alarm else np.inf)
    rows = {}
    for share, lengths in found.items():
        middle, late = np.quantile(lengths, [0.5, 0.9], method="higher")
        rows[share] = {
            "found": float(np.mean(np.isfinite(lengths))),
            "median": float(middle) if np.isfinite(middle) else None,
            "ninth_decile": float(late) if np.isfinite(late) else None,
        }
    print(f"{method}, {size}, after {clean}: {[row['median'] for row in rows.values()]}", flush=True)
    return rows


def main() -> int:
    document: dict[str, Any] = {"alpha": ALPHA, "machine": machine(), "repeats": REPEATS, "patience": PATIENCE}
    document["smallest_p_value"] = {n: float(conditional_p_values(n, ALPHA / 2)[0]) for n in SIZES}
    document["false_alarms"] = {method: {n: false_alarms(method, n) for n in SIZES} for method in METHODS}
    document["naive"] = {n: naive_false_alarms(n) for n in SIZES}
    document["delays"] = [
        {"method": method, "size": n, "clean": clean, "share": share, **row}
        for method in METHODS
        for n in SIZES
        for clean in CLEAN_BEFORE
        for share, row in delays(method, n, clean).items()
    ]
    file = ROOT / "docs/results/drift-streams.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
