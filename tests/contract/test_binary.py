"""One sigmoid output counts as two classes, whoever returns it and however it is shaped."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation, load_detector, testing
from demur.testing.files import loaded_as
from tests.scaffold import models, sources

BACKEND = keras.backend.backend()
WEIGHTS = np.linspace(-1, 1, 13, dtype="float32")


def logits(rows):
    return rows @ WEIGHTS + 0.3


def second(rows):
    """The second class's probability, `(n,)`."""
    return 1 / (1 + np.exp(-logits(rows)))


def dense(activation):
    return layers.Dense(1, activation=activation)


def set_to_the_same(model):
    model.set_weights([WEIGHTS[:, None], np.float32([0.3])])
    return model


def functional(activation="sigmoid"):
    return set_to_the_same(keras.Sequential([layers.Input((13,)), dense(activation)]))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.only = dense("sigmoid")

    def call(self, x):
        return self.only(x)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 13), "float32"))
    return set_to_the_same(model)


class Flat(keras.Model):
    """Returns `(n,)`."""

    def call(self, x):
        return ops.sigmoid(ops.matmul(x, WEIGHTS) + 0.3)


def module(end):
    linear = torch.nn.Linear(13, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(WEIGHTS[None]))
        linear.bias.fill_(0.3)
    return torch.nn.Sequential(linear, *end)


class Estimator:
    """Of two classes, as scikit-learn has them: two columns."""

    def predict_proba(self, rows):
        return np.stack([1 - second(rows), second(rows)], axis=1)


def jax_function():
    import jax

    return (lambda w, x: jax.nn.sigmoid(x @ w + 0.3)), WEIGHTS


def tf_function():
    import tensorflow as tf

    return tf.function(lambda x: tf.sigmoid(tf.linalg.matvec(x, WEIGHTS) + 0.3))


CASES = {
    "Keras, functional": (functional, {}, "any"),
    "Keras, logit": (lambda: functional(None), {"from_logits": True}, "any"),
    "Keras, subclassed": (subclassed, {}, "any"),
    "Keras, (n,)": (Flat, {}, "any"),
    "PyTorch, (n, 1)": (lambda: module([torch.nn.Sigmoid()]), {}, "torch"),
    "PyTorch, (n,)": (lambda: module([torch.nn.Flatten(0), torch.nn.Sigmoid()]), {}, "torch"),
    "PyTorch, logit": (lambda: module([]), {"from_logits": True}, "torch"),
    "JAX, (n,)": (jax_function, {}, "jax"),
    "TensorFlow, (n,)": (tf_function, {}, "tensorflow"),
    "estimator": (Estimator, {"companion_preprocess": "passthrough"}, None),
    "function, (n,)": (lambda: second, {}, None),
    "function, (n, 1)": (lambda: lambda rows: second(rows)[:, None], {}, None),
    "function, logit": (lambda: logits, {"from_logits": True}, None),
}
everywhere = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return sources.rows()


@everywhere
def test_one_output_counts_as_two_classes(case, X, tmp_path):
    model, settings, _ = CASES[case]
    detector = ModelDistillation(model=model(), **settings)
    detector.fit(X, epochs=4, batch_size=8, verbose=False, log_metric=keras.metrics.CategoricalAccuracy())
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    assert detector.classifier.classes == 2
    _, y, y_opinion = detector.score(X, return_predictions=True)
    np.testing.assert_allclose(y, np.stack([1 - second(X), second(X)], axis=1), atol=1e-5)
    assert y_opinion.shape == (len(X), 2)
    detector.infer_threshold(X, threshold_perc=75, groups="predicted")
    assert detector.threshold.shape == (2,)
    data = detector.correct(X)["data"]
    np.testing.assert_array_equal(data["no_defense"], second(X) > 0.5)
    if case != "Keras, subclassed" and case != "Keras, (n,)":  # classes of one's own that nobody registered
        detector.save(tmp_path / "detector")
        np.testing.assert_allclose(loaded_as(tmp_path / "detector", detector).score(X), detector.score(X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case, (_, _, native) in CASES.items() if native in ("any", BACKEND)])
def test_autoencoders_see_two_classes_too(case, X):
    model, settings, _ = CASES[case]
    detector = AdversarialAE(model=model(), score_type="kld", **settings)
    detector.fit(X, epochs=4, batch_size=8, verbose=False)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    score, y, y_opinion = detector.score(X, return_predictions=True)
    np.testing.assert_allclose(y, np.stack([1 - second(X), second(X)], axis=1), atol=1e-5)
    np.testing.assert_allclose(score, (y * np.log(y / y_opinion)).sum(axis=1), atol=1e-4)


@pytest.mark.parametrize("check", testing.READING_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_the_contract_holds_with_one_output(check, X):
    model = functional()

    def make():
        detector = ModelDistillation(model=model)
        models.moved(detector.companion)
        return detector

    check(make, X)


def test_sharpened_probabilities_stay_accurate_at_both_ends():
    """Probabilities of one sigmoid at logits of 40: neither end is lost in rounding."""
    far = functional(None)
    far.set_weights([WEIGHTS[:, None] * 100, np.float32([0])])
    X = sources.rows()[:8]
    detector = models.as_trained(AdversarialAE(model=far, from_logits=True, temperature=0.5))
    scores = detector.score(X)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_student_may_have_one_output_too(outputs, X, tmp_path):
    end = layers.Dense(outputs, activation="sigmoid" if outputs == 1 else "softmax")
    student = keras.Sequential([layers.Input((13,)), end])
    detector = ModelDistillation(model=second, distilled_model=student, score_type="kld")
    detector.fit(X, epochs=30, batch_size=8, verbose=False, optimizer=keras.optimizers.Adam(0.05))
    assert detector.score(X).mean() < 0.05
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", model=second)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)
