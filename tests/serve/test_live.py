"""A saved detector, served without being exported, answers as its export does."""

import numpy as np
import pytest

from demur.onnx import runtime
from demur.serve.serving.detector import ServedDetector, untempered, verdicts
from demur.serve.serving.models import Models
from tests.scaffold.serve_fakes import images


@pytest.fixture(scope="module")
def both(detector_folder, guard_file):
    found = Models.load([detector_folder])
    assert list(found) == ["digits"]
    return found["digits"].guard, runtime.load(guard_file)


def test_it_is_described_as_its_export_is(both):
    live, exported = both
    assert isinstance(live, ServedDetector)
    for name in ("name", "detector", "inputs", "classes", "on_invalid", "default_outputs"):
        assert getattr(live, name) == getattr(exported, name)
    assert set(live.outputs) == set(exported.outputs)
    assert {name: field.dtype for name, field in live.outputs.items()} == {
        name: field.dtype for name, field in exported.outputs.items()
    }
    assert live.threshold == pytest.approx(exported.threshold, rel=1e-6)


@pytest.mark.parametrize("threshold", [None, 0.0, 1e9])
def test_it_answers_as_its_export_does(both, threshold):
    live, exported = both
    x = images(7)
    x[2, 0, 0] = np.nan
    found, expected = (guard.run({"x": x}, tuple(live.outputs), threshold) for guard in both)
    valid = np.arange(7) != 2
    assert found["instance_score"][2] == expected["instance_score"][2] == np.inf
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        rows = valid if name in ("probabilities", "reference", "opinion", "reconstruction", "defense") else slice(None)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[name][rows], array[rows], atol=1e-5)
        else:
            np.testing.assert_array_equal(found[name][rows], array[rows])
    assert exported.run({"x": x}).keys() == live.run({"x": x}).keys()


def test_verdicts_follow_one_threshold_or_that_of_the_predicted_class():
    score = np.array([1.0, 3.0, np.inf, 1.0], "float32")
    classes, others = np.array([0, 1, 1, 1]), np.array([2, 2, 2, 2])
    flagged, corrected = verdicts(score, classes, others, 2.0)
    assert flagged.tolist() == [False, True, True, False]
    assert corrected.tolist() == [0, 2, 1, 1]  # a row that cannot be judged keeps its class
    flagged, corrected = verdicts(score, classes, others, np.array([0.5, 4.0, 0.0]))
    assert flagged.tolist() == [True, False, True, False]
    assert corrected.tolist() == [2, 1, 1, 1]


def test_a_temperature_can_be_taken_back():
    logits = np.random.default_rng(0).normal(size=(5, 4))

    def softmax(z):
        return (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)).astype("float32")

    for temperature in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(untempered(softmax(logits / temperature), temperature), softmax(logits), rtol=1e-4)
