"""How fast is demur against what the networks cost, and against the eager way? TensorFlow.

    KERAS_BACKEND=tensorflow python benchmarks/speed.py [--quick]

The contenders (see contenders.py) alternate within one run; medians over the rounds, and ratios of medians, go to
docs/results/speed.json. If DEMUR_PEER_PYTHON names a Python that has alibi-detect, it does the same work beside them.
"""

import argparse
import functools
import json
import os
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
    fit_eager,
    fit_floor,
    fit_ours,
    latency,
    scorers,
)
from measuring import alternated, machine, seconds
from networks import NETWORKS, rows

ROOT = Path(__file__).resolve().parent.parent
PEER = "alibi-detect"
SIZES = {"MLP, 30 features": 131_072, "CNN, 28x28x1": 8192, "ResNet-20, 32x32x3": 2048}
ROUNDS = {"fit": 3, "score": 5, "one": 5}
UNITS = {"fit": "samples/s", "score": "samples/s", "one": "ms"}

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


def contenders_for(what: str, make: Networks, n: int) -> dict[str, Callable[[], float]]:
    """What measures each contender once."""
    shape = make()[0].input_shape[1:]
    if what == "fit":
        X = rows(shape, n)
        measures = {OURS: fit_ours, FLOOR: fit_floor, EAGER: fit_eager}
        return {name: functools.partial(measure, make, X) for name, measure in measures.items()}
    found = scorers(make)
    if what == "one":
        return {name: functools.partial(latency, run, shape) for name, run in found.items()}
    X = rows(shape, n)
    for run in found.values():
        run(X[:512])  # compiles
    return {name: lambda run=run: n / seconds(lambda: run(X)) for name, run in found.items()}


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
        for what, unit in UNITS.items():
            contenders = contenders_for(what, make, n)
            if beside:
                contenders[PEER] = functools.partial(beside[1], network, what, n)
            found = alternated(contenders, 1 if quick else ROUNDS[what])
            for name in contenders:
                found[f"ratio to {name}"] = found[OURS] / found[name]
            results["networks"][network][what] = found
            print(network, what, unit, {key: round(value, 3) for key, value in found.items()}, flush=True)
    if not quick:
        (ROOT / "docs/results/speed.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
