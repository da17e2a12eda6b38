"""`demur export` in a temporary folder: what it prints, writes and refuses."""

import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import demur.runtime
from demur import BlackBox, ModelDistillation, cli
from demur.errors import InvalidSetting
from tests.scaffold.advice import advises, run_raising

ROUNDING = 1e-5


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A detector with a threshold, made by the commands, and rows."""
    folder = tmp_path_factory.mktemp("data")
    images = (load_digits().images.reshape(-1, 64) / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10, activation="softmax")])
    model.save(folder / "classifier.keras")
    np.save(folder / "train.npy", images[:300])
    np.save(folder / "held_out.npy", images[300:700])
    np.save(folder / "bytes.npy", (images[300:400] * 16).astype("uint8"))
    guard = str(folder / "guard")
    fit = ["fit", str(folder / "classifier.keras"), "--data", str(folder / "train.npy"), "--out", guard]
    assert cli.main([*fit, "--detector", "model-distillation", "--epochs", "1", "--quiet"]) == 0
    assert cli.main(["threshold", guard, "--data", str(folder / "held_out.npy"), "--fpr", "0.1", "--quiet"]) == 0
    return folder


def run(*arguments):
    return cli.main(["export", *map(str, arguments)])


def test_the_file_is_the_detector(data, tmp_path, capsys):
    out = tmp_path / "guard.onnx"
    assert run(data / "guard", "-o", out) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ModelDistillation, float32, ")
    assert f"written to {out}" in printed
    assert f"demur serve {out}" in printed
    guard = demur.runtime.load(out)
    X = np.load(data / "held_out.npy")
    live = demur.load_detector(data / "guard")
    np.testing.assert_allclose(guard.score(X), live.score(X), atol=ROUNDING)
    assert guard.threshold == live.threshold


def test_data_are_scaled_as_by_other_commands(data, tmp_path, capsys):
    out = tmp_path / "guard.onnx"
    assert run(data / "guard", "-o", out, "--data", data / "bytes.npy", "--scale", "0.0625", "--opset", "15") == 0
    assert "compared with the detector" in capsys.readouterr().out


def test_less_precision_says_what_it_costs(data, tmp_path, capsys):
    out = tmp_path / "guard.onnx"
    arguments = [data / "guard", "-o", out, "--int8", "--data", data / "held_out.npy"]
    assert run(*arguments, "--max-loss", "0.5") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ModelDistillation, int8, ")
    assert "AUROC" in printed
    assert "agreement" in printed
    assert json.loads(demur.runtime.load(out).metadata["demur.precision"]) == "int8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "guard.txt"], ".onnx"),
        (["-o", "none/guard.onnx"], "make it first"),
        (["-o", "guard.onnx", "--int8"], "needs X="),
        (["-o", "guard.onnx", "--bad", "bad.npy"], "--float16 or --int8"),
        (["-o", "guard.onnx", "--opset", "3"], "opset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_told_in_one_line(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(data / "guard", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("demur: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_what_less_precision_costs_is_asked_with_it(data, tmp_path):
    np.save(tmp_path / "bad.npy", 1 - np.load(data / "held_out.npy"))
    arguments = [data / "guard", "-o", tmp_path / "guard.onnx", "--bad", tmp_path / "bad.npy"]
    with advises(InvalidSetting, "--bad tells what less precision costs: pass --float16 or --int8 with it"):
        run_raising("export", *arguments)
    for smaller in ("--float16", "--int8"):
        assert run(*arguments, smaller, "--data", data / "held_out.npy", "--max-loss", "1") == 0


def test_a_classifier_outside_of_the_folder_is_not_needed(tmp_path, capsys):
    X = np.random.default_rng(0).random((60, 5)).astype("float32")
    model = BlackBox(lambda rows: np.stack([rows[:, 0], 1 - rows[:, 0]], axis=1), fingerprint="forest-v1")
    detector = ModelDistillation(model=model).fit(X, epochs=1, verbose=False).infer_threshold(X, fpr=0.2)
    detector.save(tmp_path / "guard")
    out = tmp_path / "guard.onnx"
    assert run(tmp_path / "guard", "-o", out) == 0
    assert "takes the classifier's answers as the input 'reference'" in capsys.readouterr().out
    guard = demur.runtime.load(out, model=model.predict)
    np.testing.assert_allclose(guard.score(X), detector.score(X), atol=ROUNDING)
    assert json.loads(guard.metadata["demur.classifier"]) == "forest-v1"
    np.save(tmp_path / "rows.npy", X)
    assert run(tmp_path / "guard", "-o", out, "--data", tmp_path / "rows.npy") != 0
    assert "name the classifier's file, --classifier FILE" in capsys.readouterr().err
