"""Does memory grow with the number of rows? Scores a file mapped into memory, of more and more rows, under a limit.

    KERAS_BACKEND=tensorflow python benchmarks/memory.py

Each size runs in a process of its own, on a file of 28x28x1 bytes a row: 784 MB for 1,000,000 rows. After a warm-up,
the process may allocate at most 300 MB more (RLIMIT_DATA): beyond, it fails. What it did allocate at most is the growth
of its anonymous memory, read off /proc every 20 ms. Writes docs/results/memory.json.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import growth, status

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1_000, 10_000, 100_000, 1_000_000)
ALLOWED = 300_000_000


def measure(n: int) -> None:
    """Score n rows of a memory map; print the seconds and the bytes of memory it took."""
    import keras
    from keras import layers

    from demur import ModelDistillation

    shape = (28, 28, 1)
    classifier = keras.Sequential(
        [
            layers.Input(shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 5, strides=4, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    student = keras.Sequential([layers.Input(shape), layers.Flatten(), layers.Dense(10, activation="softmax")])
    detector = ModelDistillation(model=classifier, distilled_model=student, threshold=1.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.lib.format.open_memmap(path, "w+", "uint8", (n, *shape)).flush()
        X = np.load(path, mmap_mode="r")
        detector.correct(X[:1000])  # the warm-up
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        with growth() as memory:
            resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + ALLOWED, hard))
            start = time.perf_counter()
            data = detector.correct(X)["data"]
            elapsed = time.perf_counter() - start
    results = sum(value.nbytes for value in data.values())
    print(json.dumps({"seconds": elapsed, "growth": memory["bytes"], "results": results}))


def main() -> int:
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
        return 0
    found = {}
    for n in SIZES:
        done = subprocess.run([sys.executable, __file__, str(n)], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{n:,} rows failed:\n{done.stderr[-2000:]}")
            return 1
        found[str(n)] = json.loads(done.stdout.splitlines()[-1])
        print(f"{n:>9,} rows: {found[str(n)]}", flush=True)
    results = {"allowed": ALLOWED, "cores": len(os.sched_getaffinity(0)), "rows": found}
    (ROOT / "docs/results/memory.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
