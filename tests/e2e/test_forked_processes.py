"""What the error about forked processes advises works: forking first, and processes that start afresh."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing, sys
import numpy as np

X = np.random.default_rng(0).random((300, 8), dtype="float32")


def made():
    import keras
    import demur

    def network():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])

    return demur.ModelDistillation(model=network(), distilled_model=network(), threshold=0.5)


def scored(folder):
    import demur

    return len((demur.load_detector(folder) if folder else made()).score(X))


def run(method, folder):
    with multiprocessing.get_context(method).Pool(1) as pool:
        try:
            print(method, pool.apply_async(scored, (folder,)).get(250), flush=True)
        except Exception as error:
            print(method, type(error).__name__, flush=True)


if __name__ == "__main__":
    import demur

    run("fork", None)
    made().save(sys.argv[1])
    run("fork", sys.argv[1])
    run("spawn", sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked on this system")
def test_what_the_error_advises_works(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    arguments = [sys.executable, "-W", "ignore", str(tmp_path / "script.py"), str(tmp_path / "guard")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout.splitlines() == ["fork 300", "fork ForkedProcess", "spawn 300"], done.stderr[-2000:]
