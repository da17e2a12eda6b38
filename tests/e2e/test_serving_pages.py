"""What docs/export.md and docs/serve.md show, runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

from demur import ModelDistillation
from demur.cli import build_parser

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def detector():
    X = load_wine().data
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((13,)), layers.Dense(3, activation="softmax")])
    found = ModelDistillation(model=model).fit(X, epochs=1, verbose=False)
    return found.infer_threshold(X, fpr=0.1), X


def test_the_page_of_export_runs(detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(detector[1][:, :4], columns=list("abcd"))
    forest = RandomForestClassifier(5, random_state=0).fit(table, load_wine().target)
    beside = ModelDistillation(model=forest, threshold=1.0).fit(table, epochs=1, verbose=False)
    assert beside.export("beside.onnx").takes_reference
    names = {"detector": detector[0], "X_new": detector[1][:20], "X_held_out": detector[1]}
    names |= {"forest": forest, "table_new": table[:9]}
    for block in blocks("export.md", "python"):
        exec(block.replace("max_loss=0.05", "max_loss=0.5"), names)  # the loss of so small a guard is not the point
    assert Path("guard.onnx").stat().st_size == names["guard"].path.stat().st_size
    assert set(names["written"].loss.__dict__) == {"auroc", "auroc_reduced", "agreement", "rows"}
    corrected = names["guard"].correct(names["X_new"])["data"]["corrected"]
    np.testing.assert_array_equal(names["answer"]["corrected"], corrected)


def test_the_page_of_export_names_every_output(detector, tmp_path):
    import demur.runtime

    detector[0].export(tmp_path / "guard.onnx")
    page = (DOCS / "export.md").read_text(encoding="utf-8")
    for name in demur.runtime.load(tmp_path / "guard.onnx").outputs:
        assert f"`{name}`" in page


def test_the_page_of_the_server_is_asked_as_it_says(detector, tmp_path):
    """Its client of Triton and its body for curl, against a real server."""
    import urllib.request

    detector[0].export(tmp_path / "guard.onnx")
    command = [
        sys.executable,
        "-m",
        "demur.cli",
        "serve",
        str(tmp_path / "guard.onnx"),
        "--port",
        "0",
        "--no-supervisor",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            address = next(
                found[1] for line in server.stdout if (found := re.search(r"http://(127\.0\.0\.1:\d+)", line))
            )
            (python,) = blocks("serve.md", "python")
            names = {"X": detector[1][:5]}
            exec(python.replace("127.0.0.1:8080", address), names)
            expected = detector[0].correct(detector[1][:5])["data"]["corrected"]
            np.testing.assert_array_equal(names["answer"].as_numpy("corrected"), expected)
            curl = next(block for block in blocks("serve.md", "console") if "curl" in block)
            body = json.loads(re.search(r"-d '(.*)'", curl, re.DOTALL)[1])
            body["inputs"][0] |= {"shape": [1, 13], "data": detector[1][0].tolist()}
            request = urllib.request.Request(f"http://{address}/v2/models/guard/infer", json.dumps(body).encode())
            outputs = json.loads(urllib.request.urlopen(request).read())["outputs"]
            assert [output["name"] for output in outputs] == ["corrected", "is_adversarial"]
            names["client"].close()
        finally:
            server.terminate()


def test_the_page_of_the_server_names_options_that_there_are():
    page = (DOCS / "serve.md").read_text(encoding="utf-8")
    parser = build_parser()._subparsers._group_actions[0].choices["serve"]
    options = {option for action in parser._actions for option in action.option_strings}
    named = set(re.findall(r"`(--[a-z-]+)", page))
    assert named
    assert named <= options
