"""How fast is an exported guard, against the live detector and against its networks alone? TensorFlow and onnxruntime.

    KERAS_BACKEND=tensorflow python benchmarks/runtime.py [--quick]

Each guard is calibrated and exported; its networks are also exported one by one, by Keras. "networks" is the sum of
what onnxruntime takes for them: the classifier on x, the companion on x and, of an autoencoder, the classifier on x'.
The contenders alternate within one run; medians over the rounds go to docs/results/runtime.json. `import
demur.runtime` is timed in processes of its own.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
from contenders import latency
from measuring import alternated, machine, seconds
from networks import NETWORKS, rows

import demur.runtime
from demur import AdversarialAE, ModelDistillation

ROOT = Path(__file__).resolve().parent.parent
LIVE, FILE, BARE = "live detector", "exported guard", "networks"
BATCH = 256
CALIBRATED_ON = {"MLP, 30 features": 10_000, "CNN, 28x28x1": 10_000, "ResNet-20, 32x32x3": 2_000}


def session(network: Any, path: Path) -> Any:
    """A network of Keras in onnxruntime."""
    network(rows(network.input_shape[1:], 1))  # Keras exports what has been called once
    network.export(str(path), format="onnx", verbose=False, opset_version=18)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def run(network: Any, x: Any) -> Any:
    return network.run(None, {network.get_inputs()[0].name: x})[0]


def guards(network: str, folder: Path, quick: bool) -> dict[str, dict[str, Callable[[Any], Any]]]:
    """By kind of detector, the ways to ask it."""
    classifier, autoencoder = NETWORKS[network]()
    detectors = {
        "AdversarialAE": AdversarialAE(model=classifier, ae=autoencoder),
        "ModelDistillation": ModelDistillation(model=classifier),
    }
    X = rows(classifier.input_shape[1:], CALIBRATED_ON[network] // (20 if quick else 1))
    bare_classifier = session(classifier, folder / "classifier.onnx")
    found = {}
    for kind, detector in detectors.items():
        detector.infer_threshold(X, fpr=0.05)
        detector.export(folder / f"{kind}.onnx")
        guard = demur.runtime.load(folder / f"{kind}.onnx")
        companion = session(detector.companion, folder / f"{kind}-companion.onnx")
        is_ae = kind == "AdversarialAE"

        def bare(x: Any, companion: Any = companion, is_ae: bool = is_ae) -> None:
            run(bare_classifier, x)
            made = run(companion, x)
            if is_ae:
                run(bare_classifier, made)

        found[kind] = {
            LIVE: functools.partial(detector.correct, batch_size=BATCH),
            FILE: functools.partial(guard.correct, batch_size=BATCH),
            BARE: bare,
        }
    return found


def batch_milliseconds(ask: Callable[[Any], Any], X: Any) -> float:
    """Median milliseconds of a whole batch."""
    return 1000 * statistics.median(seconds(lambda: ask(X)) for _ in range(5))


def measured(ways: dict[str, Callable[[Any], Any]], shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Milliseconds for one row and for a batch, and what they are to each other."""
    X = rows(shape, BATCH)
    for ask in ways.values():
        ask(X)
    result: dict[str, Any] = {}
    for what, measure in (
        ("one row", lambda ask: latency(ask, shape)),
        (f"{BATCH} rows", lambda ask: batch_milliseconds(ask, X)),
    ):
        found = alternated({name: functools.partial(measure, ask) for name, ask in ways.items()}, rounds)
        found["of the live detector"] = found[FILE] / found[LIVE]
        found["of the networks"] = found[FILE] / found[BARE]
        result[what] = found
    return result


def import_seconds(times: int = 7) -> float:
    """Median seconds of `import demur.runtime`, without what Python takes to start."""
    script = "import time; start = time.perf_counter(); import demur.runtime; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, check=True) for _ in range(times)]
    return statistics.median(float(done.stdout) for done in runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, to try the script; writes nothing")
    quick = parser.parse_args().quick
    if keras.backend.backend() != "tensorflow":
        print("this benchmark is about TensorFlow: set KERAS_BACKEND=tensorflow")
        return 1
    results: dict[str, Any] = {
        "machine": machine() | {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "import, seconds": import_seconds(),
        "networks": {},
    }
    print(f"import demur.runtime: {results['import, seconds']:.3f} s")
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            ways = guards(network, Path(folder), quick)
        shape = rows_shape(network)
        results["networks"][network] = {
            kind: measured(asking, shape, 2 if quick else 5) for kind, asking in ways.items()
        }
        for kind, found in results["networks"][network].items():
            for what, figures in found.items():
                print(network, kind, what, {name: round(value, 3) for name, value in figures.items()}, flush=True)
    if not quick:
        (ROOT / "docs/results/runtime.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


def rows_shape(network: str) -> tuple[int, ...]:
    return tuple(NETWORKS[network]()[0].input_shape[1:])


if __name__ == "__main__":
    sys.exit(main())
