"""A small classifier of digits that is worth attacking, and guards of it that have learned; made once a process."""

import functools

import keras
import numpy as np
from keras import layers

from demur import AdversarialAE, ModelDistillation, datasets
from demur.evaluation.target import Target
from tests.scaffold import models


@functools.cache
def data():
    return datasets.load("digits")


def attacked_rows(n=24):
    """Test rows and their classes."""
    x, y = data().test
    return x[:n], y[:n]


@functools.cache
def classifier():
    body = [
        layers.Flatten(),
        layers.Dense(32, activation="relu", **models.weights(0)),
        layers.Dense(10, activation="softmax", **models.weights(1)),
    ]
    model = keras.Sequential([layers.Input((8, 8, 1)), *body], name="digits")
    xla = keras.backend.backend() == "jax"  # which takes each operation on its own without
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", jit_compile=xla)
    keras.utils.set_random_seed(0)
    model.fit(*data().train, epochs=6, batch_size=32, verbose=0)
    return model


@functools.cache
def guard(kind):
    """A fitted detector with a threshold, by the name of its class. Nobody changes it."""
    if kind == "AdversarialAE":
        detector = AdversarialAE(
            model=classifier(),
            encoder_net=models.encoder(),
            decoder_net=models.decoder(),
            temperature=0.5,
            score_type="kld",
        )
    else:
        detector = ModelDistillation(
            model=classifier(), distilled_model=models.student(), temperature=0.5, score_type="kld"
        )
    detector.fit(data().train.x, epochs=10, batch_size=32, optimizer=keras.optimizers.Adam(3e-3), verbose=False)
    return detector.infer_threshold(data().held_out.x, fpr=0.05)


def target(kind="AdversarialAE"):
    return Target(guard(kind), (0.0, 1.0))


def right_rows(n=16):
    """Test rows that the classifier gets right."""
    x, y = attacked_rows(2 * n)
    right = target().verdict(x).reference == y
    return x[right][:n], y[right][:n]


def accuracy(x, y):
    return float(np.mean(target().verdict(x).reference == y))
