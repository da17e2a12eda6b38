"""The demonstration, small, from data to picture; and the data sets that it uses."""

import contextlib
import io
import json

import numpy as np
import pytest

from demur import datasets, demo
from demur.errors import InvalidSetting
from tests.scaffold.advice import advises

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")

PLAN = demo.Plan(600, 120, 12, 15, (("FGSM", 0.15), ("PGD", 0.15)), robust=0.1)


def shown(folder):
    """What the demonstration prints, from the heading of its table to the name of its picture."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setitem(demo.PLANS, "digits", PLAN)
        patch.setenv("COLUMNS", "80")
        assert demo.main(out=folder) == 0
    text = out.getvalue()
    assert "…" not in text, "the table does not fit a terminal of 80 columns"
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    return text[text.index("test images") : text.index("picture:")]


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The folder of a demonstration, and its table."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, shown(folder)


@pytest.mark.nightly
def test_demo_says_the_same_again(once, tmp_path):
    assert shown(tmp_path) == once[1]


def test_demo_detects_attacks(once):
    found = json.loads((once[0] / "demo.json").read_text())
    assert list(found["detectors"]) == ["AdversarialAE", "ModelDistillation", "maximum probability"]
    rows = [detector["rows"]["PGD eps 0.15"] for detector in found["detectors"].values()]
    assert rows[1]["flagged"] > rows[2]["flagged"], "the guard sees what confidence does not"
    for detector in list(found["detectors"].values())[:2]:
        rows = detector["rows"]
        assert rows["clean"]["accuracy"] > 0.8
        for title in ("FGSM eps 0.15", "PGD eps 0.15"):
            assert rows[title]["accuracy"] < rows["clean"]["accuracy"] - 0.2
            assert rows[title]["auroc"] > 0.6
        assert rows["impulse noise"]["harmful_score"] > rows["impulse noise"]["harmless_score"]


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
    with pytest.raises(InvalidSetting, match="one of 'digits'"):
        datasets.load("imagenet")


def test_without_a_network_there_is_something_to_do(tmp_path, monkeypatch):
    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.delenv("DEMUR_DATA", raising=False)
    monkeypatch.setattr("keras.datasets.mnist.load_data", load_data)
    with advises(InvalidSetting, "Take 'digits', which need no network, or put "):
        datasets.load("MNIST")
    assert len(datasets.load("Digits").test.y) == 397


def test_there_is_no_demonstration_on_other_data_sets():
    from demur.demo import main
    from demur.errors import InvalidSetting

    for name in ("cifar10", "nothing"):
        with pytest.raises(InvalidSetting, match=f"one of 'digits', 'fashion_mnist', 'mnist'; got '{name}'"):
            main(dataset=name)
