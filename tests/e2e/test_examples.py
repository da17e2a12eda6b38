"""The examples run, small, as a reader runs them, and find what they say; those of the tutorials: test_tutorials.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """What the example wrote."""
    file = tmp_path_factory.mktemp("onnx_file") / "results.json"
    command = [sys.executable, ROOT / "examples/onnx_file.py", "--small", "--out", file]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert all(f"\n{title} " in done.stdout for title in found["detectors"]["ModelDistillation"]["rows"])
    return found


@pytest.mark.nightly
def test_an_onnx_file_is_watched_by_a_detector_that_was_saved(onnx_file):
    assert onnx_file["difference_after_loading"] <= 1e-6
    assert onnx_file["rows"]["held out"] > 100
    rows = onnx_file["detectors"]["ModelDistillation"]["rows"]
    clean = rows["unchanged"]
    assert clean["false_alarms"] == pytest.approx(onnx_file["fpr"], abs=0.04)
    assert clean["accuracy"] > 0.8
    assert clean["corrected"] > clean["accuracy"] - 0.05
    assert all(row["accuracy"] <= clean["accuracy"] + 0.02 for row in rows.values())
    for severe in ("gaussian noise, severity 3", "impulse noise, severity 3", "contrast, severity 3"):
        assert rows[severe]["auroc"] > 0.85
        assert rows[severe]["caught"] > 2 * rows[severe]["false_alarms"]


def test_examples_are_documented():
    page = (ROOT / "docs/results/detectors.md").read_text(encoding="utf-8")
    assert "<!-- table: onnx_file -->" in page
    assert "`python examples/onnx_file.py --out docs/results/example-onnx_file.json`" in page


def test_every_script_is_tried_somewhere():
    tried = {"onnx_file", "drift_report", "harmful_drift_cifar10"}
    tried |= {"several_devices"}  # tests/contract/test_several_devices.py
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} <= tried


@pytest.mark.nightly
def test_harmful_drift_is_told_from_harmless(tmp_path):
    command = [sys.executable, ROOT / "examples/harmful_drift_cifar10.py", "--small"]
    command += ["--out", tmp_path / "results.json", "--plot", tmp_path / "drift.png"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    severities = found["severities"]
    assert severities[-1]["accuracy"] < severities[0]["accuracy"] <= found["clean_accuracy"] + 0.01
    for row in severities:
        assert row["harmful_score"] > 1.5 * row["harmless_score"]
        assert row["estimated_accuracy"] == pytest.approx(row["accuracy"], abs=0.15)
    by_share = {row["share"]: row for row in found["p_values"]}
    assert by_share[0.3]["harmful"] < 0.05 < by_share[0.3]["harmless"]
    assert by_share[0.0]["harmful"] > 0.3
    stream = found["stream"]
    assert stream["turns_at"] < stream["alarm_at"] < stream["turns_at"] + 600
    assert f"alarm after {stream['alarm_at'] - stream['turns_at']} more" in done.stdout
    assert (tmp_path / "drift.png").stat().st_size > 20_000
