"""Every kind of file that demur wrote before msgspec read them is read by it, and says what it said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from documents import monitors, rows_and_labels, rule, watched

from demur import drift, load_detector, runtime
from demur.drift import Monitor
from demur.evaluation.result import Evaluation
from demur.guards import description, folder
from demur.guards.facts import as_record

DATA = Path(__file__).parent / "data" / "documents"
ROWS, _ = rows_and_labels(60, seed=1)


def same(answer, name):
    with np.load(DATA / f"{name}.npz") as expected:
        assert expected["is_adversarial"].any()
        assert set(answer) == set(expected) - {"accuracy"}
        for key, value in answer.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5, err_msg=key)
            else:
                np.testing.assert_array_equal(value, expected[key], err_msg=key)


@pytest.mark.parametrize("name", ["distilled", "rebuilt"])
def test_a_saved_detector_answers_as_before_and_is_saved_alike(name, tmp_path):
    detector = load_detector(DATA / name)
    same(detector.correct(ROWS)["data"], name)
    with np.load(DATA / f"{name}.npz") as expected:
        found = drift.estimate_accuracy(detector, ROWS)["data"]["accuracy"]
        np.testing.assert_allclose(found, expected["accuracy"], rtol=1e-4)
    detector.save(tmp_path / name)
    before, after = (json.loads((at / name / "detector.json").read_text()) for at in (DATA, tmp_path))
    for told in ("files", "versions"):
        assert list(before.pop(told)) == list(after.pop(told))
    assert after == before


@pytest.mark.parametrize("name", ["distilled", "rebuilt"])
def test_a_saved_detector_says_what_it_said(name):
    said, document = folder.described(DATA / name), json.loads((DATA / name / "detector.json").read_text())
    record = as_record(said)
    for key in ("detector", "threshold", "agreement"):
        assert record[key] == document[key]
    assert record["layout"] == document["inputs"]["classifier"]
    assert (said.temperature, said.classes) == (document["settings"]["temperature"], 3)
    assert said.labels.names == (("ale", "lager", "stout") if name == "distilled" else None)
    assert said.harm is not None
    assert said.trained_on is not None
    assert (len(said.calibration.distributions), said.calibration.fpr) == (3 if name == "distilled" else 1, 0.1)


@pytest.mark.parametrize("name", ["inside", "outside"])
def test_an_exported_guard_answers_as_before_and_says_what_it_said(name):
    same(runtime.load(DATA / f"{name}.onnx", model=rule if name == "outside" else None).correct(ROWS)["data"], name)
    file = DATA / f"{name}.onnx"
    metadata, said = description.metadata_of(description.read(file), file.name), description.described(file)
    again = said.as_metadata()
    assert set(again) == set(metadata)
    packed = {f"demur.{part}" for part in description.LEARNED}  # another zlib packs the same arrays otherwise
    for key in set(again) - packed - {"demur.sha256", "demur.version"}:
        assert again[key] == metadata[key], key


@pytest.mark.parametrize("name", monitors(runtime.load(DATA / "inside.onnx")))
def test_a_monitor_goes_on_from_the_state_of_before_and_writes_it_alike(name, tmp_path):
    shutil.copy(DATA / f"monitor_{name}.json", tmp_path / "monitor.json")
    monitor = Monitor.load(tmp_path / "monitor.json", detector=load_detector(DATA / "distilled"))
    before = json.loads((tmp_path / "monitor.json").read_text())
    monitor.save(tmp_path / "monitor.json")
    assert json.loads((tmp_path / "monitor.json").read_text()) == before
    assert list(monitor.state()) == list(before)
    with np.load(DATA / "monitors.npz") as expected:
        np.testing.assert_allclose(watched(monitor, ROWS, 100.0).log_evidence, expected[name], rtol=1e-4, atol=1e-5)


def test_an_evaluation_is_read_and_written_to_the_same_text(tmp_path):
    text = (DATA / "evaluation.json").read_text()
    found = Evaluation.from_json(DATA / "evaluation.json")
    assert found.to_json() == text
    assert found.rows == 20
    assert found.summary()
