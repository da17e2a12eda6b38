"""A detector saved on one backend says the same on every other."""

from pathlib import Path

import numpy as np
import pytest

from demur import load_detector

DATA = Path(__file__).parent / "data"
NAMES = ["adversarial_ae", "model_distillation"]


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "reference.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_backend_that_saved(name, reference):
    detector = load_detector(DATA / name)
    score, y, opinion = detector.score(reference["inputs"], return_predictions=True)
    assert np.ptp(reference[f"{name}_score"]) > 0.1
    np.testing.assert_allclose(score, reference[f"{name}_score"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y, reference[f"{name}_y"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(opinion, reference[f"{name}_opinion"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_corrections_are_those_of_the_backend_that_saved(name, reference):
    answer = load_detector(DATA / name).correct(reference["inputs"])["data"]
    np.testing.assert_array_equal(answer["corrected"], reference[f"{name}_corrected"])


@pytest.mark.parametrize("name", NAMES)
def test_saving_here_and_loading_again_changes_nothing(name, reference, tmp_path):
    detector = load_detector(DATA / name)
    before = detector.score(reference["inputs"])
    for turn in range(3):
        detector.save(tmp_path / str(turn))
        detector = load_detector(tmp_path / str(turn))
    np.testing.assert_allclose(detector.score(reference["inputs"]), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_here(name, reference):
    detector = load_detector(DATA / name)
    detector.fit(reference["inputs"], epochs=3, verbose=False)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
