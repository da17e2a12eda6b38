"""A guard of a few NumPy lines, with the interface of `demur.runtime.Guard`, and what tests of the server share."""

import asyncio
import contextlib
import hashlib
import threading
import time
from pathlib import Path

import numpy as np

from demur.calibration.thresholds import Calibration, ScoreDistribution, conformal_threshold
from demur.rows.classes import Classes
from demur.rows.layout import Field
from demur.serve.serving.models import Models, Served
from demur.serve.settings import Settings

POISON = 666.0
"""A first pixel that makes the guard fail."""
SHAPE = (8, 8, 1)


class FakeGuard:
    """Judges images of 8 x 8 by two fixed linear maps; the score is how far their results are apart."""

    takes_reference, scale = False, None

    def __init__(self, name="guard", seed=0, on_invalid="raise", threshold=None, shape=SHAPE):
        self.name, self.on_invalid = name, on_invalid
        self.path = Path(f"{name}.onnx")
        self.sha256 = hashlib.sha256(f"{name} {seed} {shape}".encode()).hexdigest()
        self.detector, self.classes, self.labels = "AdversarialAE", 10, Classes(10)
        self.layout = Field(shape, "float32")
        self.inputs = {"x": self.layout}
        self.metadata = {"demur.detector": "AdversarialAE"}
        self.shape = shape
        generator = np.random.default_rng(seed)
        self.weights = generator.normal(size=(2, int(np.prod(shape)), 10)).astype("float32")
        normal = self._score(generator.random((400, *shape), "float32"))[0]
        self.threshold = conformal_threshold(normal, 0.05) if threshold is None else threshold
        self.calibration = Calibration({None: ScoreDistribution.of(normal)}, self.threshold, 0.05)
        label, vector = Field((), "int64"), Field((10,), "float32")
        self.outputs = {
            "instance_score": Field((), "float32"),
            "is_adversarial": Field((), "bool"),
            "p_value": Field((), "float64"),
            "corrected": label,
            "no_defense": label,
            "defense": label,
            "probabilities": vector,
            "reconstruction": self.layout,
        }
        self.default_outputs = tuple(name for name in self.outputs if name != "reconstruction")
        self.calls = []
        """Rows, and outputs, of each pass."""
        self.began = threading.Semaphore(0)
        """One more for each pass that began."""
        self.gate = threading.Event()
        """Passes wait until it is set."""
        self.gate.set()

    def _score(self, x):
        flat = np.asarray(x, "float32").reshape(len(x), -1)
        # Row by row: so that a batch gives what its rows give alone, to the last bit.
        logits = np.stack([(row[None] @ self.weights)[:, 0] for row in flat], axis=1)
        return np.abs(logits[0] - logits[1]).sum(axis=1), logits

    def run(self, feed, outputs=None, threshold=None):
        x = feed["x"]
        assert x.dtype == np.float32
        assert x.shape[1:] == self.shape
        self.calls.append((len(x), outputs))
        self.began.release()
        assert self.gate.wait(20)
        if (x.reshape(len(x), -1)[:, 0] == POISON).any():
            raise RuntimeError("secret detail of the poisoned row")
        with np.errstate(invalid="ignore"):
            score, logits = self._score(x)
        judged = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        score = np.where(judged, score, np.inf).astype("float32")
        flagged = score > np.float32(self.threshold if threshold is None else threshold)
        no_defense, defense = logits.argmax(axis=2)
        chosen = np.where((flagged & judged)[:, None], logits[1], logits[0])
        weights = np.exp(np.nan_to_num(chosen - chosen.max(axis=1, keepdims=True)))
        found = {
            "instance_score": score,
            "is_adversarial": flagged,
            "p_value": self.calibration.p_values(score, no_defense),
            "corrected": np.where(flagged & judged, defense, no_defense),
            "no_defense": no_defense,
            "defense": defense,
            "probabilities": weights / weights.sum(axis=1, keepdims=True),
        }
        if outputs is not None and "reconstruction" in outputs:
            found["reconstruction"] = x / 2
        return {name: found[name] for name in (outputs or self.default_outputs)}


def models(*guards, load=None):
    """Models of guards that come from no files."""
    given = {"load": load} if load is not None else {}
    return Models([Served(guard.name, guard.path, guard, (0,)) for guard in guards or (FakeGuard(),)], **given)


def images(n, seed=1, shape=SHAPE):
    return np.random.default_rng(seed).random((n, *shape), "float32")


class Running:
    """A server on a free port, in a thread with an event loop of its own."""

    def __init__(self, guards=None, *, keys=None, tracer=None, **settings):
        from demur.serve.launch import Host

        self.settings = Settings(port=0, reload=False, access_log=False, **settings)
        self._ready = threading.Event()
        self._models = guards if isinstance(guards, Models) else models(*(guards or ()))
        self._host = Host(self._models, self.settings, keys=keys, tracer=tracer, ready=self._ready.set)
        self._thread = threading.Thread(target=self._host.run)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        self.port = self._host.port
        self.url = f"{self.settings.scheme}://127.0.0.1:{self.port}"
        self.service = self._host.service
        return self

    def __exit__(self, *error):
        self.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def stop(self):
        self._host.stop()

    @property
    def connections(self):
        """Those that are open."""
        return self._host.server.server_state.connections

    def call(self, coroutine):
        """Run something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._host.loop).result(20)


def until(condition, seconds=15):
    """Wait for what other threads bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextlib.contextmanager
def held(guard):
    """Passes of the guard do not end meanwhile."""
    guard.gate.clear()
    try:
        yield
    finally:
        guard.gate.set()
