"""Steps compiled into one call train as steps one by one do, and only where nobody watches each."""

import keras
import numpy as np
import pytest
from keras import layers

from demur import AdversarialAE, ModelDistillation
from demur.errors import InvalidSetting

BACKEND = keras.backend.backend()
N = 4 * 130


class Noting(keras.callbacks.Callback):
    """Looks at epochs only."""

    def on_epoch_end(self, epoch, logs=None):
        self.together = self.model.steps_per_execution


class Counting(keras.callbacks.Callback):
    """Looks at batches too."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


ONE_EPOCH = {"epochs": 1, "verbose": False, "validation_split": 0}
"""Of all rows."""


def classifier(shape=(6,), seed=0, width=16):
    keras.utils.set_random_seed(seed)
    hidden = [layers.Flatten()] if len(shape) > 1 else []
    return keras.Sequential(
        [layers.Input(shape), *hidden, layers.Dense(width, activation="relu"), layers.Dense(3, activation="softmax")]
    )


def made(kind, shape=(6,), width=16):
    if kind is AdversarialAE:
        return AdversarialAE(model=classifier(shape, width=width), seed=1)
    return ModelDistillation(model=classifier(shape, width=width), distilled_model=classifier(shape, seed=1))


def table(n=N, shape=(6,)):
    return np.random.default_rng(0).normal(size=(n, *shape)).astype("float32")


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on PyTorch")
@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_steps_in_one_call_train_as_steps_one_by_one_do(kind):
    found = {}
    for together in (1, 4):
        detector = made(kind).fit(table(54), epochs=2, batch_size=8, verbose=False, steps_per_execution=together)
        found[together] = (detector.score(table()), detector.history["loss"])
    np.testing.assert_allclose(found[1][0], found[4][0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[1][1], found[4][1], rtol=1e-5)


@pytest.mark.slow
def test_small_networks_on_tables_take_many_steps_a_call_on_tensorflow():
    noting = Noting()
    made(AdversarialAE).fit(table(), **ONE_EPOCH, batch_size=4, callbacks=[noting])
    assert noting.together == (32 if BACKEND == "tensorflow" else 1)


@pytest.mark.parametrize(
    ("shape", "width", "n", "batch_size", "why"),
    [
        ((6,), 16, N, 8, "few batches"),
        ((3, 2), 16, N, 4, "not a table"),
        ((6,), 800_000, N, 4, "large networks"),
    ],
)
def test_others_take_one_step_a_call(shape, width, n, batch_size, why):
    noting = Noting()
    detector = ModelDistillation(model=classifier(shape, width=width), distilled_model=classifier(shape, seed=1))
    detector.fit(table(n, shape), **ONE_EPOCH, batch_size=batch_size, callbacks=[noting])
    assert noting.together == 1, why


@pytest.mark.slow
def test_a_callback_that_looks_at_batches_sees_each():
    counting, noting = Counting(), Noting()
    seen = []
    inline = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    made(AdversarialAE).fit(table(), **ONE_EPOCH, batch_size=4, callbacks=[counting, noting])
    assert (counting.count, noting.together) == (130, 1)
    made(AdversarialAE).fit(table(), **ONE_EPOCH, batch_size=4, callbacks=[inline, noting])
    assert (len(seen), noting.together) == (130, 1)


@pytest.mark.parametrize("steps", [0, 1.5, "auto", True])
def test_steps_per_execution_is_a_whole_number(steps):
    with pytest.raises(InvalidSetting, match="steps_per_execution"):
        made(AdversarialAE).fit(table(8), epochs=1, verbose=False, steps_per_execution=steps)


@pytest.mark.skipif(BACKEND != "torch", reason="an error of PyTorch's only")
def test_steps_per_execution_on_pytorch_is_an_error_that_says_what_to_do():
    with pytest.raises(InvalidSetting, match="leave it out"):
        made(AdversarialAE).fit(table(8), epochs=1, verbose=False, steps_per_execution=2)
