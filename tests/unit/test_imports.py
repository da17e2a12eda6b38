"""What needs no Keras does not import it."""

import importlib
import os
import subprocess
import sys

import pytest

from demur.errors import MissingExtra


@pytest.mark.parametrize(
    "module",
    [
        "demur",
        "demur.errors",
        "demur.calibration",
        "demur.metrics",
        "demur.data",
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
    for name in [name for name in sys.modules if name == f"demur.{package}"]:
        monkeypatch.delitem(sys.modules, name)
    missing = {"sklearn": "sklearn.base", "pyod": "pyod.models.base"}[package]
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'demur\[{package}\]'"):
        importlib.import_module(f"demur.{package}")


def test_detectors_import_no_package_of_any_classifier():
    """Found by type, a classifier's framework is imported by whoever made the classifier."""
    others = {"torch", "flax", "equinox", "onnxruntime", "xgboost", "lightgbm", "polars", "pyod", "tenacity"}
    code = f"import sys, demur; demur.ModelDistillation; demur.BlackBox; print(sorted({others} & set(sys.modules)))"
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_runtime_needs_numpy_alone_until_a_guard_is_loaded():
    code = "import sys, demur.runtime; print(sorted({'onnxruntime', 'onnx', 'scipy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onnxruntime_reports_to_nobody_unless_told_to(given, expected):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
    code = (
        "import os; from demur.onnx_session import onnxruntime_module; onnxruntime_module();"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_public_names_are_there_and_listed():
    import demur

    for name in demur.__all__:
        assert getattr(demur, name) is not None
        assert name in dir(demur)
    with pytest.raises(AttributeError, match="no attribute 'Detectors'"):
        _ = demur.Detectors
