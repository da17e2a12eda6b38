"""How fast is demur against what the networks cost, and against the eager way? TensorFlow.

    KERAS_BACKEND=tensorflow python benchmarks/speed.py [--quick]

The floor is a hand-written compiled loop that does only the unavoidable passes: for a training step, with the
reference computed beforehand, autoencoder and classifier forward and backward to the autoencoder; for scoring, the
classifier twice and the autoencoder once. The eager way recomputes the reference in every step, under GradientTape, and
scores with eager forward passes. The three alternate within one run; medians and ratios of medians are reported, in
docs/results/speed.json.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from networks import NETWORKS, rows

from demur import AdversarialAE

ROOT = Path(__file__).resolve().parent.parent
BATCH = 128
FLOOR, EAGER, OURS = "floor", "eager", "demur"


def kl(reference: Any, logits: Any) -> Any:
    """K-L divergence from log-probabilities to logits, written as one would by hand."""
    return tf.reduce_sum(tf.exp(reference) * (reference - tf.nn.log_softmax(logits)), axis=-1)


def with_logits(classifier: Any) -> Any:
    """The classifier up to the logits, as a model that shares its weights."""
    last = classifier.layers[-1]
    below = keras.Model(classifier.inputs[0], classifier.layers[-2].output)
    return lambda x: tf.matmul(below(x, training=False), last.kernel) + last.bias


def alternated(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median over the rounds of what each contender measures, one after the other in each round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            gc.collect()
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def fit_speed(make: Callable[[], tuple[Any, Any]], n: int, rounds: int) -> dict[str, float]:
    """Samples a second of training, compilation left out."""
    X = rows(make()[0].input_shape[1:], n)

    def ours() -> float:
        classifier, autoencoder = make()
        ends: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: ends.append(time.perf_counter()),
            on_epoch_end=lambda *_: ends.append(time.perf_counter()),
        )
        AdversarialAE(model=classifier, ae=autoencoder).fit(
            X, epochs=3, batch_size=BATCH, verbose=False, callbacks=[clock]
        )
        return n / statistics.median([ends[3] - ends[2], ends[5] - ends[4]])

    def floor() -> float:
        classifier, autoencoder = make()
        logits = with_logits(classifier)
        reference = np.concatenate([tf.nn.log_softmax(logits(X[i : i + 256])).numpy() for i in range(0, n, 256)])
        optimizer = keras.optimizers.Adam(1e-3)
        optimizer.build(autoencoder.trainable_variables)

        @tf.function(jit_compile=False)
        def step(x: Any, target: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(kl(target, logits(autoencoder(x, training=True))))
            gradients = tape.gradient(loss, autoencoder.trainable_variables)
            optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
            return loss

        rng, times = np.random.default_rng(0), []
        for _ in range(3):
            order, start = rng.permutation(n), time.perf_counter()
            for i in range(0, n, BATCH):
                chosen = order[i : i + BATCH]
                step(tf.constant(X[chosen]), tf.constant(reference[chosen]))
            times.append(time.perf_counter() - start)
        return n / statistics.median(times[1:])

    def eager() -> float:
        classifier, autoencoder = make()
        logits = with_logits(classifier)
        optimizer = keras.optimizers.Adam(1e-3)
        optimizer.build(autoencoder.trainable_variables)
        some = min(n, 8 * BATCH)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            for i in range(0, some, BATCH):
                x = tf.constant(X[i : i + BATCH])
                target = tf.nn.log_softmax(logits(x))
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(kl(target, logits(autoencoder(x, training=True))))
                gradients = tape.gradient(loss, autoencoder.trainable_variables)
                optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
            times.append(time.perf_counter() - start)
        return some / min(times)

    return alternated({OURS: ours, FLOOR: floor, EAGER: eager}, rounds)


def score_contenders(make: Callable[[], tuple[Any, Any]]) -> dict[str, Callable[[Any], Any]]:
    """What scores a batch: demur, the two unavoidable passes compiled, and the same eagerly."""
    classifier, autoencoder = make()
    logits = with_logits(classifier)
    detector = AdversarialAE(model=classifier, ae=autoencoder, threshold=1.0)
    spec = tf.TensorSpec([None, *classifier.input_shape[1:]], "float32")

    @tf.function(input_signature=[spec], jit_compile=False)
    def passes(x: Any) -> Any:
        reference, opinion = logits(x), logits(autoencoder(x, training=False))
        return kl(tf.nn.log_softmax(reference), opinion), reference, opinion

    def eager(x: Any) -> Any:
        x = tf.constant(x)
        reference, opinion = classifier(x, training=False), classifier(autoencoder(x, training=False), training=False)
        return keras.losses.kl_divergence(reference, opinion).numpy(), reference.numpy(), opinion.numpy()

    return {
        OURS: detector.correct,
        FLOOR: lambda x: [output.numpy() for output in passes(tf.constant(x))],
        EAGER: eager,
    }


def score_speed(make: Callable[[], tuple[Any, Any]], n: int, rounds: int) -> dict[str, float]:
    """Samples a second of `correct` on n rows, 256 a batch."""
    contenders = score_contenders(make)
    X = rows(make()[0].input_shape[1:], n)

    def timed(name: str) -> float:
        run = contenders[name]
        start = time.perf_counter()
        if name == OURS:
            run(X)
        else:
            for i in range(0, n, 256):
                run(X[i : i + 256])
        return n / (time.perf_counter() - start)

    for name in contenders:
        timed(name)
    return alternated({name: lambda name=name: timed(name) for name in contenders}, rounds)


def one_image(make: Callable[[], tuple[Any, Any]], rounds: int, calls: int = 100) -> dict[str, float]:
    """Milliseconds for one row."""
    contenders = score_contenders(make)
    x = rows(make()[0].input_shape[1:], 1)

    def timed(run: Callable[[Any], Any]) -> float:
        times = []
        for _ in range(calls):
            start = time.perf_counter()
            run(x)
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times)

    for run in contenders.values():
        timed(run)
    return alternated({name: lambda run=run: timed(run) for name, run in contenders.items()}, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, to try the script; writes nothing")
    quick = parser.parse_args().quick
    if keras.backend.backend() != "tensorflow":
        print("this benchmark is about TensorFlow: set KERAS_BACKEND=tensorflow")
        return 1
    rounds = 1 if quick else 5
    sizes = {"MLP, 30 features": 16_384, "CNN, 28x28x1": 2048, "ResNet-20, 32x32x3": 1024}
    results: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0))},
        "versions": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "networks": {},
    }
    for name, make in NETWORKS.items():
        n = sizes[name] // (4 if quick else 1)
        entry = {
            "fit, samples/s": fit_speed(make, n, min(rounds, 3)),
            "correct, batch 256, samples/s": score_speed(make, n, rounds),
            "one row, ms": one_image(make, rounds),
        }
        results["networks"][name] = entry
        for what, found in entry.items():
            against = {
                other: found[OURS] / found[other] if what.endswith("/s") else found[other] / found[OURS]
                for other in (FLOOR, EAGER)
            }
            found |= {f"against {other}": ratio for other, ratio in against.items()}
            print(name, what, {key: round(value, 3) for key, value in found.items()}, flush=True)
    if not quick:
        (ROOT / "docs/results/speed.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
