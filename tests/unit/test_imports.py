"""What needs no Keras does not import it."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import demur
from demur import starting
from demur.errors import InvalidSetting, MissingExtra


@pytest.mark.parametrize(
    "module",
    [
        "demur",
        "demur.errors",
        "demur.calibration.thresholds",
        "demur.metrics",
        "demur.rows.layout",
        "demur.cli",
        "demur.runtime",
        "demur.drift.monitor",
        "demur.serve.launch",
    ],
)
def test_import_leaves_keras_alone(module):
    code = f"import sys, {module}; print(sorted({{'keras', 'tensorflow', 'torch', 'jax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["sklearn", "pyod"])
def test_an_adapter_without_its_package_says_what_to_install(package, monkeypatch):
    for name in [name for name in sys.modules if name in (f"demur.{package}", f"demur.integrations.{package}")]:
        monkeypatch.delitem(sys.modules, name)
    missing = {"sklearn": "sklearn.base", "pyod": "pyod.models.base"}[package]
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'demur\[{package}\]'"):
        importlib.import_module(f"demur.{package}")


@pytest.mark.slow
def test_detectors_import_no_package_of_any_classifier():
    """Found by type, a classifier's framework is imported by whoever made the classifier."""
    others = {"torch", "flax", "equinox", "onnxruntime", "xgboost", "lightgbm", "polars", "pyod", "tenacity"}
    code = f"import sys, demur; demur.ModelDistillation; demur.BlackBox; print(sorted({others} & set(sys.modules)))"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("settings", "expected"), [("jax", "jax"), ("paddle", "tensorflow"), (None, "tensorflow")])
def test_keras_computes_with_what_is_installed(settings, expected, tmp_path):
    if settings is not None:
        (tmp_path / "keras.json").write_text(json.dumps({"backend": settings}))
    code = (
        "import os, demur.starting as s; s.take_an_installed_backend(); "
        "print(os.environ.get('KERAS_BACKEND'), s._usual_backend())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment["KERAS_HOME"] = str(tmp_path)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", expected]


def test_a_backend_that_is_missing_is_replaced_and_one_asked_for_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    starting.take_an_installed_backend()
    assert os.environ.pop("KERAS_BACKEND") == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "pytorch")
    with pytest.raises(InvalidSetting, match="KERAS_BACKEND is one of tensorflow, jax, torch; got 'pytorch'"):
        starting.take_an_installed_backend()


def test_names_of_alibi_detect_lead_to_the_same():
    import demur.ad
    import demur.saving

    assert demur.ad.AdversarialAE is demur.AdversarialAE
    assert demur.saving.save_detector is demur.save_detector
    with pytest.raises(AttributeError) as caught:
        demur.plot  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("plot", demur)


def test_the_runtime_needs_numpy_alone_until_a_guard_is_loaded():
    code = "import sys, demur.runtime; print(sorted({'onnxruntime', 'onnx', 'scipy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onnxruntime_reports_to_nobody_unless_told_to(given, expected):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    code = (
        "import os; from demur.onnx.session import onnxruntime_module; onnxruntime_module();"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


MISSING = """
import contextlib, sys
from demur import cli, load_detector
from demur.onnx import runtime
from demur.errors import DetectorNotFound

for load in (load_detector, runtime.load):
    with contextlib.suppress(DetectorNotFound):
        load("none.onnx")
for command in sys.stdin.read().splitlines():
    assert cli.main(command.split()) == 1, command
    assert "keras" not in sys.modules, command
"""
COMMANDS = """
fit none.keras --data rows.npy --out guard
fit none.safetensors --data rows.npy --out guard --module m:f
fit rows.npy --data none.npy --out guard
fit rows.npy --data rows.npy --companion none.keras --out guard
threshold none --data rows.npy
predict none.onnx --data rows.npy
drift --detector none rows.npy
monitor --detector none --state state.json
calibrate-accuracy none --data rows.npy --labels rows.npy
estimate-accuracy none --data rows.npy
evaluate none --data rows.npy --labels rows.npy
report none.json
export none -o guard.onnx
serve none
score none*.npy --guard guard --out scores
score rows.npy --guard none --out scores
"""


def test_a_missing_path_is_told_before_keras_is_imported(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "detector.json").write_text('{"format": 1, "files": {}}')
    run = {"cwd": tmp_path, "capture_output": True, "text": True, "input": COMMANDS.strip()}
    done = subprocess.run([sys.executable, "-c", MISSING], check=False, **run)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("there is no ") >= len(COMMANDS.split("\n")) - 3


SAVED = """
import sys, keras, numpy as np
from demur import AdversarialAE, load_detector

X = np.random.default_rng(0).random((60, 4)).astype("float32")
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2, activation="softmax")])
detector = AdversarialAE(model=model).fit(X[:30], epochs=1, verbose=False).infer_threshold(X[30:], fpr=0.1)
detector.save("guard")
load_detector("guard").export("guard.onnx")
assert "tensorflow" not in sys.modules
from keras.src.utils.module_utils import tensorflow
assert tensorflow._available is None  # and who wants it may have it
"""


@pytest.mark.slow
def test_tensorflow_is_left_alone_on_another_backend(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SAVED], check=False, **run)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there_and_listed():

    for name in demur.__all__:
        assert getattr(demur, name) is not None
        assert name in dir(demur)
    with pytest.raises(AttributeError, match="no attribute 'Detectors'"):
        _ = demur.Detectors
