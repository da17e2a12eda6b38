"""Do alarms come as rarely as promised? Classes of many sizes, labels, equal scores, tiny classes, dependent rows.

    KERAS_BACKEND=tensorflow python benchmarks/drift_promises.py [PART ...]

Scores are simulated: nothing here has drifted, unless it says so. Each part is counted on calibration sets of its own.
Writes docs/results/drift-promises.json; with names of parts, only these anew.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine
from scipy.signal import lfilter
from scipy.stats import mannwhitneyu

from demur import drift
from demur.calibration.dependence import dependence_of
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.errors import DemurWarning, NoPower
from demur.guards.decision import calibrate, calibration_of, decide, grouped
from demur.guards.results import Scored

FILE = Path(__file__).resolve().parent.parent / "docs/results/drift-promises.json"
Array = Any
Draw = Callable[[np.random.Generator, int], Array]


def plain(scores: Array) -> Calibration:
    return Calibration({None: ScoreDistribution.of(scores)}, 1.0, 0.05)


def by_class(scores: Array, classes: Array, labels: Array | None = None, groups: int | None = 2) -> Calibration:
    return calibration_of(grouped(scores, classes, labels, groups), fpr=None, threshold_perc=95.0, margin=0.0)


def two_classes(rng: np.random.Generator, n: int, share: float, shift: float) -> tuple[Array, Array]:
    """Scores of which those of a rare class are shifted, and the classes."""
    classes = (rng.random(n) < share).astype(int)
    return (np.abs(rng.normal(size=n)) + shift * classes).astype("float32"), classes


# Classes ------------------------------------------------------------------------------------------------------------


def classes() -> list[dict[str, Any]]:
    """Batches tested against calibrations in which a class is rare; and where 15 % have scores that are 1.5 larger."""
    rows = []
    for n, share, shift in [(5_000, 0.05, 1.0), (50_000, 0.05, 1.0), (200_000, 0.02, 1.0), (200_000, 0.02, -0.5)]:
        alarms = {"pooled": 0, "by class": 0, "harmful, by class": 0, "harmful, pooled": 0}
        sets, each = 10, 10
        for seed in range(sets):
            rng = np.random.default_rng([seed, n, int(10 * shift) + 100])
            calibration = by_class(*two_classes(rng, n, share, shift))
            for _ in range(each):
                scores, of = two_classes(rng, 1_000, share, shift)
                bad = scores + 1.5 * (np.arange(1_000) < 150)
                for title, batch, known in [("pooled", scores, None), ("by class", scores, of)]:
                    alarms[title] += drift.test(calibration, scores=batch, predicted=known)["data"]["is_drift"]
                for title, known in [("harmful, by class", of), ("harmful, pooled", None)]:
                    alarms[title] += drift.test(calibration, scores=bad, predicted=known)["data"]["is_drift"]
        rows.append({"n": n, "share": share, "shift": shift, "batches": sets * each, **alarms})
    return rows


def labels() -> list[dict[str, Any]]:
    """Calibrated on the rows that the classifier gets right: alarms on ordinary batches and streams."""
    rows = []
    for n in (1_000, 5_000):
        streams, tests, monitors, shifted = 60, 0, 0, 0
        for seed in range(streams):
            rng = np.random.default_rng([seed, n])
            parts = [rng.random(k) < 0.12 for k in (n, 1_000, 5_000)]
            scores, batch, stream = (np.exp(rng.normal(size=len(w)) + 1.5 * w).astype("float32") for w in parts)
            of = np.zeros(n, int)
            calibration = by_class(scores, of, parts[0].astype(int), None)
            tests += drift.test(calibration, scores=batch)["data"]["is_drift"]
            monitors += drift.Monitor(calibration, alpha=0.01).update(scores=stream).alarm
            shifted += drift.test(calibration, scores=batch * 1.5)["data"]["is_drift"]
        rows.append({"n": n, "streams": streams, "test": tests, "martingale": monitors, "harmful": shifted})
    return rows


def tiny() -> list[dict[str, Any]]:
    """Streams of which 90 % are of a class that has few calibration scores."""
    rows = []
    methods: dict[str, dict[str, Any]] = {"window": {"window": 500}, "martingale": {}, "cusum": {}}
    for few in (3, 20, 100):
        streams, alarms = 100, dict.fromkeys(methods, 0)
        for seed in range(streams):
            rng = np.random.default_rng([seed, few])
            scores = np.abs(rng.normal(size=2_000 + few)).astype("float32")
            calibration = by_class(scores, np.repeat([0, 1], [2_000, few]))
            stream, of = np.abs(rng.normal(size=2_000)), (rng.random(2_000) < 0.9).astype(int)
            for method, settings in methods.items():
                monitor = drift.Monitor(calibration, alpha=0.01, method=method, **settings)
                alarms[method] += monitor.update(scores=stream, predicted=of).alarm
        rows.append({"few": few, "streams": streams, **alarms})
    return rows


# Equal scores -------------------------------------------------------------------------------------------------------


def ties() -> list[dict[str, Any]]:
    """Small batches of which most scores are 0: how often p is at most alpha, for ours and the normal approximation."""
    rows = []
    for n, m, zero in [(1_000, 10, 0.99), (1_000, 10, 0.9), (1_000, 50, 0.99), (5_000, 200, 0.99)]:
        batches, found = 500, {"ours": [], "normal": [], "ks": []}
        for seed in range(batches):
            rng = np.random.default_rng([seed, n, m])
            reference, batch = (
                np.where(rng.random(k) < zero, 0, rng.exponential(size=k)).astype("float32") for k in (n, m)
            )
            calibration = plain(reference)
            found["ours"].append(drift.test(calibration, scores=batch)["data"]["p_value"])
            found["ks"].append(drift.test(calibration, scores=batch, method="ks")["data"]["p_value"])
            found["normal"].append(mannwhitneyu(batch, reference, alternative="greater", method="asymptotic").pvalue)
        rates = {
            name: {str(alpha): float(np.mean(np.array(p) <= alpha)) for alpha in (0.05, 0.01, 0.001)}
            for name, p in found.items()
        }
        rows.append({"n": n, "m": m, "zero": zero, "batches": batches, **rates})
    return rows


# Dependent rows -----------------------------------------------------------------------------------------------------


def autoregressive(rho: float) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> Array:
        steps = rng.normal(size=n) * np.sqrt(1 - rho**2)
        steps[0] /= np.sqrt(1 - rho**2)
        return np.exp(lfilter([1.0], [1.0, -rho], steps))

    return draw


STREAMS: dict[str, Draw] = {
    "independent": lambda rng, n: np.exp(rng.normal(size=n)),
    "autocorrelation 0.5": autoregressive(0.5),
    "autocorrelation 0.9": autoregressive(0.9),
    "each row five times": lambda rng, n: np.repeat(np.exp(rng.normal(size=n // 5 + 1)), 5)[:n],
}
LENGTH, SIZE, RUN_LENGTH = 10_000, 2_000, 10_000


def dependent() -> list[dict[str, Any]]:
    """Monitors of dependent streams, with every row, and with as many as the warning says; and batches of 1,000."""
    rows = []
    for title, draw in STREAMS.items():
        row: dict[str, Any] = {"stream": title, "streams": 60, "warned": 0, "test": 0, "test, thinned": 0}
        row |= {name: 0 for way in ("", ", every") for name in (f"martingale{way}", f"window{way}")}
        looked, alarms, spacings = {"": 0, ", every": 0}, {"": 0, ", every": 0}, []
        for seed in range(row["streams"]):
            rng = np.random.default_rng([seed, len(title)])
            calibration, stream = plain(draw(rng, 50 * SIZE)[::50]), draw(rng, LENGTH)
            first = drift.Monitor(calibration, alpha=0.01, method="window", window=100).update(scores=stream)
            row["warned"] += first.is_dependent
            row["window"] += first.alarm
            known = first.dependence
            every = known.every if first.is_dependent and known is not None else 1
            spacings.append(every)
            for way, apart in (("", 1), (", every", every)):
                if apart > 1:
                    again = drift.Monitor(calibration, alpha=0.01, method="window", window=100, every=apart)
                    row["window, every"] += again.update(scores=stream).alarm
                elif way:
                    row["window, every"] += first.alarm
                row[f"martingale{way}"] += (
                    drift.Monitor(calibration, alpha=0.01, every=apart).update(scores=stream).alarm
                )
                cusum = drift.Monitor(calibration, method="cusum", run_length=RUN_LENGTH, every=apart, cooldown=1)
                cusum.update(scores=stream)
                looked[way], alarms[way] = looked[way] + cusum.count, alarms[way] + cusum.alarm_count
            batch = stream[:1_000]
            found = dependence_of(batch)
            row["test"] += drift.test(calibration, scores=batch)["data"]["is_drift"]
            thinned = batch if found is None else batch[:: found.every]
            row["test, thinned"] += drift.test(calibration, scores=thinned)["data"]["is_drift"]
        row["every"] = float(np.median(spacings))
        row |= {f"cusum{way}": looked[way] / alarms[way] if alarms[way] else None for way in looked}
        rows.append(row)
        print(row, flush=True)
    return rows


def power() -> list[dict[str, Any]]:
    """`control="fdr"` on 1,000 rows, 10 of them far above all normal ones: before its advice is followed, and after."""
    rows = []
    for n in (200, 1_000, 4_000):
        batches, found, warned = 100, 0, 0
        for seed in range(batches):
            rng = np.random.default_rng([seed, n])
            zeros = np.zeros(n, "int64")
            normal = Scored(rng.exponential(size=n).astype("float32"), zeros, zeros, zeros[:0])
            calibration = calibrate(normal, fpr=0.05, threshold_perc=99.0, margin=0.0, labels=None, classes=None)
            scores = rng.exponential(size=1_000)
            scores[:10] += 30
            batch = Scored(scores.astype("float32"), *[np.zeros(1_000, "int64")] * 2, zeros[:0])
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found += int(decide(batch, 1.0, calibration, "fdr", 0.05)["is_adversarial"][:10].sum())
            warned += any(issubclass(one.category, NoPower) for one in caught)
        rows.append({"n": n, "batches": batches, "found": found / (10 * batches), "warned": warned / batches})
    return rows


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "classes": classes,
    "labels": labels,
    "tiny": tiny,
    "ties": ties,
    "dependent": dependent,
    "power": power,
}


def main() -> int:
    warnings.simplefilter("ignore", DemurWarning)
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    document["machine"] = machine()
    for part in sys.argv[1:] or PARTS:
        started = time.perf_counter()
        document[part] = PARTS[part]()
        print(part, f"{time.perf_counter() - started:.0f} s", document[part], flush=True)
        FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
