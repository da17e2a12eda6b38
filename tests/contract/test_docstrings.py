"""The examples in docstrings run: each in an empty folder, with the names that docs/api/index.md lists."""

import ast
import doctest
import functools
import importlib
import importlib.util
import json
import shutil
from pathlib import Path

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

import demur
import demur.classifiers
from tests.scaffold import evaluation_example, guards

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EVERYWHERE = ("classifiers", "detectors", "drift", "evaluation.attacks", "plots", "serve")
"""Packages of demur whose exports an example may use besides the names of its own module."""
ONCE = tuple(
    f"demur.{name}" for name in ("batch", "calibration", "datasets", "metrics", "mlflow", "plots", "report", "serve")
)
"""What does not compute with Keras: its examples run on one backend."""
ABSENT = {"demur.integrations.mlserver": "mlserver"}
"""Modules that cannot be imported without a package that the development environment does not have."""

matplotlib.use("agg")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


def docstrings():
    """Every docstring with an example: `(module, name, line, text)`."""
    for file in sorted(SOURCE.glob("demur/**/*.py")):
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield module, getattr(node, "name", "module"), node.body[0].lineno, text


EXAMPLES = [one for one in docstrings() if keras.backend.backend() == "tensorflow" or not one[0].startswith(ONCE)]


@functools.cache
def tables():
    """Wines: the rows that a forest has learned from, others, and the forest."""
    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    forest = RandomForestClassifier(10, random_state=0).fit(X[order[:140]], y[order[:140]])
    return X[order[:140]], X[order[140:]], forest


@pytest.fixture(scope="session")
def guard_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "guard.onnx"
    guards.guard("AdversarialAE").export(path)
    return path


@pytest.fixture
def names(monkeypatch):
    """What an example finds: made once a process, and left as it was."""
    rows, new_rows, forest = tables()
    data, detector = guards.data(), guards.guard("AdversarialAE")
    for name in ("_threshold", "calibration", "harm"):
        monkeypatch.setattr(detector, name, getattr(detector, name))
    monkeypatch.setattr(demur.classifiers, "SOURCES", list(demur.classifiers.SOURCES))
    yield {
        "np": np, "json": json, "Path": Path, "demur": demur,
        "classifier": guards.classifier(), "detector": detector,
        "X_train": data.train.x, "X_held_out": data.held_out.x, "X_new": data.test.x[:40], "y_new": data.test.y[:40],
        "X_test": data.test.x, "y_test": data.test.y,
        "rows": rows, "new_rows": new_rows, "forest": forest, "evaluation": evaluation_example.example(),
    }  # fmt: skip
    plt.close("all")


@functools.cache
def public():
    """What demur and its packages export."""
    found = {}
    for name in ("demur", *(f"demur.{one}" for one in EVERYWHERE)):
        package = importlib.import_module(name)
        found |= {one: getattr(package, one) for one in getattr(package, "__all__", ()) if one not in found}
    return found


@pytest.mark.parametrize(
    ("module", "name", "line", "text"), [pytest.param(*one, id=f"{one[0]}.{one[1]}") for one in EXAMPLES]
)
def test_the_example_runs(module, name, line, text, names, tmp_path, monkeypatch, request):
    if module in ABSENT and importlib.util.find_spec(ABSENT[module]) is None:
        pytest.skip(f"{ABSENT[module]} is not installed")
    monkeypatch.chdir(tmp_path)
    if "guard.onnx" in text:
        shutil.copy(request.getfixturevalue("guard_file"), "guard.onnx")
    globs = {**public(), **vars(importlib.import_module(module)), **names}
    test = doctest.DocTestParser().get_doctest(text, globs, f"{module}.{name}", str(SOURCE), line)
    said = []
    failed = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append).failed
    assert not failed, "".join(said)
