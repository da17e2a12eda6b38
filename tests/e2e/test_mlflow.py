"""`demur.mlflow` with the real MLflow: saved, logged, registered, loaded and asked, as docs/deploy.md shows."""

import importlib
import json
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

import demur.runtime
from demur import ModelDistillation, __version__
from demur.errors import MissingExtra, NonFinite, NotADetector, NotExportable, ShapeMismatch, WrongType
from tests.scaffold.advice import advises
from tests.scaffold.deployed import ROOT, digits, guards, quiet_environment, run, texts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own, at its import
    import mlflow
    from mlflow.exceptions import MlflowException

    import demur.mlflow

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
COLUMNS = ["is_adversarial", "instance_score", "p_value", "corrected", "no_defense", "defense"]

# MLflow advises: to say an input example, to use a database.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


@pytest.fixture(scope="module", autouse=True)
def _environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SILENT.items():
            patch.setenv(name, value)
        patch.chdir(tmp_path_factory.mktemp("mlflow"))
        yield


@pytest.fixture(scope="module")
def guard():
    return demur.runtime.load(guards() / "digits.onnx")


@pytest.fixture(scope="module")
def saved(guard, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    demur.mlflow.save_model(guard, path, input_example=digits()[:2])
    return path


@pytest.fixture
def store(tmp_path):
    """A tracking store and a registry in files."""
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield
    mlflow.set_tracking_uri(None)


def assert_says(table, guard, X, **settings):
    """A table says what the guard does."""
    data = guard.correct(X, **settings)["data"]
    assert list(table.columns) == COLUMNS
    for name in COLUMNS:
        np.testing.assert_array_equal(table[name].to_numpy(), data[name], err_msg=name)


def test_without_mlflow_it_says_what_to_install(monkeypatch):
    for name in ("demur.mlflow", "demur.integrations.mlflow"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow.models", None)
    with pytest.raises(MissingExtra, match=r"pip install 'demur\[mlflow\]'"):
        importlib.import_module("demur.mlflow")


def test_a_python_function_says_what_the_guard_does(saved, guard):
    assert_says(mlflow.pyfunc.load_model(str(saved)).predict(digits()), guard, digits())


@pytest.mark.parametrize("threshold", [0.0, 0.3, 100.0])
def test_a_threshold_is_a_parameter(saved, guard, threshold):
    table = mlflow.pyfunc.load_model(str(saved)).predict(digits(), params={"threshold": threshold})
    assert_says(table, guard, digits(), threshold=threshold)


def test_a_table_can_be_a_data_frame_and_has_a_threshold_for_each_class(tmp_path):
    guard = demur.runtime.load(guards() / "wine.onnx")
    demur.mlflow.save_model(guard, tmp_path / "model")
    function = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    X = np.random.default_rng(0).normal(size=(30, 13)).astype("float32")
    X[3, 4] = np.nan
    named = pd.DataFrame(X, columns=[f"feature {number}" for number in range(13)])
    for rows in (X, named):
        assert_says(function.predict(rows), guard, X)
    thresholds = [0.0, 0.1, 100.0]
    assert_says(function.predict(named, params={"threshold": thresholds}), guard, X, threshold=thresholds)


def test_several_inputs_are_taken_by_name(tmp_path):
    guard = demur.runtime.load(guards() / "text.onnx")
    demur.mlflow.save_model(guard, tmp_path / "model")
    function = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert function.metadata.signature.inputs.input_names() == ["ids", "mask"]
    X = texts(np.random.default_rng(1))
    turned = {"mask": X["mask"], "ids": X["ids"]}
    assert_says(function.predict(turned), guard, X)
    assert_says(demur.mlflow._load_pyfunc(str(guard.path)).predict(turned), guard, X)  # MLflow has put them in order


def test_the_signature_is_the_guards(saved, guard):
    signature = mlflow.models.get_model_info(str(saved)).signature
    assert str(signature.inputs) == "[Tensor('float32', (-1, 8, 8, 1))]"
    assert signature.outputs.input_names() == COLUMNS
    [threshold] = signature.params
    assert (threshold.name, threshold.default) == ("threshold", guard.threshold)
    table = mlflow.pyfunc.load_model(str(saved)).predict(digits())
    kinds = {"boolean": "bool", "float": "float32", "double": "float64", "long": "int64"}
    assert [kinds[kind.name] for kind in signature.outputs.input_types()] == [str(kind) for kind in table.dtypes]


def test_other_types_and_shapes_are_refused(saved):
    function = mlflow.pyfunc.load_model(str(saved))
    with pytest.raises(MlflowException, match="dtype of input float64 does not match expected dtype float32"):
        function.predict(digits().astype("float64"))
    with pytest.raises(MlflowException, match=r"Shape of input \(20, 4, 8, 1\) does not match"):
        function.predict(digits()[:, :4])


def test_rows_that_cannot_be_judged_are_an_error(saved):
    with pytest.raises(NonFinite, match="in 20 of 20 rows"):
        mlflow.pyfunc.load_model(str(saved)).predict(np.full_like(digits(), np.nan))


def test_the_function_takes_arrays_by_name(saved, guard):
    loaded = demur.mlflow._load_pyfunc(str(saved / "data" / "guard.onnx"))
    assert_says(loaded.predict({"x": digits()}), guard, digits())
    with pytest.raises(ShapeMismatch, match="the inputs are x; got y"):
        loaded.predict({"y": digits()})


def test_the_folder_names_what_it_needs(saved, guard):
    requirements = (saved / "requirements.txt").read_text().split()
    assert f"demur[onnx]=={__version__}" in requirements
    assert not [line for line in requirements if "keras" in line or "tensorflow" in line]
    described = yaml.safe_load((saved / "MLmodel").read_text())["flavors"]["demur"]
    assert described == {
        "data": "data/guard.onnx",
        "detector": "ModelDistillation",
        "sha256": guard.sha256,
        "version": __version__,
    }
    assert demur.mlflow.load_model(saved).sha256 == guard.sha256


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pip_requirements": ["demur[onnx]==9.9"]}, ["demur[onnx]==9.9"]),
        ({"extra_pip_requirements": ["pillow"]}, [f"demur[onnx]=={__version__}", "pillow"]),
        ({"extra_pip_requirements": "more.txt"}, [f"demur[onnx]=={__version__}", "pillow"]),
    ],
)
def test_requirements_can_be_said(guard, tmp_path, monkeypatch, options, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.txt").write_text("pillow")
    demur.mlflow.save_model(guard, tmp_path / "model", **options)
    ours = (tmp_path / "model" / "requirements.txt").read_text().split()[1:]  # MLflow itself comes first
    assert ours == expected


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_the_path_of_a_guard_does_too(guard, tmp_path, kind):
    demur.mlflow.save_model(kind(guard.path), tmp_path / "model")
    assert demur.mlflow.load_model(tmp_path / "model").sha256 == guard.sha256


def test_what_is_no_guard_is_told_at_once(tmp_path):
    with pytest.raises(WrongType, match="guard is a detector, an exported guard or the path of one; got int"):
        demur.mlflow.save_model(3, tmp_path / "model")
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(NotADetector, match="cannot load"):
        demur.mlflow.save_model(tmp_path / "other.onnx", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_guard_that_asks_its_classifier_is_logged_as_an_artifact(store, tmp_path):
    def classify(rows):
        return np.exp(rows[:, :3]) / np.exp(rows[:, :3]).sum(axis=1, keepdims=True)

    X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    detector = ModelDistillation(model=classify).fit(X, epochs=1, verbose=False).infer_threshold(X, fpr=0.1)
    with advises(NotExportable, "log the file with mlflow.log_artifact, and load it with demur.runtime.load"):
        demur.mlflow.save_model(detector, tmp_path / "model")
    detector.export(tmp_path / "guard.onnx")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "guard.onnx"))
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="guard.onnx")
    loaded = demur.runtime.load(path, model=classify)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-4, atol=1e-5)


