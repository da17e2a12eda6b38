"""What the README and the quick start say is true now: their examples run, their tables are those measured."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import demur

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = (ROOT / "docs/index.md").read_text(encoding="utf-8")
QUICK_START = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")


def blocks(page):
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def classifier():
    """A classifier of points in the plane by the quadrant they lie in; trained by nobody, right by construction."""
    model = keras.Sequential(
        [layers.Input((2,)), layers.Dense(2, activation="tanh"), layers.Dense(4, activation="softmax")]
    )
    corners = np.array([[1, 1, -1, -1], [1, -1, 1, -1]], "float32")
    model.layers[0].set_weights([np.eye(2, dtype="float32") * 3, np.zeros(2, "float32")])
    model.layers[1].set_weights([corners * 3, np.zeros(4, "float32")])
    return model


@pytest.mark.parametrize("page", [README, HOME], ids=["README", "home"])
def test_the_first_example_runs(page, classifier, tmp_path, monkeypatch):
    (block,) = blocks(page)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {"classifier": classifier}
    names |= {name: rng.normal(size=(200, 2)).astype("float32") for name in ("x_train", "x_held_out", "x_new")}
    exec(block, names)
    assert names["answer"]["corrected"].shape == (200,)
    if page is HOME:
        return
    assert (tmp_path / "guard" / "detector.json").is_file()
    np.testing.assert_allclose(names["guard"].score(names["x_new"]), names["detector"].score(names["x_new"]), atol=1e-6)


def test_readme_is_short():
    assert len(README.splitlines()) <= 100


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")
def test_the_quick_start_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluate = demur.evaluate
    few = {"attacks": ["FGSM"], "corruptions": None, "baselines": None, "verbose": False}
    monkeypatch.setattr(demur, "evaluate", lambda *args, **kwargs: evaluate(*args, **{**kwargs, **few, "budget": None}))
    names = {}
    for block in blocks(QUICK_START):
        exec(block.replace("epochs=60", "epochs=15"), names)
    assert "the guard flags" in capsys.readouterr().out
    data, answer = names["data"], names["answer"]
    right = np.mean(answer["no_defense"] == data.test.y)
    assert right > 0.9
    assert np.mean(answer["corrected"] == data.test.y) > right - 0.05
    assert 0 < np.mean(answer["is_adversarial"]) < 0.12
    misread, flagged, doubtful = (names[name] for name in ("misread", "flagged", "doubtful"))
    assert np.mean(misread) > 0.5
    assert np.mean(flagged[misread]) > np.mean(doubtful[misread]) + 0.2, "the guard is worth more than confidence"
    assert set(answer) >= {"is_adversarial", "instance_score", "p_value", "corrected", "no_defense"}
    assert (tmp_path / "report.html").is_file()
    corrected = names["small"].correct(names["x_new"])["data"]["corrected"]
    np.testing.assert_array_equal(corrected, names["guard"].correct(names["x_new"])["data"]["corrected"])


def test_the_quick_start_names_commands_that_there_are():
    from demur.cli import build_parser

    commands = build_parser()._subparsers._group_actions[0].choices
    lines = re.findall(r"^\$ demur (.*)$", QUICK_START, re.MULTILINE)
    assert lines
    for line in lines:
        build_parser().parse_args(line.split())
        assert line.split()[0] in commands


def test_tables_are_the_committed_results():
    done = subprocess.run([sys.executable, ROOT / "tools" / "tables.py", "--check"], check=False)
    assert done.returncode == 0, "run python tools/tables.py"


def test_readme_names_files_that_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", README):
        assert (ROOT / target).exists(), target
