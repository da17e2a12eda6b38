"""`demur info` tells what guards and evaluations are, and of anything else what to do. No Keras, no onnxruntime."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from demur import cli
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.calibration.words import size
from demur.errors import CorruptDetector, CorruptEvaluation, DetectorNotFound, NotADetector
from demur.guards.description import Description, metadata_of, sealed
from demur.guards.folder import write
from demur.rows.layout import Field, as_json
from tests.scaffold.advice import advises, run_raising
from tests.scaffold.evaluation_example import example
from tests.unit.test_guard_file import description

SHA = "3f" * 32


@pytest.fixture
def folder(tmp_path):
    """A saved detector, but for its networks."""
    calibration = Calibration({None: ScoreDistribution.of(np.linspace(0, 1, 200))}, 0.96, 0.05)
    document = {
        "detector": "ModelDistillation",
        "threshold": 0.96,
        "settings": {"temperature": 1.0, "score_type": "jeffreys", "on_invalid": "raise", "channels_last": False},
        "meta": {"name": "ModelDistillation", "data_type": "image", "version": "0.9"},
        "classifier": {"fingerprint": SHA, "source": "TorchClassifier", "classes": None, "title": "Net"},
        "inputs": {"classifier": as_json(Field((3, 32, 32))), "classes": 10},
        "fitted": True,
        "agreement": {"share": 0.9, "rows": 500, "beyond_chance": 0.88, "held_out": True},
        "versions": {"demur": "0.9", "keras": "3.15", "backend": "torch"},
    }
    write(
        tmp_path / "guard",
        document,
        {"student": ("keras", lambda file: file.write_bytes(b"k" * 5000))},
        {"calibration": calibration.as_arrays()},
    )
    return tmp_path / "guard"


@pytest.fixture
def exported(tmp_path):
    """An exported guard, but for what it computes."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 8])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 8])
    model = onnx.helper.make_model(onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y]))
    onnx.helper.set_model_props(model, description(title="net").as_metadata())
    path = tmp_path / "guard.onnx"
    path.write_bytes(sealed(model.SerializeToString()))
    return path


@pytest.fixture
def evaluation(tmp_path):
    (tmp_path / "evaluation").mkdir()
    example().to_json(tmp_path / "evaluation" / "evaluation.json")
    return tmp_path / "evaluation"


def told(capsys, *arguments):
    assert cli.main(["info", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_a_folder_is_told(folder, capsys):
    flat = " ".join(told(capsys, folder).split())
    for words in (
        f"{folder}: a guard, ModelDistillation, saved in a folder",
        f"classifier Net, SHA-256 {SHA[:12]}",
        "rows (n, 3, 32, 32) float32, image, channels first",
        "agrees with the classifier on 90 % of 500 held-out rows",
        "0.96 nats: flags at most 5 % of rows like the 200 it was inferred from",
        "made with demur 0.9, keras 3.15 on torch",
        "student 5 kB",
        "the classifier is not among them",
    ):
        assert words in flat
    assert told(capsys, folder / "detector.json") == told(capsys, folder)
    record = json.loads(told(capsys, folder, "--json"))
    assert record["kind"] == "guard"
    assert record["calibration"] | {"n": 200, "fpr": 0.05} == record["calibration"]
    assert record["files"]["student"]["bytes"] == 5000
    assert record["classifier"]["sha256"] == SHA


def test_an_exported_guard_is_told(exported, capsys):
    flat = " ".join(told(capsys, exported).split())
    assert f"{exported}: a guard, AdversarialAE, exported as one file" in flat
    assert "0.5 nats: flags at most 5 % of rows like the 30 it was inferred from" in flat
    assert f"files {size(exported.stat().st_size)}, SHA-256 " in flat
    assert json.loads(told(capsys, exported, "--json"))["classifier"] == {
        "title": "net",
        "sha256": "ab12",
        "is_inside": True,
    }


def test_metadata_are_read_without_a_package_as_onnx_reads_them(exported):
    contents = exported.read_bytes()
    expected = {entry.key: entry.value for entry in onnx.load_from_string(contents).metadata_props}
    assert metadata_of(contents, "guard.onnx") == expected
    assert Description.of(expected, "guard.onnx").title == "net"


def test_a_stored_evaluation_is_told(evaluation, capsys):
    assert told(capsys, evaluation).strip() == str(example().summary())
    assert told(capsys, evaluation / "evaluation.json") == told(capsys, evaluation)
    record = json.loads(told(capsys, evaluation, "--json"))
    assert record["sentences"] == example().sentences()
    assert len(record["threats"]) == 1 + len(example().threats)


def test_nothing_heavy_is_loaded(folder, exported, evaluation):
    heavy = {"keras", "tensorflow", "torch", "jax", "onnxruntime", "onnx", "matplotlib", "pandas", "scipy", "sklearn"}
    code = (
        "import sys; from demur import cli; "
        f"[cli.main(['info', path]) for path in {[str(path) for path in (folder, exported, evaluation)]}]; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("name", "contents", "error", "words"),
    [
        ("nothing", None, DetectorNotFound, "there is nothing at"),
        ("notes.txt", b"hello", NotADetector, "is neither a guard"),
        ("classifier.keras", b"PK", NotADetector, "demur fit"),
        ("data.npz", b"PK", NotADetector, "demur score GUARD --data"),
        ("report.html", b"<html>", NotADetector, "a page, made of an evaluation's JSON"),
        ("broken.json", b"[]", CorruptEvaluation, "It takes what demur evaluate or evaluation.to_json wrote"),
        ("text.onnx", b"hello, I am no model", NotADetector, "is not an ONNX file, or was cut off"),
        ("empty.onnx", b"", NotADetector, "is an ONNX model, but no guard"),
    ],
)
def test_what_is_something_else_gets_a_helpful_error(tmp_path, name, contents, error, words):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(error, match=words):
        run_raising("info", tmp_path / name)


def test_an_onnx_model_that_is_no_guard_is_told_how_one_is_made(tmp_path):
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 8])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [x], [x])), tmp_path / "model.onnx")
    with pytest.raises(NotADetector, match="guards are written by"):
        run_raising("info", tmp_path / "model.onnx")


def test_what_is_damaged_is_told(folder, exported):
    changed = bytearray(exported.read_bytes())
    changed[40] ^= 1
    exported.write_bytes(changed)
    with pytest.raises(CorruptDetector, match="Export it again"):
        run_raising("info", exported)
    next(folder.glob("student-*")).write_bytes(b"shorter")
    with pytest.raises(CorruptDetector, match="its SHA-256 has changed"):
        run_raising("info", folder)


def test_a_folder_of_guards_names_them(folder, exported, capsys):
    with advises(NotADetector, f"name one of the guards in it: {folder}"):
        run_raising("info", folder.parent)
    assert "a guard" in told(capsys, folder)
