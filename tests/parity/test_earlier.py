"""What an earlier version wrote is read by this one, and answers as it did there."""

import shutil
from pathlib import Path

import numpy as np

from demur import drift, load_detector
from demur.onnx import runtime
from tests.parity.earlier import frame, rule

DATA = Path(__file__).parent / "data" / "earlier"


def same(answer, expected):
    assert expected["is_adversarial"].any()
    for name in ("is_adversarial", "corrected", "no_defense", "defense"):
        np.testing.assert_array_equal(answer[name], expected[name], err_msg=name)
    for name in ("instance_score", "p_value", "harm_probability"):
        if name in expected:
            np.testing.assert_allclose(answer[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_saved_guard_of_a_table_answers_as_before_and_can_be_saved_anew(tmp_path):
    detector = load_detector(DATA / "table", model=rule)
    with np.load(DATA / "table.npz") as expected:
        rows = frame(60, seed=2)
        same(detector.correct(rows)["data"], expected)
        assert 0 < drift.estimate_accuracy(detector, rows)["data"]["accuracy"] <= 1
        detector.save(tmp_path / "again")
        same(load_detector(tmp_path / "again", model=rule).correct(rows)["data"], expected)


def test_an_exported_guard_answers_as_before():
    with np.load(DATA / "guard.npz") as expected:
        same(runtime.load(DATA / "guard.onnx").correct(expected["x"][:60])["data"], expected)


def test_a_monitor_goes_on_from_the_state_of_before(tmp_path):
    shutil.copy(DATA / "monitor.json", tmp_path / "monitor.json")
    monitor = drift.Monitor.load(tmp_path / "monitor.json", detector=runtime.load(DATA / "guard.onnx"))
    with np.load(DATA / "guard.npz") as expected:
        assert monitor.count == 100
        monitor.update(expected["x"][100:])
        np.testing.assert_allclose(monitor.log_evidence, expected["log_evidence"], rtol=1e-4, atol=1e-5)
