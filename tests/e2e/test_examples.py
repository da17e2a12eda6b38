"""The examples run, small, as a reader runs them, and find what they say; each has its place in the documentation."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "keras_fashion_mnist": "tensorflow",
    "torch_fashion_mnist": "torch",
    "boosted_trees": "tensorflow",
    "text_token_ids": "tensorflow",
    "onnx_file": "tensorflow",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of an example by name: what it wrote, run once in a process of its own."""

    @functools.cache
    def run(name):
        file = tmp_path_factory.mktemp(name) / "results.json"
        command = [sys.executable, ROOT / "examples" / f"{name}.py", "--small", "--out", file]
        if name == "keras_fashion_mnist":
            command += ["--plot", file.with_suffix(".png")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("KERAS_BACKEND", None)
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        found = json.loads(file.read_text(encoding="utf-8"))
        for detector, measured in found["detectors"].items():
            assert f"\n{detector}\n" in done.stdout
            assert all(f"\n  {title} " in done.stdout for title in measured["rows"])
        return found | {"picture": file.with_suffix(".png")}

    return run


@pytest.mark.parametrize(("name", "backend"), EXAMPLES.items())
def test_examples_keep_the_rate_of_false_alarms(results, name, backend):
    found = results(name)
    assert found["backend"] == backend
    assert found["rows"]["held out"] > 100
    for measured in found["detectors"].values():
        clean = measured["rows"]["unchanged"]
        assert clean["false_alarms"] == pytest.approx(found["fpr"], abs=0.04)
        assert clean["accuracy"] > 0.8
        assert clean["corrected"] > clean["accuracy"] - 0.05
        assert all(row["accuracy"] <= clean["accuracy"] + 0.02 for row in measured["rows"].values())


def test_a_keras_network_is_guarded_and_its_guard_kept(results):
    found = results("keras_fashion_mnist")
    assert found["difference_after_loading"] <= 1e-6
    assert found["picture"].stat().st_size > 20_000
    rows = found["detectors"]["AdversarialAE"]["rows"]
    for attack in ("FGSM eps 0.1", "PGD eps 0.1"):
        assert rows[attack]["accuracy"] < rows["unchanged"]["accuracy"] - 0.1
        assert rows[attack]["auroc"] > 0.85
    assert rows["PGD eps 0.1"]["corrected"] > rows["PGD eps 0.1"]["accuracy"] + 0.05


def test_a_pytorch_network_is_guarded_by_both_detectors(results):
    detectors = results("torch_fashion_mnist")["detectors"]
    assert list(detectors) == ["AdversarialAE", "ModelDistillation"]
    for measured in detectors.values():
        rows = measured["rows"]
        for attack in ("FGSM eps 0.1", "PGD eps 0.1"):
            assert rows[attack]["accuracy"] < rows["unchanged"]["accuracy"] - 0.1
            assert rows[attack]["auroc"] > 0.85
        for corruption in ("impulse noise", "gaussian blur"):
            assert rows[corruption]["auroc_harmless"] > 0.75
    attacked = detectors["AdversarialAE"]["rows"]["PGD eps 0.1"]
    assert attacked["corrected"] > attacked["accuracy"] + 0.05


def test_boosted_trees_are_watched_on_a_table(results):
    rows = results("boosted_trees")["detectors"]["ModelDistillation"]["rows"]
    assert rows["lengths in inches"]["auroc"] > 0.8
    assert rows["lengths in inches"]["batches"] > rows["unchanged"]["batches"] + 0.3
    assert rows["noise of 1 standard deviation"]["auroc"] > 0.75


def test_typing_errors_are_noticed_in_text(results):
    rows = results("text_token_ids")["detectors"]["ModelDistillation"]["rows"]
    assert rows["accents left out"]["accuracy"] < rows["unchanged"]["accuracy"] - 0.05
    assert rows["accents left out"]["auroc"] > 0.6
    assert rows["in capitals"]["auroc"] > 0.75
    assert rows["in capitals"]["caught"] > 2 * rows["unchanged"]["false_alarms"]


def test_an_onnx_file_is_watched_by_a_detector_that_was_saved(results):
    found = results("onnx_file")
    assert found["difference_after_loading"] <= 1e-6
    rows = found["detectors"]["ModelDistillation"]["rows"]
    for severe in ("gaussian noise, severity 3", "impulse noise, severity 3", "contrast, severity 3"):
        assert rows[severe]["auroc"] > 0.85
        assert rows[severe]["caught"] > 2 * rows[severe]["false_alarms"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_documented(name):
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    assert f"<!-- table: {name} -->" in page
    assert f"`python examples/{name}.py --out docs/results/example-{name}.json`" in page


def test_every_script_is_tried_somewhere():
    elsewhere = {"common", "drift_report", "endpoint_client", "endpoint_guard", "harmful_drift_cifar10"}
    elsewhere |= {"several_devices"}  # tests/contract/test_several_devices.py
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} <= {*EXAMPLES, *elsewhere}


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
