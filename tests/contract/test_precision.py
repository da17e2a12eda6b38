"""Classifiers in half precision, saturated and extreme: scores stay finite, ordered and apart."""

import keras
import numpy as np
import pytest
from keras import layers

from demur import AdversarialAE, ModelDistillation

CLASSES = 5
FEATURES = 5


def identity_classifier(dtype="float32", scale=1.0, logits=False):
    """Its logits are `scale` times its input."""
    dense = layers.Dense(CLASSES, use_bias=False, activation=None if logits else "softmax", dtype=dtype)
    model = keras.Sequential([layers.Input((FEATURES,)), dense])
    model.set_weights([np.eye(FEATURES, CLASSES, dtype="float32") * scale])
    return model


def shrinking_autoencoder(factor):
    """Returns `factor` times its input."""
    model = keras.Sequential([layers.Input((FEATURES,)), layers.Dense(FEATURES, use_bias=False)])
    model.set_weights([np.eye(FEATURES, dtype="float32") * factor])
    return model


def exact(z, other, temperature):
    """The divergence in float64, by the definition, for logits; exact enough where it is not below 1e-12."""

    def log_softmax(values):
        values = values - values.max(axis=-1, keepdims=True)
        return values - np.log(np.exp(values).sum(axis=-1, keepdims=True))

    a, b = log_softmax(np.asarray(z, "float64") / temperature), log_softmax(np.asarray(other, "float64"))
    return (np.exp(a) * (a - b)).sum(axis=-1)


def spread(largest, n=60):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, FEATURES)) * np.geomspace(0.1, largest, n)[:, None]).astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_classifiers_of_any_precision_score_finite_numbers(dtype, temperature):
    X = spread(1000)
    for detector in (
        AdversarialAE(model=identity_classifier(dtype), ae=shrinking_autoencoder(0.9), temperature=temperature),
        ModelDistillation(model=identity_classifier(dtype), distilled_model=identity_classifier(scale=0.9)),
    ):
        score, y, opinion = detector.score(X, return_predictions=True)
        assert score.dtype == y.dtype == opinion.dtype == "float32"
        assert np.isfinite(score).all()
        assert (score >= 0).all()
        np.testing.assert_allclose(y.sum(axis=-1), 1, atol=1e-3)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_scores_are_near_those_of_full_precision(dtype):
    X = spread(10)
    half, full = (
        ModelDistillation(model=identity_classifier(kind), distilled_model=identity_classifier(scale=0.7)).score(X)
        for kind in (dtype, "float32")
    )
    np.testing.assert_allclose(half, full, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_training_works_under_mixed_precision(dtype):
    X = spread(10, n=200)
    companion = keras.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(16, activation="relu", dtype=dtype),
            layers.Dense(CLASSES, activation="softmax", dtype=dtype),
        ]
    )
    detector = ModelDistillation(model=identity_classifier(dtype), distilled_model=companion)
    detector.fit(X, epochs=30, verbose=False)
    assert detector.history["loss"][-1] < 0.8 * detector.history["loss"][0]
    assert np.isfinite(detector.score(X)).all()


@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("logits", [True, False])
def test_extreme_logits_score_their_divergence(temperature, logits):
    X = spread(1e4)
    detector = ModelDistillation(
        model=identity_classifier(logits=logits),
        distilled_model=identity_classifier(scale=0.9, logits=logits),
        from_logits=logits,
        temperature=temperature,
        score_type="kld",
    )
    score, expected = detector.score(X), exact(X, 0.9 * X, temperature)
    clear = expected > 1e-6
    assert clear.sum() >= 10
    np.testing.assert_allclose(score[clear], expected[clear], rtol=1e-3)


def test_scores_are_ordered_and_untied_however_sure_the_classifier_is():
    """The surer both views are of one class, the smaller the score, far beyond where probabilities round to 1."""
    margins = np.linspace(5, 80, 60, dtype="float32")
    X = np.zeros((60, FEATURES), "float32")
    X[:, 0] = margins
    detector = ModelDistillation(model=identity_classifier(), distilled_model=identity_classifier(scale=0.9))
    score = detector.score(X)
    assert (np.diff(score) < 0).all()
    assert np.unique(score).size == 60
    # And where they are sure of different classes, the larger.
    swap = identity_classifier()
    swap.set_weights([np.roll(np.eye(FEATURES, CLASSES, dtype="float32"), 1, axis=1)])
    score = ModelDistillation(model=identity_classifier(), distilled_model=swap).score(X * 100)
    assert (np.diff(score) > 0).all()


def test_probabilities_that_are_exactly_0_and_1_give_finite_scores():
    class Certain(keras.Model):
        def call(self, x):
            return keras.ops.one_hot(keras.ops.argmax(x, axis=-1), CLASSES)

    classifier, student = Certain(), Certain()
    X = spread(10)
    classifier(X)
    student(X)
    for temperature in (0.01, 1.0, 100.0):
        score = ModelDistillation(
            model=classifier, distilled_model=student, temperature=temperature, score_type="kld"
        ).score(X)
        assert np.isfinite(score).all()
        np.testing.assert_allclose(score, score[0], rtol=1e-5)
