"""The demonstration, small, from data to picture; and the attacks, corruptions and data sets that it uses."""

import json

import numpy as np
import pytest

from demur import datasets, demo
from demur.classifiers import KerasClassifier
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType
from demur.evaluate.corruptions import CORRUPTIONS, corrupt
from demur.evaluate.foolbox_attacks import attack

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")

PLAN = demo.Plan(600, 120, 12, 15, (("FGSM", 0.15), ("PGD", 0.15)))


def test_demo_detects_attacks_and_says_the_same_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(demo.PLANS, "digits", PLAN)
    monkeypatch.setenv("COLUMNS", "80")
    tables = []
    for turn in ("first", "second"):
        assert demo.main(out=tmp_path / turn) == 0
        out = capsys.readouterr().out
        assert "…" not in out, "the table does not fit a terminal of 80 columns"
        tables.append(out[out.index("test images") : out.index("picture:")])
        assert (tmp_path / turn / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert tables[0] == tables[1]
    found = json.loads((tmp_path / "first" / "demo.json").read_text())
    for detector in found["detectors"].values():
        rows = detector["rows"]
        assert rows["clean"]["accuracy"] > 0.8
        for title in ("FGSM eps 0.15", "PGD eps 0.15"):
            assert rows[title]["accuracy"] < rows["clean"]["accuracy"] - 0.2
            assert rows[title]["auroc"] > 0.6
        assert rows["impulse noise"]["harmful_score"] > rows["impulse noise"]["harmless_score"]


@pytest.fixture(scope="module")
def classifier():
    return KerasClassifier(demo.build_classifier((8, 8, 1), 10))


def test_attacks_stay_within_their_budget(classifier):
    x, y = (part[:20] for part in datasets.load("digits").test)
    for name in ("FGSM", "PGD"):
        found = attack(classifier, x, y, name=name, epsilon=0.1, batch_size=7)
        assert found.shape == x.shape
        assert 0 < np.abs(found - x).max() <= 0.1 + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1


def test_bad_attacks_are_refused(classifier):
    x, y = np.zeros((3, 8, 8, 1), "float32"), np.zeros(3, int)
    for arguments, error in [
        ({"name": "CW", "epsilon": 0.1}, InvalidSetting),
        ({"name": "PGD", "epsilon": 0}, InvalidSetting),
    ]:
        with pytest.raises(error):
            attack(classifier, x, y, **arguments)
    for rows, classes, error in [
        (x, y[:2], ShapeMismatch),
        (x[:, :4], y, ShapeMismatch),
        (x[:0], y[:0], EmptyInput),
        (x * np.nan, y, NonFinite),
        ([1], y, WrongType),
    ]:
        with pytest.raises(error):
            attack(classifier, rows, classes, name="FGSM", epsilon=0.1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_severity_and_are_seeded(name):
    x = datasets.load("digits").test.x[:50]
    changes = [np.abs(corrupt(x, name=name, severity=severity) - x).mean() for severity in range(1, 6)]
    assert (np.diff(changes) > 0).all()
    np.testing.assert_array_equal(corrupt(x, name=name, severity=3, seed=1), corrupt(x, name=name, severity=3, seed=1))
    found = corrupt(x, name=name, severity=5)
    assert found.dtype == "float32"
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(("name", "severity"), [("fog", 3), ("blur", 0), ("blur", 6), ("blur", 2.5)])
def test_bad_corruptions_are_refused(name, severity):
    with pytest.raises(InvalidSetting):
        corrupt(np.zeros((2, 8, 8, 1)), name=name, severity=severity)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((8, 8, 1)), ShapeMismatch),
        (np.zeros((0, 8, 8, 1)), EmptyInput),
        (np.full((2, 8, 8, 1), np.nan), NonFinite),
        ([0, 1], WrongType),
    ],
)
def test_what_is_no_images_is_not_corrupted(images, error):
    with pytest.raises(error):
        corrupt(images, name="blur", severity=3)


def test_data_sets_are_split_without_overlap(tmp_path, monkeypatch):
    data = datasets.load("digits", seed=3)
    assert [len(part.y) for part in (data.train, data.held_out, data.test)] == [1000, 400, 397]
    rng = np.random.default_rng(0)
    arrays = {
        f"x_{part}": rng.integers(0, 256, (n, 28, 28), dtype="uint8") for part, n in (("train", 5100), ("test", 9))
    }
    arrays |= {"y_train": np.zeros(5100, "uint8"), "y_test": np.zeros(9, "uint8")}
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("DEMUR_DATA", str(tmp_path))
    loaded = datasets.load("mnist")
    assert [len(part.y) for part in (loaded.train, loaded.held_out, loaded.test)] == [100, 5000, 9]
    assert loaded.test.x.shape == (9, 28, 28, 1)
    np.testing.assert_allclose(loaded.test.x[..., 0] * 255, arrays["x_test"], atol=1e-3)
    with pytest.raises(InvalidSetting, match="there is no"):
        datasets.load("fashion_mnist")
    with pytest.raises(InvalidSetting, match="one of digits"):
        datasets.load("imagenet")
