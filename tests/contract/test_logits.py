"""A Keras classifier is read in log space, from the logits under its softmax, and stays as it is."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from demur.backends.divergence import PROBABILITY_FLOOR
from demur.classifiers import KerasClassifier
from demur.detectors import AdversarialAE
from demur.errors import NotADistribution

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


def backend_softmax():
    """The softmax of the framework itself."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.nn.softmax
    if backend == "jax":
        import jax

        return jax.nn.softmax
    import torch

    def softmax(x):
        return torch.nn.functional.softmax(x, dim=-1)

    return softmax


def body():
    return [layers.Input((4,)), layers.Dense(8, activation="relu", name="hidden")]


def dense(activation):
    return keras.Sequential([*body(), layers.Dense(3, activation=activation)])


def layer(ending):
    return keras.Sequential([*body(), layers.Dense(3), ending])


def functional(ending):
    x = inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(inputs, ending(x))


def mixed_precision():
    narrow = layers.Dense(3, dtype="mixed_float16")
    return keras.Sequential([layers.Input((4,)), narrow, layers.Activation("softmax", dtype="float32")])


def nested_sequential():
    head = keras.Sequential([layers.Input((8,)), layers.Dense(3, activation="softmax")])
    return keras.Sequential([*body(), keras.Sequential([layers.Input((8,)), head])])


def nested_functional():
    x = keras.Input((8,))
    head = keras.Model(x, ops.softmax(layers.Dense(3)(x)))
    return functional(head)


def softmax_model():
    """A softmax in a model of its own, after the logits."""
    return layer(keras.Sequential([layers.Input((3,)), layers.Softmax()]))


ENDINGS = {
    "Dense by name": lambda: dense("softmax"),
    "Dense by function": lambda: dense(keras.activations.softmax),
    "Dense with the function of the framework": lambda: dense(backend_softmax()),
    "Dense with a lambda": lambda: dense(lambda x: ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)),
    "Softmax layer": lambda: layer(layers.Softmax()),
    "Softmax layer over axis 1": lambda: layer(layers.Softmax(axis=1)),
    "Activation layer": lambda: layer(layers.Activation("softmax")),
    "Activation layer with the function of the framework": lambda: layer(layers.Activation(backend_softmax())),
    "Activation layer in float32 over float16": mixed_precision,
    "ops.softmax in a graph": lambda: functional(lambda x: ops.softmax(layers.Dense(3)(x))),
    "Dense in a graph": lambda: functional(layers.Dense(3, activation="softmax")),
    "sequential in sequential": nested_sequential,
    "functional in functional": nested_functional,
    "a model that is the softmax": softmax_model,
}
every_ending = pytest.mark.parametrize("make", ENDINGS.values(), ids=ENDINGS)


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor)


def reading(reader, x=X):
    return numpy_of(reader(ops.convert_to_tensor(x))[0])


def probabilities(model, x=X):
    return numpy_of(model(ops.convert_to_tensor(x), training=False)).astype("float64")


@every_ending
def test_logits_under_a_softmax_read_as_the_log_of_the_probabilities(make):
    model = make()
    reader = KerasClassifier(model)
    assert reader.is_logits
    assert reader.classes == 3
    np.testing.assert_allclose(reading(reader), np.log(probabilities(model)), atol=1e-5)


@every_ending
def test_logits_are_those_before_the_softmax(make):
    model = make()
    logits = numpy_of(KerasClassifier(model).network(ops.convert_to_tensor(X))).astype("float64")
    exponentials = np.exp(logits)
    np.testing.assert_allclose(exponentials / exponentials.sum(axis=1, keepdims=True), probabilities(model), atol=1e-6)
    assert (np.abs(exponentials.sum(axis=1) - 1) > 1e-2).any()  # they are not log-probabilities by chance