def test_a_model_of_another_flavour_is_no_guard(tmp_path):
    mlflow.models.Model().add_flavor("onnx", data="model.onnx").save(str(tmp_path / "MLmodel"))
    with pytest.raises(WrongType, match="it has the flavors onnx"):
        demur.mlflow.load_model(tmp_path)


def test_the_page_runs(store):
    """A detector, exported on the way, logged and registered."""
    detector = fitted_detector()
    names = {"detector": detector, "X": digits()}
    section = PAGE.partition("## MLflow\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(block, names)
    assert_says(names["function"].predict(digits()), names["guard"], digits())
    live = detector.correct(digits())["data"]["corrected"]
    np.testing.assert_array_equal(names["guard"].correct(digits())["data"]["corrected"], live)
    assert demur.mlflow.load_model(names["info"].model_uri).sha256 == names["guard"].sha256


def fitted_detector():
    import keras
    from keras import layers

    from demur import ModelDistillation

    def network(units):
        hidden = layers.Dense(units, activation="relu")
        return keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(10, "softmax")])

    keras.utils.set_random_seed(1)
    detector = ModelDistillation(model=network(16), distilled_model=network(8))
    X = digits(slice(0, 100))
    return detector.fit(X, epochs=1, verbose=0).infer_threshold(X, fpr=0.05)


def test_the_command_line_predicts_without_keras(saved, guard, tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"inputs": digits().tolist()}))
    answer = tmp_path / "answer.json"
    # A package that cannot be imported stands in for one that is not there.
    (tmp_path / "keras.py").write_text("raise ImportError('Keras is not needed')")
    command = [sys.executable, "-m", "mlflow", "models", "predict", "--env-manager", "local", "--model-uri", saved]
    env = quiet_environment(**SILENT, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT / "src")]))
    run(*command, "--input-path", request, "--output-path", answer, env=env, cwd=tmp_path)
    table = pd.DataFrame(json.loads(answer.read_text())["predictions"])
    data = guard.correct(digits())["data"]
    assert list(table.columns) == COLUMNS
    for name in COLUMNS:
        np.testing.assert_allclose(table[name].to_numpy(), data[name], rtol=1e-6, err_msg=name)


def test_loading_a_model_imports_no_keras(saved):
    code = f"import demur.mlflow, sys; demur.mlflow.load_model({str(saved)!r}); print('keras' in sys.modules)"
    env = quiet_environment(**SILENT, PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
