"""Where does the time of a training step go that the networks do not need? TensorFlow, the 28x28x1 networks.

    KERAS_BACKEND=tensorflow python benchmarks/training_step.py

From the floor of contenders.py to demur's `fit`, one thing is added after another; the variants take turns step by
step, 200 times. Medians in milliseconds go to docs/results/training-step.json.
"""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from contenders import FIT_BATCH, kl, with_logits
from measuring import machine, seconds
from networks import cnn28, rows

from demur import AdversarialAE
from demur.backends import current, divergence
from demur.network.feed import TrainingBatches
from demur.network.trainer import Objective, Trainer

ROOT = Path(__file__).resolve().parent.parent
STEPS = 200


def by_hand(X: Any, compare: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """A step written by hand on one batch that lies ready, with a divergence from log-probabilities to logits."""
    classifier, autoencoder = cnn28()
    logits = with_logits(classifier)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(autoencoder.trainable_variables)

    @tf.function(jit_compile=False)
    def step(x: Any, target: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(compare(target, logits(autoencoder(x, training=True))))
        gradients = tape.gradient(loss, autoencoder.trainable_variables)
        optimizer.apply_gradients(zip(gradients, autoencoder.trainable_variables, strict=True))
        return loss

    x = tf.constant(X[:FIT_BATCH])
    target = tf.nn.log_softmax(logits(x))
    return lambda: step(x, target)


def ours(X: Any) -> tuple[Any, TrainingBatches]:
    """The trainer of a detector, and its batches."""
    classifier, autoencoder = cnn28()
    detector = AdversarialAE(model=classifier, ae=autoencoder, score_type="kld")
    reference = [log_p.numpy() for log_p in detector.views.reference(tf.constant(X))]
    route = detector.route
    batches = TrainingBatches(
        route.training_rows(X),
        reference,
        batch_size=FIT_BATCH,
        layout=route.companion_layout,
        prepare=route.prepare(None, is_answered=True),
        shuffle_seed=0,
    )
    trainer = Trainer(autoencoder, Objective(detector.views), {})
    trainer.compile(optimizer=keras.optimizers.Adam(1e-3), jit_compile=False)
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer, batches


def ready(X: Any) -> Any:
    """A `tf.data.Dataset` without end of batches that lie ready in tensors."""
    _, batches = ours(X)
    drawn = [batches[i][0] for i in range(len(batches))]
    stacked = tf.nest.map_structure(lambda *arrays: tf.stack(arrays), *drawn)
    return tf.data.Dataset.from_tensor_slices((stacked,)).repeat()


def main() -> int:
    if keras.backend.backend() != "tensorflow":
        print("this benchmark is about TensorFlow: set KERAS_BACKEND=tensorflow")
        return 1
    X = rows((28, 28, 1), 32 * FIT_BATCH)
    bare_trainer, batches = ours(X)
    data = tf.nest.map_structure(tf.constant, batches[0])
    bare = tf.function(bare_trainer.train_step, jit_compile=False)
    through_keras, _ = ours(X)
    through_keras.make_train_function()
    in_full, drawn = ours(X)
    in_full.make_train_function()
    from_ready = iter(ready(X))
    endless = iter(current().fed(drawn).repeat())
    variants: dict[str, Callable[[], Any]] = {
        "the floor": by_hand(X, kl),
        "with demur's divergence": by_hand(X, lambda target, z: divergence.kl(target, divergence.log_softmax(z))),
        "demur's training step": lambda: bare(data)["loss"],
        "in Keras's training function": lambda: through_keras.train_function(from_ready)["loss"],
        "on batches drawn from an array": lambda: in_full.train_function(endless)["loss"],
    }
    for step in variants.values():
        step()
        step()
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(STEPS):
        for name, step in variants.items():
            times[name].append(1000 * seconds(lambda step=step: step().numpy()))
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(medians)
    results = {"machine": machine(), "milliseconds": medians}
    (ROOT / "docs/results/training-step.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