@every_ending
def test_reading_shares_the_weights_of_the_model(make):
    model = make()
    reader = KerasClassifier(model)
    assert {id(variable) for variable in reader.variables} == {id(variable) for variable in model.variables}
    before = reading(reader)
    model.set_weights([-2 * weight for weight in model.get_weights()])
    np.testing.assert_allclose(reading(reader), np.log(probabilities(model)), atol=1e-5)
    assert np.abs(reading(reader) - before).max() > 0.1


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`:UserWarning")
@every_ending
def test_reading_leaves_the_model_as_it_is(make):
    model = make()
    every_layer = list(model._flatten_layers())

    def state():
        return (
            [id(layer) for layer in model.layers],
            [len(layer._inbound_nodes) for layer in every_layer],
            [id(getattr(layer, "activation", None)) for layer in every_layer],
            [(layer.name, layer.trainable, layer.built) for layer in every_layer],
            [id(variable) for variable in model.variables],
            [id(output) for output in model.outputs],
            json.dumps(model.get_config(), default=repr),
            probabilities(model).tobytes(),
        )

    before = state()
    reading(KerasClassifier(model, hidden=[0, -1]))
    assert state() == before


class Subclassed(keras.Model):
    """A classifier without a graph of layers."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def call(self, x):
        return self.body(x)


def subclassed(body):
    model = Subclassed(body)
    model(X[:1])
    return model


def sigmoids_that_sum_to_1(x):
    p = ops.sigmoid(x) + 1e-30
    return p / ops.sum(p, axis=-1, keepdims=True)


CLIPPED = {
    "temperature of its own": lambda: dense(lambda x: ops.softmax(x / 2)),
    "temperature of its own in an Activation": lambda: layer(layers.Activation(lambda x: ops.softmax(2 * x))),
    "sigmoids brought to sum to 1": lambda: dense(sigmoids_that_sum_to_1),
    "mean of two": lambda: functional(
        lambda x: (layers.Dense(3, activation="softmax")(x) + layers.Dense(3, activation="softmax")(x)) / 2
    ),
    "subclassed": lambda: subclassed(dense("softmax")),
}


@pytest.mark.parametrize("make", CLIPPED.values(), ids=CLIPPED)
def test_anything_but_a_visible_softmax_is_read_from_probabilities(make):
    model = make()
    reader = KerasClassifier(model)
    assert not reader.is_logits
    np.testing.assert_allclose(reading(reader), np.log(probabilities(model)), atol=1e-5)
    far = 1000 * X  # saturates
    assert probabilities(model, far).min() < PROBABILITY_FLOOR
    expected = np.log(np.clip(probabilities(model, far), PROBABILITY_FLOOR, 1))
    np.testing.assert_allclose(reading(reader, far), expected, atol=1e-5)
    assert reading(reader, far).min() == pytest.approx(np.log(PROBABILITY_FLOOR), abs=1e-5)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis 0:UserWarning")
def test_softmax_over_the_rows_is_none_over_the_classes():
    with pytest.raises(NotADistribution):
        KerasClassifier(functional(lambda x: ops.softmax(layers.Dense(3)(x), axis=0)))
    with pytest.raises(NotADistribution):
        KerasClassifier(layer(layers.Softmax(axis=0)))


def steep():
    """One feature `x` to logits `(100 x, -100 x)`: any `x` above 0.5 gives exactly (1, 0)."""
    last = layers.Dense(2, activation="softmax", use_bias=False)
    model = keras.Sequential([layers.Input((1,)), last])
    last.set_weights([np.array([[100.0, -100.0]], "float32")])
    return model


def mirror():
    """An autoencoder that returns `-x`."""
    out = layers.Dense(1, use_bias=False)
    model = keras.Sequential([layers.Input((1,)), out])
    out.set_weights([np.array([[-1.0]], "float32")])
    return model


def test_scores_do_not_saturate_where_probabilities_do():
    x = np.array([[1.5], [2.0], [40.0]], "float32")
    score, y, y_opinion = AdversarialAE(model=steep(), ae=mirror(), score_type="kld").score(x, return_predictions=True)
    np.testing.assert_array_equal(y, [[1, 0]] * 3)
    np.testing.assert_array_equal(y_opinion, [[0, 1]] * 3)
    np.testing.assert_allclose(score, [300, 400, 8000], rtol=1e-5)  # log(p/q) = 200 x


def test_scores_saturate_where_nothing_but_probabilities_can_be_had():
    x = np.array([[1.5], [2.0], [40.0]], "float32")
    model = Subclassed(steep())
    model(x)
    score = AdversarialAE(model=model, ae=mirror(), score_type="kld").score(x)
    np.testing.assert_allclose(score, score[0])
    assert score[0] == pytest.approx(-np.log(PROBABILITY_FLOOR), abs=1e-3)


def features(reader, x=X):
    return [numpy_of(feature) for feature in reader(ops.convert_to_tensor(x))[1:]]


@pytest.mark.parametrize("make", [lambda: dense("softmax"), lambda: functional(layers.Dense(3, activation="softmax"))])
def test_hidden_feature_maps_are_the_layers_outputs_by_name_and_by_index(make):
    model = make()
    hidden = model.get_layer("hidden")
    index = model.layers.index(hidden)
    keys = ["hidden", index, index - len(model.layers), -1]
    reader = KerasClassifier(model, hidden=keys)
    assert reader.feature_shapes == [(8,), (8,), (8,), (3,)]
    by_layer = numpy_of(keras.Model(model.inputs, hidden.output)([X]))
    for feature in features(reader)[:3]:
        np.testing.assert_allclose(feature, by_layer, atol=1e-6)
    np.testing.assert_allclose(features(reader)[3], probabilities(model), atol=1e-6)
    np.testing.assert_allclose(reading(reader), np.log(probabilities(model)), atol=1e-5)


def shares_layers(make_inputs):
    """A model, a second one that shares its layers behind a layer of its own, and that layer."""
    hidden, last = layers.Dense(8, activation="relu", name="hidden"), layers.Dense(3, activation="softmax")
    before = layers.Dense(4, name="before")
    first_input, second_input = keras.Input((4,)), keras.Input((4,))
    first = keras.Model(first_input, last(hidden(first_input)))
    second = make_inputs(second_input, before, hidden, last)
    return first, second, before


SECONDS = {
    "functional": lambda x, before, hidden, last: keras.Model(x, last(hidden(before(x)))),
    "sequential": lambda x, before, hidden, last: keras.Sequential([layers.Input((4,)), before, hidden, last]),
}


@pytest.mark.parametrize("make", SECONDS.values(), ids=SECONDS)
def test_layers_shared_by_two_models_are_read_in_the_right_one(make):
    first, second, before = shares_layers(make)
    for_first, for_second = KerasClassifier(first, hidden=["hidden"]), KerasClassifier(second, hidden=["hidden"])
    np.testing.assert_allclose(reading(for_first), np.log(probabilities(first)), atol=1e-5)
    np.testing.assert_allclose(reading(for_second), np.log(probabilities(second)), atol=1e-5)
    assert np.abs(probabilities(first) - probabilities(second)).max() > 1e-2
    passed_on = numpy_of(before(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(features(for_second)[0], features(for_first, passed_on)[0], atol=1e-5)
    kernel, bias = (numpy_of(weight) for weight in first.get_layer("hidden").weights)
    np.testing.assert_allclose(features(for_first)[0], np.maximum(X @ kernel + bias, 0), atol=1e-5)
    np.testing.assert_allclose(features(for_second)[0], np.maximum(passed_on @ kernel + bias, 0), atol=1e-5)
