"""Nothing kills a saved detector: not SIGKILL at any moment of a save, not a full disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from demur import load_detector

KILLS = 50

# Keras on NumPy alone: nothing of it runs in threads, so a process can be forked after the slow import.
SAVER = """
import os, sys
import keras, numpy as np
from keras import layers
from demur import ModelDistillation

path = sys.argv[1]
def detector(seed):
    def net(n):
        rng = np.random.default_rng(seed + n)
        model = keras.Sequential([layers.Input((6,)), layers.Dense(n), layers.Dense(3, activation="softmax")])
        model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
        return model
    return ModelDistillation(model=net(8), distilled_model=net(4), threshold=float(seed))
detectors = [detector(1), detector(2)]
detectors[0].save(path)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        for turn in range(1000):
            detectors[turn % 2].save(path)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.fixture
def saver(tmp_path):
    """A process that, for each line, starts another that saves over a detector, again and again, until killed."""
    path = tmp_path / "detector"
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "numpy"},
    )
    assert process.stdout.readline().strip() == "ready"
    yield path, process
    process.stdin.close()
    process.stdout.close()
    process.wait()


@pytest.mark.nightly
def test_a_detector_killed_while_saving_is_the_old_or_the_new_one(saver):
    path, process = saver
    X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    scores = {}
    chance, seen, interrupted = random.Random(0), [], 0
    for _ in range(KILLS):
        process.stdin.write("\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        time.sleep(chance.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        assert process.stdout.readline().strip() == "gone"
        document = json.loads((path / "detector.json").read_text())
        named = {"detector.json", *(entry["file"] for entry in document["files"].values())}
        interrupted += {file.name for file in path.iterdir()} != named
        detector = load_detector(path)
        assert detector.threshold in (1.0, 2.0)
        score = detector.score(X)
        np.testing.assert_allclose(score, scores.setdefault(detector.threshold, score), atol=1e-6)
        seen.append(detector.threshold)
    assert set(seen) == {1.0, 2.0}, "every kill left the same detector: none of the saves ever took effect"
    assert interrupted >= KILLS / 5, f"only {interrupted} of {KILLS} kills hit a save half-way"
    # What the killed ones left is cleared away by the next whole save.
    load_detector(path).save(path)
    document = json.loads((path / "detector.json").read_text())
    named = {"detector.json", *(entry["file"] for entry in document["files"].values())}
    assert {file.name for file in path.iterdir()} == named


LIMITED = """
import resource, signal, sys
from demur import load_detector
detector = load_detector(sys.argv[1])
detector.threshold = 99.0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in (0, 100, 4096, 20_000):
    for target in sys.argv[1:]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            detector.save(target)
            raised = False
        except OSError:
            raised = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        print(limit, raised, flush=True)
"""

DATA = Path(__file__).parents[1] / "parity" / "data"


def test_a_full_disk_leaves_the_old_detector_and_raises(tmp_path):
    """A limit on the size of files stands for the disk: what is over it fails to be written."""
    path = tmp_path / "detector"
    load_detector(DATA / "adversarial_ae").save(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert max(map(len, before.values())) > 20_000
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(tmp_path / "new")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "numpy"},
    )
    assert done.stdout.split() == [word for limit in (0, 100, 4096, 20_000) for word in [str(limit), "True"] * 2]
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert not (tmp_path / "new").exists()
