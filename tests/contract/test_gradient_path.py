"""AdversarialAE needs a gradient through the classifier: it says where there is none, and what to use instead."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation
from demur.errors import NoGradients
from tests.scaffold import models
from tests.scaffold.advice import advises

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(40, 6)).astype("float32")
TOKENS = RNG.integers(1, 50, (120, 12))
QUICK = {"epochs": 1, "verbose": False}


def dense(n):
    return layers.Dense(n, activation="softmax", **models.weights(3))


def words():
    return layers.Embedding(50, 8, embeddings_initializer=keras.initializers.RandomNormal(seed=0))


def of_bytes():
    return keras.Sequential([layers.Input((6,), dtype="uint8"), layers.Rescaling(1 / 16), dense(3)])


def text(*between, dtype=None):
    return keras.Sequential([layers.Input((12,), dtype=dtype), *between, words(), layers.Flatten(), dense(2)])


class WordsAndPlaces(layers.Layer):
    """Embeddings of tokens and of their places, as Keras's examples write them."""

    def __init__(self):
        super().__init__()
        self.words, self.places = words(), layers.Embedding(12, 8)

    def call(self, x):
        return self.words(x) + self.places(ops.arange(12))


class Whole(layers.Layer):
    def call(self, x):
        return ops.cast(x, "int32")


def functional(read):
    inputs = keras.Input((12,))
    return keras.Model(inputs, dense(2)(layers.Flatten()(read(inputs))))


def nested():
    inner = keras.Sequential([layers.Input((12,)), words(), layers.Flatten()])
    return keras.Sequential([layers.Input((12,)), inner, dense(2)])


OF_TOKENS = {
    "Sequential": text,
    "of whole numbers": lambda: text(dtype="int32"),
    "behind a cast": lambda: functional(lambda x: words()(ops.cast(x, "int32"))),
    "within a layer": lambda: functional(WordsAndPlaces()),
    "within a model": nested,
}


@pytest.mark.parametrize("make", [of_bytes, *OF_TOKENS.values()], ids=["bytes", *OF_TOKENS])
def test_whole_numbers_are_refused_at_once(make):
    with pytest.raises(NoGradients, match=r"takes whole numbers.*use ModelDistillation"):
        AdversarialAE(model=make())


@pytest.mark.slow
def test_bytes_can_be_distilled_as_advised():
    rows = RNG.integers(0, 17, (40, 6)).astype("uint8")
    assert np.isfinite(ModelDistillation(model=of_bytes()).fit(rows, **QUICK).score(rows)).all()


@pytest.mark.parametrize("make", OF_TOKENS.values(), ids=OF_TOKENS)
def test_tokens_get_a_student_of_tokens(make):
    detector = ModelDistillation(model=make())
    (embedding,) = [layer for layer in detector.companion.layers if isinstance(layer, layers.Embedding)]
    assert embedding.input_dim == 50
    assert detector.classifier.layout.dtype == "int32"


@pytest.mark.slow
def test_a_student_of_tokens_learns_and_reads_floats_alike():
    detector = ModelDistillation(model=text()).fit(TOKENS, epochs=8, batch_size=16, verbose=False)
    assert detector.history["loss"][-1] < 0.5 * detector.history["loss"][0]
    np.testing.assert_allclose(detector.score(TOKENS[:9]), detector.score(TOKENS[:9].astype("float64")), atol=1e-6)


@pytest.mark.slow
def test_a_black_box_is_distilled_or_gives_way_to_a_network():
    def classify(rows):
        return np.exp(rows[:, :3]) / np.exp(rows[:, :3]).sum(axis=1, keepdims=True)

    with advises(NoGradients, "use ModelDistillation, or pass a Keras, PyTorch, JAX or TensorFlow model"):
        AdversarialAE(model=classify)
    ModelDistillation(model=classify).fit(X, **QUICK)
    AdversarialAE(model=keras.Sequential([layers.Input((6,)), dense(3)])).fit(X, **QUICK)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.words, self.flat, self.last = words(), layers.Flatten(), dense(2)

    def call(self, x, training=False):
        return self.last(self.flat(self.words(x)))


def test_a_model_without_a_graph_that_holds_an_embedding_reads_tokens():
    assert ModelDistillation(model=Subclassed()).fit(TOKENS, **QUICK).classifier.layout.dtype == "int32"
    with pytest.raises(NoGradients, match="use ModelDistillation"):
        AdversarialAE(model=Subclassed()).fit(TOKENS, **QUICK)


class Round(layers.Layer):
    def call(self, x):
        return ops.round(x * 8) / 8


class Stop(layers.Layer):
    def call(self, x):
        return ops.stop_gradient(x)


class ArgMax(layers.Layer):
    def call(self, x):
        return ops.one_hot(ops.argmax(x, axis=-1), 6)


def cut(layer):
    return keras.Sequential([layers.Input((6,)), layer, dense(3)])


def native():
    """What the backend itself computes, with a cut in it."""
    kernel = RNG.normal(size=(6, 3)).astype("float32")
    if BACKEND == "torch":
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.kernel = torch.nn.Parameter(torch.from_numpy(kernel))

            def forward(self, x):
                return (x.detach() @ self.kernel).softmax(-1)

        return Net()
    if BACKEND == "jax":
        import jax

        return (lambda kernel, x: jax.nn.softmax(jax.numpy.rint(4 * x) @ kernel)), kernel
    import tensorflow as tf

    return tf.function(lambda x: tf.nn.softmax(tf.math.rint(4 * x) @ kernel))


CUTS = {
    "round": lambda: cut(Round()),
    "stop_gradient": lambda: cut(Stop()),
    "argmax": lambda: cut(ArgMax()),
    "native": native,
}


@pytest.mark.parametrize("make", CUTS.values(), ids=CUTS)
def test_a_path_that_is_cut_is_found_before_training(make):
    detector = AdversarialAE(model=make(), input_shape=(6,))
    before = [weight.copy() for weight in detector.ae.get_weights()]
    with advises(NoGradients, "Leave that out, or use ModelDistillation(model=...)"):
        detector.fit(X, **QUICK)
    for old, new in zip(before, detector.ae.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    ModelDistillation(model=make(), input_shape=(6,)).fit(X, **QUICK)


def test_a_path_that_is_cut_is_found_for_a_stream_too():
    with pytest.raises(NoGradients):
        AdversarialAE(model=cut(Round())).fit(iter([X[:20], X[20:]]), **QUICK)


def test_with_w_recon_the_autoencoder_learns_without_it():
    detector = AdversarialAE(model=cut(Round())).fit(X, w_recon=1.0, **QUICK)
    assert np.isfinite(detector.history["loss"]).all()


def test_a_path_without_what_cut_it_learns():
    whole = keras.Sequential(cut(Round()).layers[1:])
    assert np.isfinite(AdversarialAE(model=whole, input_shape=(6,)).fit(X, **QUICK).score(X)).all()


def test_a_saturated_classifier_is_no_cut():
    """Its probabilities are exactly 0 and 1 on the rows, and so is the gradient there 0."""
    last = layers.Dense(2, use_bias=False)
    inner = keras.Sequential([layers.Input((6,)), last, layers.Lambda(lambda z: ops.softmax(z / 1.0))])
    last.set_weights([np.tile([[60.0, -60.0]], (6, 1)).astype("float32")])
    AdversarialAE(model=inner).fit(X + 1, **QUICK)
