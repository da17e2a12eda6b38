"""What the tests of deployments share: two exported guards, environments of their own for packages, and servers."""

import contextlib
import functools
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90
"""Seconds that a server may take to start, on a busy machine."""

_folder = tempfile.TemporaryDirectory()


@functools.cache
def guards():
    """A folder with three guards.

    `digits.onnx`: of images. `wine.onnx`: of rows of a table, with a threshold for each class; it flags what it cannot
    judge. `text.onnx`: of two arrays by name.
    """
    import keras
    from keras import layers
    from sklearn.datasets import load_wine

    from demur import ModelDistillation

    def network(shape, units, classes):
        hidden = layers.Dense(units, activation="relu")
        return keras.Sequential([layers.Input(shape), layers.Flatten(), hidden, layers.Dense(classes, "softmax")])

    folder = Path(_folder.name)
    keras.utils.set_random_seed(0)
    X = digits(slice(0, 300))
    detector = ModelDistillation(model=network((8, 8, 1), 16, 10), distilled_model=network((8, 8, 1), 8, 10))
    detector.fit(X, epochs=1, verbose=0).infer_threshold(X, fpr=0.05).export(folder / "digits.onnx")
    X, _ = load_wine(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32")
    detector = ModelDistillation(model=network((13,), 16, 3), distilled_model=network((13,), 8, 3), on_invalid="flag")
    detector.fit(X, epochs=1, verbose=0)
    detector.infer_threshold(X, threshold_perc=95, groups="predicted").export(folder / "wine.onnx")

    def reader(units):
        ids, mask = keras.Input((6,), dtype="int32", name="ids"), keras.Input((6,), name="mask")
        words = layers.Multiply()([layers.Embedding(20, units)(ids), layers.Reshape((6, 1))(mask)])
        outputs = layers.Dense(3, "softmax")(layers.Rescaling(30.0)(layers.GlobalAveragePooling1D()(words)))
        return keras.Model({"ids": ids, "mask": mask}, outputs)

    detector = ModelDistillation(model=reader(8), distilled_model=reader(4))
    X = texts(np.random.default_rng(0), 100)
    detector.fit(X, epochs=1, verbose=0).infer_threshold(X, fpr=0.05).export(folder / "text.onnx")
    return folder


def texts(rng, n=10):
    """Token ids, int32, and the mask of those that are words, float32, `(n, 6)` each."""
    return {"ids": rng.integers(1, 20, (n, 6), "int32"), "mask": rng.integers(0, 2, (n, 6)).astype("float32")}


def digits(rows=slice(300, 320)):
    """Images of digits, float32 `(n, 8, 8, 1)`; by default, some that no guard was calibrated on."""
    from sklearn.datasets import load_digits

    X, _ = load_digits(return_X_y=True)
    return (X[rows] / 16).astype("float32").reshape(-1, 8, 8, 1)


def environment(name, *requirements, install=None):
    """The Python of a virtual environment, `.venv/NAME`; made where it is missing or was made otherwise.

    Args:
        name: of its folder.
        *requirements: as pip takes them.
        install: called with the folder to make it; None: `python -m venv`, and the requirements are installed.
    """
    folder = ROOT / ".venv" / name
    recipe = hashlib.sha256(json.dumps([requirements, sys.version, str(ROOT)]).encode()).hexdigest()
    made_of = folder / "made-of.txt"
    python = folder / "bin" / "python"
    if made_of.exists() and made_of.read_text() == recipe:
        return python
    if install is None:
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", folder)
        if not installed_by_uv(python, *requirements):
            run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements)
    else:
        install(folder)
    made_of.write_text(recipe)
    return python


def installed_by_uv(python, *requirements, **options):
    """Whether uv has installed what pip would: in a second instead of a minute.

    False where it is not there, or does not see the packages that pip sees here.
    """
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *requirements]
    return subprocess.run(command, capture_output=True, check=False, **options).returncode == 0


def run(*command, **options):
    """Run a command, and show what it said if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def quiet_environment(**more):
    """Variables for a process that shall report to nobody."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1", **more}


class Server:
    """A process that answers over HTTP on a port of this machine."""

    def __init__(self, process, port, log):
        self.process, self.port, self.log = process, port, log

    def ask(self, path, document=None):
        """The status and the parsed body of an answer."""
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        return status, json.loads(text) if text else None

    def infer(self, name, X, **more):
        """What a model answers to rows for its input `x`."""
        return self.ask(f"/v2/models/{name}/infer", {"inputs": [tensor("x", X)], **more})

    def end(self):
        """Tell it to end; its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


@contextlib.contextmanager
def serving(command, port, folder, env):
    """Start a server, and wait until it is ready."""
    log = Path(folder) / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                if server.ask("/v2/health/ready")[0] == 200:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
        with contextlib.suppress(ProcessLookupError):  # its workers too, should they outlive it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tensor(name, X, datatype="FP32"):
    """Rows as an input of the protocol."""
    return {"name": name, "shape": list(X.shape), "datatype": datatype, "data": X.ravel().tolist()}


def arrays(answer):
    """The outputs of an answer as arrays."""
    types = {"BOOL": "bool", "FP32": "float32", "FP64": "float64", "INT64": "int64"}
    return {
        output["name"]: np.array(output["data"], types[output["datatype"]]).reshape(output["shape"])
        for output in answer["outputs"]
    }


def assert_same(found, expected):
    """Arrays by name: numbers within rounding, all else equal."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
