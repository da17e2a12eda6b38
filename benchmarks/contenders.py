"""The same work in three ways, on TensorFlow: what the networks alone cost, the eager way, and demur.

The floor is written by hand, compiled, and does only the unavoidable passes on batches that lie ready: for a training
step, with the reference computed beforehand, autoencoder and classifier forward and backward to the autoencoder; for
scoring, the classifier twice and the autoencoder once. The eager way recomputes the reference in every training step,
under a GradientTape, and scores with eager forward passes.
"""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from measuring import seconds

from demur import AdversarialAE

FLOOR, EAGER, OURS = "floor", "eager", "demur"
FIT_BATCH, SCORE_BATCH = 128, 256

Networks = Callable[[], tuple[Any, Any]]
"""Makes a classifier that ends in Dense with a softmax, and an autoencoder."""


def kl(reference: Any, logits: Any) -> Any:
    """K-L divergence from log-probabilities to logits, written as one would by hand."""
    return tf.reduce_sum(tf.exp(reference) * (reference - tf.nn.log_softmax(logits)), axis=-1)


def with_logits(classifier: Any) -> Any:
    """The classifier up to the logits, as a function that shares its weights."""
    last = classifier.layers[-1]
    below = keras.Model(classifier.inputs[0], classifier.layers[-2].output)
    return lambda x: tf.matmul(below(x, training=False), last.kernel) + last.bias


def fit_ours(
    make: Networks,
    X: Any,
    batch_size: int = FIT_BATCH,
    epochs: int = 3,
    between: Callable[[], None] | None = None,
    **settings: Any,
) -> list[float]:
    """Seconds of each epoch of demur's `fit` but the first, which compiles; something else may run between epochs."""
    classifier, autoencoder = make()
    starts: list[float] = []
    ends: list[float] = []

    def end(*_: Any) -> None:
        ends.append(time.perf_counter())
        if between is not None:
            between()

    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: starts.append(time.perf_counter()), on_epoch_end=end
    )
    detector = AdversarialAE(model=classifier, ae=autoencoder, score_type="kld", **settings)
    detector.fit(X, epochs=epochs + 1, batch_size=batch_size, verbose=False, callbacks=[clock])
    return [end - start for start, end in zip(starts, ends, strict=True)][1:]


def floor_epoch(make: Networks, X: Any, batch_size: int = FIT_BATCH) -> Callable[[], None]:
    """What runs the unavoidable passes of an epoch of training; compiled."""
    classifier, autoencoder = make()
    logits = with_logits(classifier)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(autoencoder.trainable_variables)
    batches = [tf.constant(X[i : i + batch_size]) for i in range(0, len(X), batch_size)]
    infer = tf.function(lambda x: tf.nn.log_softmax(logits(x)), jit_compile=False, reduce_retracing=True)
    references = [infer(x) for x in batches]

    @tf.function(jit_compile=False, reduce_retracing=True)
    def step(x: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(kl(target, logits(autoencoder(x, training=True))))
        gradients = tape.gradient(loss, autoencoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
        return loss

    def epoch() -> None:
        for x, target in zip(batches, references, strict=True):
            loss = step(x, target)
        loss.numpy()

    epoch()
    return epoch


def fit_both(
    make: Networks, X: Any, batch_size: int = FIT_BATCH, epochs: int = 5, **settings: Any
) -> dict[str, list[float]]:
    """Seconds an epoch of demur's `fit` and of the floor, which takes its turn after each epoch of `fit`."""
    epoch = floor_epoch(make, X, batch_size)
    floor: list[float] = []
    ours = fit_ours(make, X, batch_size, epochs, lambda: floor.append(seconds(epoch)), **settings)
    return {OURS: ours, FLOOR: floor[1:]}


def fit_eager(make: Networks, X: Any, batch_size: int = FIT_BATCH) -> float:
    """Samples a second of eager training, on as much of X as 8 batches hold."""
    classifier, autoencoder = make()
    logits = with_logits(classifier)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(autoencoder.trainable_variables)
    some = X[: 8 * batch_size]

    def epoch() -> None:
        for i in range(0, len(some), batch_size):
            x = tf.constant(some[i : i + batch_size])
            target = tf.nn.log_softmax(logits(x))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(kl(target, logits(autoencoder(x, training=True))))
            gradients = tape.gradient(loss, autoencoder.trainable_variables)
            optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))

    epoch()
    start = time.perf_counter()
    epoch()
    return len(some) / (time.perf_counter() - start)


def in_batches(run: Callable[[Any], Any], batch_size: int) -> Callable[[Any], None]:
    """Apply a function to rows a batch at a time."""

    def over(X: Any) -> None:
        for i in range(0, len(X), batch_size):
            run(X[i : i + batch_size])

    return over


def scorers(make: Networks, batch_size: int = SCORE_BATCH, **settings: Any) -> dict[str, Callable[[Any], Any]]:
    """What scores rows and predicts both ways: demur's `correct`, the unavoidable passes compiled, and eager ones."""
    classifier, autoencoder = make()
    logits = with_logits(classifier)
    detector = AdversarialAE(model=classifier, ae=autoencoder, score_type="kld", threshold=1.0, **settings)
    spec = tf.TensorSpec([None, *classifier.input_shape[1:]], "float32")

    @tf.function(input_signature=[spec], jit_compile=False)
    def passes(x: Any) -> Any:
        reference, opinion = logits(x), logits(autoencoder(x, training=False))
        return kl(tf.nn.log_softmax(reference), opinion), reference, opinion

    def floor(x: Any) -> Any:
        score, reference, opinion = passes(tf.constant(x))
        return score.numpy(), reference.numpy().argmax(-1), opinion.numpy().argmax(-1)

    def eager(x: Any) -> Any:
        x = tf.constant(x)
        reference, opinion = classifier(x, training=False), classifier(autoencoder(x, training=False), training=False)
        divergence = keras.losses.kl_divergence(reference, opinion).numpy()
        return divergence, reference.numpy().argmax(-1), opinion.numpy().argmax(-1)

    return {
        OURS: lambda X: detector.correct(X, batch_size=batch_size),
        FLOOR: in_batches(floor, batch_size),
        EAGER: in_batches(eager, batch_size),
    }


def latency(run: Callable[[Any], Any], shape: tuple[int, ...], calls: int = 100) -> float:
    """Median milliseconds of one row."""
    x = np.random.default_rng(0).random((1, *shape), dtype="float32")
    run(x)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))
