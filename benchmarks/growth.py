"""How do time and memory grow with rows, pixels, classes, hidden heads and the batch size? TensorFlow.

    KERAS_BACKEND=tensorflow python benchmarks/growth.py

Each case runs in a process of its own: speed of `correct` and of steady epochs of `fit` of AdversarialAE,
against the floor of contenders.py; and the most by which anonymous memory grew during each, beyond data and networks.
Rows are 28x28x1 with 10 classes unless a case says otherwise. Writes docs/results/growth.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "rows": {f"{n:,}": {"n": n, "tiny": True} for n in (1_000, 10_000, 100_000, 1_000_000)},
    "pixels": {
        f"{side}x{side}x3": {"n": n, "shape": (side, side, 3)}
        for side, n in {28: 4096, 32: 4096, 64: 2048, 96: 1024, 224: 512}.items()
    },
    "classes": {f"{classes:,}": {"n": 4096, "classes": classes} for classes in (10, 100, 1000)},
    "hidden heads": {str(len(heads)): {"n": 4096, "heads": heads} for heads in ((), (1,), (1, 2, 3))},
    "batch size": {
        f"{size:,}": {"n": max(256, min(4096, 64 * size)), "batch_size": size} for size in (1, 4, 16, 64, 256, 1024)
    },
}


def networks(shape: tuple[int, int, int], classes: int, tiny: bool) -> tuple[Any, Any]:
    """A convolutional classifier and an autoencoder; tiny ones that a million rows go through in seconds."""
    import keras
    from keras import layers
    from networks import published_autoencoder

    if tiny:
        stack = [layers.Rescaling(1 / 255), layers.Conv2D(8, 5, strides=4, activation="relu"), layers.Flatten()]
        code = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(8, activation="relu")]
        grown = [layers.Dense(shape[0] * shape[1]), layers.Reshape(shape), layers.Rescaling(255)]
        autoencoder = keras.Sequential([layers.Input(shape), *code, *grown])
    else:
        stack = [
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
        autoencoder = published_autoencoder(shape, (32, 64))
    head = layers.Dense(classes, activation="softmax")
    return keras.Sequential([layers.Input(shape), *stack, head]), autoencoder


def measure(
    n: int,
    shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    heads: tuple[int, ...] = (),
    batch_size: int | None = None,
    tiny: bool = False,
) -> dict[str, float]:
    """Measure one case."""
    import contenders
    import numpy as np
    from measuring import alternated, growth, seconds
    from networks import rows

    def make() -> tuple[Any, Any]:
        return networks(tuple(shape), classes, tiny)

    fit_batch, score_batch = batch_size or contenders.FIT_BATCH, batch_size or contenders.SCORE_BATCH
    # Layer 2 * (head - 1) of the stack is a convolution.
    settings = {"hidden_layer_kld": {2 * (head - 1): 10 for head in heads}} if heads else {}
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        if tiny:
            X = np.lib.format.open_memmap(Path(folder) / "rows.npy", "w+", "uint8", (n, *shape))
            X[:] = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
            X.flush()
            X = np.load(Path(folder) / "rows.npy", mmap_mode="r")
        else:
            X = rows(shape, n)
        runs = contenders.scorers(make, score_batch, **settings)
        runs[contenders.OURS](X[: 2 * score_batch])  # compiles
        with growth() as memory:
            runs[contenders.OURS](X)
        found["score memory"] = memory["bytes"]
        timed = [contenders.OURS] if tiny else [contenders.OURS, contenders.FLOOR]
        speeds = alternated({name: lambda name=name: n / seconds(lambda: runs[name](X)) for name in timed}, 3)
        found |= {f"score {name}": speed for name, speed in speeds.items()}
        # What TensorFlow keeps from then on is not what fit takes.
        contenders.fit_ours(make, X[: 2 * fit_batch], fit_batch, 1, **settings)
        with growth() as memory:
            epochs = {contenders.OURS: contenders.fit_ours(make, X, fit_batch, 1, **settings)}
        found["fit memory"] = memory["bytes"]
        if not tiny:
            epochs = contenders.fit_both(make, X, fit_batch, 3, **settings)
        found |= {f"fit {name}": n / statistics.median(times) for name, times in epochs.items()}
    return found


def main() -> int:
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
        return 0
    from measuring import machine

    results: dict[str, Any] = {"machine": machine(), "cases": {}}
    for what, cases in CASES.items():
        results["cases"][what] = {}
        for title, case in cases.items():
            command = [sys.executable, __file__, json.dumps(case)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{what} {title} failed:\n{done.stderr[-2000:]}")
                return 1
            found = json.loads(done.stdout.splitlines()[-1])
            results["cases"][what][title] = found
            print(what, title, {name: round(value) for name, value in found.items()}, flush=True)
    (ROOT / "docs/results/growth.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
