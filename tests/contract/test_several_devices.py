"""Two devices train as one does: the same losses, metrics, scores and thresholds, within 1e-5."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demur.backends import spread
from tests.scaffold import several_devices

BACKEND = several_devices.BACKEND
SCRIPT = Path(several_devices.__file__)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What a process has told, for each process, and what they printed."""
    folder = tmp_path_factory.mktemp("several-devices")
    launch = [sys.executable]
    if BACKEND == "torch":
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "KERAS_BACKEND": BACKEND, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*launch, SCRIPT, folder], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))], run.stdout


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return several_devices.results(tmp_path_factory.mktemp("one-device"))


@pytest.mark.nightly
@pytest.mark.parametrize("case", [case.__name__ for case in several_devices.CASES])
def test_two_devices_train_as_one(one, two, case):
    told, _ = two
    assert len(told) == (2 if BACKEND == "torch" else 1)
    for process in told:
        assert process["cases"][case].keys() == one[case].keys()
        for name, value in one[case].items():
            np.testing.assert_allclose(process["cases"][case][name], value, atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.nightly
def test_progress_is_shown_once(two):
    _, printed = two
    assert len(re.findall("Epoch 1/9", printed)) == 1
    assert "Epoch 2/9" in printed
    assert "Epoch 3/9" not in printed, "training did not stop early"


@pytest.mark.nightly
def test_what_writes_files_does_so_in_one_process_and_what_is_saved_loads_in_all(two):
    for process in two[0]:
        assert process["files"] == ["0.csv", "0.keras"]
        np.testing.assert_allclose(process["reloaded"], process["cases"]["uneven"]["score"], atol=1e-6)


@pytest.mark.nightly
@pytest.mark.skipif(BACKEND != "torch", reason="of several processes")
def test_several_processes_are_given_the_same_and_stop_together(two):
    for process in two[0]:
        assert "pass X as an array" in process["stream"]
        assert "differs from process" in process["rows"]
        assert process["rows"].endswith("in the rows")
        assert process["classifier"].endswith("in the classifier's weights")
        assert process["interrupted"] == 4


@pytest.mark.nightly
@pytest.mark.skipif(BACKEND != "tensorflow", reason="of strategies")
def test_what_a_strategy_cannot_train_is_refused(two):
    ((process,), _) = two
    assert "inside of `with strategy.scope():`" in process["outside"]
    assert "activity regularisation" in process["mixed"]
    assert "steps_per_execution" in process["together"]


@pytest.mark.nightly
@pytest.mark.skipif(BACKEND != "jax", reason="of distributions")
def test_a_detector_made_before_the_distribution_is_moved_to_its_devices(two):
    ((process,), _) = two
    inside = several_devices.ModelDistillation(
        model=several_devices.classifier(), distilled_model=several_devices.student()
    )
    loss = inside.fit(several_devices.X, epochs=1, verbose=False).history["loss"]
    np.testing.assert_allclose(process["outside"], loss, atol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="torchrun starts processes of PyTorch")
def test_processes_that_would_train_each_by_itself_are_told_so(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    detector = several_devices.ModelDistillation(
        model=several_devices.classifier(), distilled_model=several_devices.student()
    )
    with pytest.raises(several_devices.InvalidSetting, match="init_process_group"):
        detector.fit(several_devices.X, epochs=1, verbose=False)


def test_every_row_of_a_batch_goes_to_one_device():
    for rows, devices in [(1, 2), (5, 2), (8, 4), (9, 8), (128, 3)]:
        places = spread(rows, devices)
        assert places.shape == (devices, -(-rows // devices))
        assert sorted(places[places < rows]) == list(range(rows))
