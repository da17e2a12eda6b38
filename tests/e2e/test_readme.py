"""What the README says is true now: its example runs, its tables are those of the committed results."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_readme_example_runs(classifier, tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names = {"classifier": classifier}
    names |= {name: rng.normal(size=(200, 2)).astype("float32") for name in ("x_train", "x_held_out", "x_new")}
    exec(block, names)
    assert (tmp_path / "guard" / "detector.json").is_file()
    assert names["answer"]["corrected"].shape == (200,)
    np.testing.assert_allclose(names["guard"].score(names["x_new"]), names["detector"].score(names["x_new"]), atol=1e-6)


def test_readme_tables_are_the_committed_results():
    done = subprocess.run([sys.executable, ROOT / "docs" / "tables.py", "--check"], check=False)
    assert done.returncode == 0, "run python docs/tables.py"


def test_readme_names_files_that_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
