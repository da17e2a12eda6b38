"""Small classifiers, made once a process, and companions, for scikit-learn's data: all from fixed seeds."""

import functools

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits, load_wine


def weights(seed):
    """A seeded initialiser: Keras draws the seed of an unseeded one from Python's global generator."""
    return {"kernel_initializer": keras.initializers.GlorotUniform(seed=seed)}


@functools.cache
def digits():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32").reshape(-1, 8, 8, 1)
    return X[:300], y[:300]


@functools.cache
def wine():
    X, y = load_wine(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order].astype("float32"), y[order]


def moved(model, by=0.3):
    """Move every weight and statistic of a model a little: it then is as if it was trained, without the time."""
    rng = np.random.default_rng(0)
    model.set_weights([w * rng.uniform(1 - by, 1 + by, w.shape) for w in model.get_weights()])
    return model


def as_trained(detector):
    """The detector, which then answers as if it had been trained, without the time."""
    detector.is_fitted = True
    return detector


def cnn_layers(activation):
    block = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(8, 3, **weights(0)), layers.BatchNormalization(), layers.ReLU()],
        name="block",
    )
    return [
        block,
        layers.Flatten(name="flat"),
        layers.Dropout(0.2, seed=1),
        layers.Dense(16, activation="relu", name="hidden", **weights(2)),
        layers.Dense(10, activation=activation, name="classes", **weights(3)),
    ]


@functools.cache
def cnn():
    """A functional CNN with BatchNorm, in a block of its own, and Dropout; 8x8x1 to 10 classes."""
    x = inputs = keras.Input((8, 8, 1))
    for layer in cnn_layers("softmax"):
        x = layer(x)
    model = keras.Model(inputs, x, name="cnn")
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    keras.utils.set_random_seed(0)
    model.fit(*digits(), epochs=6, batch_size=32, verbose=0)
    return model


@functools.cache
def logits_cnn():
    """The same with logits for an output."""
    model = keras.Sequential([layers.Input((8, 8, 1)), *cnn_layers(None)], name="logits_cnn")
    model.set_weights(cnn().get_weights())
    return model


@functools.cache
def tabular():
    body = [
        layers.Dense(16, activation="relu", **weights(0)),
        layers.BatchNormalization(),
        layers.Dense(3, **weights(1)),
        layers.Softmax(),
    ]
    return moved(keras.Sequential([layers.Input((13,)), *body], name="tabular"))


@keras.saving.register_keras_serializable("demur_tests")
class SubclassedClassifier(keras.Model):
    """A classifier without a graph of layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flat = layers.Flatten()
        self.norm = layers.BatchNormalization()
        self.classes = layers.Dense(10, activation="softmax", **weights(0))

    def call(self, x, training=False):
        return self.classes(self.norm(self.flat(x), training=training))


@functools.cache
def subclassed():
    model = SubclassedClassifier()
    model(digits()[0][:1])
    return moved(model)


@functools.cache
def hidden_models():
    """Two models of one's own for `model_hl`: from the image to distributions of 4 and 6."""

    def model(n):
        body = [layers.Flatten(), layers.BatchNormalization(), layers.Dense(n, activation="softmax", **weights(n))]
        return keras.Sequential([layers.Input((8, 8, 1)), *body])

    return [model(4), model(6)]


def dense_student():
    """13 features to 3 classes."""
    return keras.Sequential([layers.Input((13,)), layers.Dense(3, activation="softmax", **weights(6))])


def encoder():
    return keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(24, activation="relu", **weights(4))], name="encoder"
    )


def decoder():
    return keras.Sequential(
        [layers.Input((24,)), layers.Dense(64, **weights(5)), layers.Reshape((8, 8, 1))], name="decoder"
    )


@keras.saving.register_keras_serializable("demur_tests")
class SubclassedAE(keras.Model):
    """An autoencoder without a graph, whose every part acts otherwise in training, and which adds to the loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flat = layers.Flatten()
        self.code = layers.Dense(24, activity_regularizer=keras.regularizers.L1(1e-5), **weights(6))
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.4, seed=2)
        self.out = layers.Dense(64, kernel_regularizer=keras.regularizers.L2(1e-4), **weights(7))
        self.shape_back = layers.Reshape((8, 8, 1))

    def call(self, x, training=False):
        code = ops.relu(self.norm(self.code(self.flat(x)), training=training))
        return self.shape_back(self.out(self.drop(code, training=training)))


def student():
    output = layers.Dense(10, activation="softmax", **weights(10))
    body = [layers.Flatten(), layers.Dense(16, activation="relu", **weights(11)), output]
    return keras.Sequential([layers.Input((8, 8, 1)), *body], name="student")


def live_student():
    """A student with Dropout and BatchNorm."""
    body = [
        layers.Flatten(),
        layers.Dense(16, use_bias=False, **weights(8)),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.4, seed=3),
        layers.Dense(10, activation="softmax", **weights(9)),
    ]
    return keras.Sequential([layers.Input((8, 8, 1)), *body], name="live_student")
