"""How fast is demur against what the networks cost, and against the eager way? TensorFlow.

    KERAS_BACKEND=tensorflow python benchmarks/speed.py [--quick]

The contenders (see contenders.py) alternate within one run. Medians over the rounds and ratios of medians go to
docs/results/speed.json; of `fit` to its floor, the median of the ratios of neighbouring epochs. If DEMUR_PEER_PYTHON
names a Python that has alibi-detect, it does the same work beside them.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from contenders import (
    EAGER,
    FLOOR,
    OURS,
    Networks,
    fit_both,
    fit_eager,
    latency,
    scorers,
)
from measuring import alternated, machine, seconds
from networks import NETWORKS, rows

ROOT = Path(__file__).resolve().parent.parent
PEER = "alibi-detect"
SIZES = {"MLP, 30 features": 131_072, "CNN, 28x28x1": 8192, "ResNet-20, 32x32x3": 2048}
Asking = Callable[[str, str, int], float]


def peer() -> tuple[str, Asking] | None:
    """The version of alibi-detect, and a function that has it measured; None without DEMUR_PEER_PYTHON."""
    python = os.environ.get("DEMUR_PEER_PYTHON")
    if not python:
        return None
    command = [python, str(Path(__file__).with_name("peer.py"))]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    questions, answers = process.stdin, process.stdout
    assert questions is not None
    assert answers is not None

    def ask(network: str, what: str, n: int) -> float:
        questions.write(f"{network}\t{what}\t{n}\n")
        questions.flush()
        return float(answers.readline())

    return answers.readline().strip(), ask


def fit_speeds(make: Networks, n: int, rounds: int, ask: Callable[[], float] | None) -> dict[str, float]:
    """Samples a second of training; demur and the floor alternate epoch by epoch."""
    X = rows(make()[0].input_shape[1:], n)
    epochs = fit_both(make, X, epochs=rounds)
    found = {name: n / statistics.median(times) for name, times in epochs.items()}
    pairs = zip(epochs[OURS], epochs[FLOOR], strict=True)
    found[f"ratio to {FLOOR}"] = statistics.median(floor / ours for ours, floor in pairs)
    others: dict[str, Callable[[], float]] = {EAGER: functools.partial(fit_eager, make, X)}
    if ask is not None:
        others[PEER] = ask
    return found | alternated(others, 3)


def score_speeds(make: Networks, n: int, rounds: int, ask: Callable[[], float] | None) -> dict[str, float]:
    """Samples a second of `correct`."""
    X = rows(make()[0].input_shape[1:], n)
    runs = scorers(make)
    for run in runs.values():
        run(X[:512])  # compiles
    contenders: dict[str, Callable[[], float]] = {
        name: lambda run=run: n / seconds(lambda: run(X)) for name, run in runs.items()
    }
    if ask is not None:
        contenders[PEER] = ask
    return alternated(contenders, rounds)


def latencies(make: Networks, n: int, rounds: int, ask: Callable[[], float] | None) -> dict[str, float]:  # noqa: ARG001
    """Milliseconds for one row."""
    shape = make()[0].input_shape[1:]
    contenders: dict[str, Callable[[], float]] = {
        name: functools.partial(latency, run, shape) for name, run in scorers(make).items()
    }
    if ask is not None:
        contenders[PEER] = ask
    return alternated(contenders, rounds)


MEASUREMENTS = {
    "fit": (fit_speeds, 7, "samples/s"),
    "score": (score_speeds, 15, "samples/s"),
    "one": (latencies, 7, "ms"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, to try the script; writes nothing")
    quick = parser.parse_args().quick
    if keras.backend.backend() != "tensorflow":
        print("this benchmark is about TensorFlow: set KERAS_BACKEND=tensorflow")
        return 1
    beside = peer()
    results: dict[str, Any] = {
        "machine": machine() | {"tensorflow": tf.__version__},
        "peer": beside and f"{PEER} {beside[0]}",
        "networks": {},
    }
    for network, make in NETWORKS.items():
        n = SIZES[network] // (8 if quick else 1)
        results["networks"][network] = {}
        for what, (measure, rounds, unit) in MEASUREMENTS.items():
            ask = functools.partial(beside[1], network, what, n) if beside else None
            found = measure(make, n if what == "fit" else n // 4, 2 if quick else rounds, ask)
            for name in (FLOOR, EAGER, PEER):
                if name in found and f"ratio to {name}" not in found:
                    found[f"ratio to {name}"] = found[OURS] / found[name]
            results["networks"][network][what] = found
            print(network, what, unit, {key: round(value, 3) for key, value in found.items()}, flush=True)
    if not quick:
        (ROOT / "docs/results/speed.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
