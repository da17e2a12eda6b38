"""A source of one's own, and classifiers that learn the layout of their rows from the first ones."""

import keras
import numpy as np
import pytest
from keras import ops

from demur import AdversarialAE, ModelDistillation, classifiers, load_detector
from demur.classifiers import BlackBoxClassifier, GraphClassifier
from demur.classifiers.base import digest_of
from demur.errors import NotFitted, ShapeMismatch, WrongType
from demur.testing.files import loaded_as
from tests.scaffold import models, sources


class Rules:
    """What no source reads."""

    def __init__(self, at):
        self.at = at

    def decide(self, rows):
        return (rows[:, 0] > self.at).astype(float)


@pytest.fixture
def registered(monkeypatch):
    """Sources that are registered during one test."""
    monkeypatch.setattr(classifiers, "SOURCES", list(classifiers.SOURCES))
    return classifiers.register


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return sources.rows()


def test_a_black_box_of_ones_own(registered, X, tmp_path):
    with pytest.raises(WrongType, match=r"the classifier must be a Keras model, a torch.nn.Module, .* got Rules"):
        ModelDistillation(model=Rules(0.0))

    @registered
    class RulesClassifier(BlackBoxClassifier):
        @classmethod
        def accepts(cls, model):
            return isinstance(model, Rules)

        def ask(self, rows):
            return self.model.decide(rows)

    detector = ModelDistillation(model=Rules(0.0)).fit(X, epochs=2, verbose=False)
    _, y, _ = detector.score(X, return_predictions=True)
    np.testing.assert_allclose(y[:, 1], X[:, 0] > 0, atol=1e-5)
    detector.save(tmp_path / "detector")
    np.testing.assert_allclose(loaded_as(tmp_path / "detector", detector).score(X), detector.score(X), atol=1e-6)


@pytest.mark.slow
def test_a_classifier_in_the_graph_of_ones_own(registered, X, tmp_path):
    """What computes with Keras's operations: gradients go through it, on every backend."""

    class Linear:
        def __init__(self, weights):
            self.weights = weights

    @registered
    class LinearClassifier(GraphClassifier):
        def __init__(self, model, *, layout, **settings):
            super().__init__(dtype="float32")
            self.model, self.layout, self.is_logits = model, layout, True
            self.classes, self.feature_shapes, self.role = 3, [], "classifier"

        @classmethod
        def accepts(cls, model):
            return isinstance(model, Linear)

        @classmethod
        def fingerprint_of(cls, model):
            return digest_of([model.weights])

        def outputs(self, x, training=False):
            return [ops.matmul(x, self.model.weights)]

    linear = Linear(np.random.default_rng(0).normal(size=(13, 3)).astype("float32"))
    for kind in (AdversarialAE, ModelDistillation):
        detector = kind(model=linear).fit(X, epochs=4, batch_size=8, verbose=False)
        assert detector.history["loss"][-1] < detector.history["loss"][0]
        detector.save(tmp_path / kind.__name__)
        loaded = load_detector(tmp_path / kind.__name__, model=linear)
        np.testing.assert_allclose(loaded.score(X), detector.score(X), atol=1e-6)


def test_the_page_shows_a_source_in_five_lines():
    """The example in the package's docstring is what the page shows."""
    lines = [line for line in classifiers.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 5


# Getting ready ------------------------------------------------------------------------------------------------------


def lazy():
    """A subclassed model that was never called: it does not know its input."""

    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.classes = keras.layers.Dense(3, activation="softmax", **models.weights(0))

        def call(self, x):
            return self.classes(x)

    return Lazy()


def test_the_first_rows_tell_the_shape(X):
    detector = models.as_trained(ModelDistillation(model=sources.function, threshold=1.0))
    assert detector.input_shape is None
    assert "inputs None" in repr(detector)
    assert detector.distilled_model is None
    detector.score(X)
    assert detector.input_shape == (13,)
    assert detector.distilled_model.input_shape == (None, 13)
    with pytest.raises(ShapeMismatch, match=r"X must have shape \(n, 13\); got \(32, 12\)"):
        detector.score(X[:, 1:])


@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_the_shape_may_be_said_before(kind):
    detector = kind(model=lazy(), input_shape=(13,))
    assert detector.input_shape == (13,)
    assert detector.companion.input_shape == (None, 13)


def test_a_companion_knows_the_shape_too():
    detector = ModelDistillation(model=lazy(), distilled_model=models.dense_student())
    assert detector.input_shape == (13,)


def test_a_shape_that_the_classifier_does_not_take_is_refused():
    with pytest.raises(ShapeMismatch, match=r"takes inputs of shape \(n, 13\); input_shape says \(n, 12\)"):
        ModelDistillation(model=models.tabular(), input_shape=(12,))


def test_nothing_is_saved_of_what_has_seen_nothing(tmp_path):
    with pytest.raises(NotFitted, match=r"not known before fit\(X\)"):
        ModelDistillation(model=sources.function).save(tmp_path / "detector")


def test_a_stream_that_is_drawn_once_is_not_robbed_of_its_first_batch(X):
    detector = models.as_trained(ModelDistillation(model=sources.function))
    scores = detector.score(X[start : start + 8] for start in range(0, 32, 8))
    assert scores.shape == (32,)
    np.testing.assert_allclose(scores, detector.score(X), rtol=1e-4, atol=1e-6)
