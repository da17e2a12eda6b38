"""What docs/classifiers.md shows, runs."""

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from keras import layers
from sklearn.linear_model import LogisticRegression

from demur import AdversarialAE, ModelDistillation, classifiers
from demur.errors import NoGradients

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "classifiers.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(40, 13)).astype("float32")
W = RNG.normal(size=(13, 3)).astype("float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """One epoch, in an empty folder, with sources that are registered for one test."""
    fit = ModelDistillation.fit
    monkeypatch.setattr(ModelDistillation, "fit", lambda self, X: fit(self, X, epochs=1, verbose=False))
    monkeypatch.setattr(classifiers, "SOURCES", list(classifiers.SOURCES))
    monkeypatch.chdir(tmp_path)


def run(title, **names):
    (block,) = SECTIONS[title]
    exec(block, names)
    return types.SimpleNamespace(**names)


def probabilities(rows):
    z = np.exp(rows @ W - (rows @ W).max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def test_every_section_with_code_is_run_here():
    tables = {"Estimators and tables", "Columns as numbers", "Texts"}
    run_here = {"PyTorch", "JAX", "Black boxes", "Rows that are several arrays"} | tables
    run_here |= {"What the classes are called"}
    assert {title for title, blocks in SECTIONS.items() if blocks} == run_here | {"A source of your own"}


TORCH = """
import numpy as np
import torch
from collections import OrderedDict
from demur import AdversarialAE

fit = AdversarialAE.fit
AdversarialAE.fit = lambda self, X: fit(self, X, epochs=1, verbose=False)
block = lambda: torch.nn.Sequential(OrderedDict(conv1=torch.nn.Conv2d(1, 1, 3), conv2=torch.nn.Conv2d(1, 1, 3)))
end = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
module = torch.nn.Sequential(OrderedDict(layer3=torch.nn.Sequential(block(), block()), end=end))
images = np.random.default_rng(0).random((16, 1, 12, 12), dtype="float32")
"""


def test_pytorch(tmp_path):
    (block,) = SECTIONS["PyTorch"]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    check = "np.testing.assert_allclose(guard.score(images), detector.score(images), atol=1e-6)"
    code = "\n".join([TORCH, block, check])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(NoGradients, match="KERAS_BACKEND='torch'"):
        run("PyTorch", module=torch.nn.Linear(13, 3), images=ROWS)


def test_jax():
    import equinox
    import jax
    from flax import linen

    module = linen.Dense(3)
    variables = module.init(jax.random.key(0), ROWS)
    given = {
        "apply": lambda w, x: jax.nn.softmax(x @ w),
        "parameters": W,
        "linen_module": linen.Sequential([module, jax.nn.softmax]),
        "variables": variables,
        "nnx_or_equinox_module": equinox.nn.Sequential(
            [equinox.nn.Linear(13, 3, key=jax.random.key(0)), equinox.nn.Lambda(jax.nn.softmax)]
        ),
    }
    assert run("JAX", **given).detector.fit(ROWS).score(ROWS).shape == (40,)


def test_tables():
    frame = pd.DataFrame({"amount": RNG.normal(size=200), "age": RNG.integers(18, 90, 200)})
    estimator = LogisticRegression().fit(frame, frame["amount"] > 0)
    found = run("Estimators and tables", frame=frame[:100], frame_held_out=frame[100:], estimator=estimator)
    assert found.detector.threshold > 0


def test_columns_as_numbers():
    n = 100
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{i:05}" for i in range(n)],
            "remark": [f"the customer asked for {i} more days to pay" for i in range(n)],
            "postcode": [f"{i:05}" for i in range(n)],
            "amount": np.where(RNG.random(n) < 0.1, np.nan, RNG.normal(size=n)),
        }
    )

    def estimator(rows):
        return np.stack([rows["amount"] > 0, ~(rows["amount"] > 0)], axis=1)

    found = run("Columns as numbers", frame=frame, estimator=estimator)
    assert found.detector.companion.input_shape == (None, 1024 + 64 + 16 + 2)
    assert np.isfinite(found.detector.score(frame)).all()


def test_texts():
    texts = [f"{'snow and rain' if i % 2 else 'butter and flour'}, {i} times" for i in range(60)]
    found = run("Texts", texts=texts, labels=[i % 2 for i in range(60)], new_texts=texts, texts_held_out=texts[::-1])
    assert found.detector.threshold > 0


def test_black_boxes(tmp_path):
    found = run("Black boxes", endpoint=probabilities, rows=ROWS)
    assert (tmp_path / "answers.sqlite").is_file()
    assert found.detector.is_fitted


def test_names_of_classes():
    answered = np.tile(np.eye(3)[[0, 2, 1]] * 0.8 + 0.2 / 3, (20, 1))
    rows = np.concatenate([answered, RNG.normal(size=(60, 2))], axis=1).astype("float32")
    found = run("What the classes are called", endpoint=lambda x: x[:, :3], rows=rows, held_out=rows[:30])
    assert found.detector.classes == ("Katze", "Hund", "Pferd")
    assert found.detector.calibration.distributions[None].n == 30


def test_rows_of_several_arrays():
    def text():
        ids, mask = keras.Input((6,), dtype="int32", name="ids"), keras.Input((6,), name="mask")
        words = layers.Multiply()([layers.Embedding(20, 4)(ids), layers.Reshape((6, 1))(mask)])
        output = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(words))
        return keras.Model({"ids": ids, "mask": mask}, output)

    ids, mask = RNG.integers(0, 20, (40, 6)), np.ones((40, 6), "float32")
    assert run(
        "Rows that are several arrays", text_classifier=text(), text_student=text(), ids=ids, mask=mask
    ).detector.is_fitted


def test_a_source_of_ones_own():
    class TritonModel:
        def infer(self, rows):
            return probabilities(rows)

    run("A source of your own", TritonModel=TritonModel)
    detector = ModelDistillation(model=TritonModel()).fit(ROWS)
    np.testing.assert_allclose(detector.score(ROWS, return_predictions=True)[1], probabilities(ROWS), atol=1e-5)


@pytest.mark.parametrize("line", re.findall(r"^\| (?:an? .*?|a function.*?) \|\s*\| no gradients", PAGE, re.MULTILINE))
def test_the_table_says_what_gives_no_gradients(line, tmp_path):
    models = {"estimator": LogisticRegression(), "function": probabilities, "ONNX": tmp_path / "model.onnx"}
    model = next(model for word, model in models.items() if word in line)
    with pytest.raises(NoGradients):
        AdversarialAE(model=model)
