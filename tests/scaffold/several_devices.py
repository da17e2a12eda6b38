"""The same fits on one device and on two: run here, and started on two by `tests/contract/test_several_devices.py`.

    KERAS_BACKEND=... python tests/scaffold/several_devices.py FOLDER

writes what they come to as `FOLDER/RANK.json`; on PyTorch, `torchrun` starts it.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__" and os.environ["KERAS_BACKEND"] == "jax":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import keras
import numpy as np
from keras import layers

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.errors import InvalidSetting

BACKEND = keras.backend.backend()
RANK = int(os.environ.get("RANK", "0"))
X = np.random.default_rng(0).normal(size=(41, 6)).astype("float32")
HELD_OUT = np.random.default_rng(1).normal(size=(9, 6)).astype("float32")


def glorot(seed):
    return {"kernel_initializer": keras.initializers.GlorotUniform(seed=seed)}


def classifier(seed=0):
    body = [
        layers.Dense(8, activation="relu", name="hidden", **glorot(seed)),
        layers.Dense(3, activation="softmax", **glorot(seed + 1)),
    ]
    return keras.Sequential([layers.Input((6,)), *body])


def autoencoder():
    """With both kinds of penalties: of weights, and of what a layer puts out."""
    body = [
        layers.Dense(5, activation="relu", activity_regularizer=keras.regularizers.L1(0.1), **glorot(2)),
        layers.Dense(6, kernel_regularizer=keras.regularizers.L2(0.1), **glorot(3)),
    ]
    return keras.Sequential([layers.Input((6,)), *body])


def normed(**settings):
    """With statistics of the whole batch, if told so, and averages of them."""
    norm = layers.BatchNormalization(**({"synchronized": True} if BACKEND == "tensorflow" else {}))
    body = [layers.Dense(5, **settings, **glorot(2)), norm, layers.Dense(6, **glorot(3))]
    return keras.Sequential([layers.Input((6,)), *body])


def student(seed=4):
    return keras.Sequential([layers.Input((6,)), layers.Dense(3, activation="softmax", **glorot(seed))])


def told(detector):
    """What a detector has come to."""
    score = detector.infer_threshold(HELD_OUT, fpr=0.2).score(X[:13])
    return {**detector.history, "score": score.tolist(), "threshold": detector.threshold}


def reconstruction(_):
    """The last of each epoch's batches has one row: a device goes without."""
    detector = AdversarialAE(model=classifier(), ae=autoencoder(), hidden_layer_kld={"hidden": 4})
    settings = {"epochs": 3, "batch_size": 10, "verbose": False, "validation_data": HELD_OUT}
    metrics = ["mean_squared_error", ("top", keras.metrics.TopKCategoricalAccuracy(k=2))]
    return told(detector.fit(X, w_recon=0.5, log_metric=metrics, optimizer=keras.optimizers.Adam(0.01), **settings))


def uneven(folder):
    """Each batch is uneven, and the classifier is asked in the step. Each process makes other weights."""
    detector = ModelDistillation(model=classifier(), distilled_model=student(4 + RANK))
    callbacks = [
        keras.callbacks.EarlyStopping("loss", min_delta=10.0, patience=1),
        keras.callbacks.ModelCheckpoint(folder / f"{RANK}.keras"),
        keras.callbacks.CSVLogger(folder / f"{RANK}.csv"),
    ]
    settings = {"epochs": 9, "batch_size": 7, "verbose": 2, "callbacks": callbacks}
    result = told(detector.fit(X[:35], robust=0.1, preprocess_fn=lambda x: 2 * x, **settings))
    if RANK == 0:
        detector.save(folder / "detector")
    return result


def stream(_):
    """Of batches that do not divide; that it can be drawn once only is no matter."""
    detector = AdversarialAE(model=classifier(), ae=normed())
    return told(detector.fit(iter(np.split(X[:35], 5)), epochs=1, verbose=False))


def black_box(_):
    """The classifier is outside of the graph; each process asks it about a part of the rows."""
    model = classifier()

    def answer(rows):
        return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(rows)))

    detector = ModelDistillation(model=answer, distilled_model=student(), input_shape=(6,))
    return told(detector.fit(X, epochs=2, batch_size=16, verbose=False))


CASES = [reconstruction, uneven, black_box if BACKEND == "torch" else stream]


def results(folder):
    return {case.__name__: case(folder) for case in CASES}


def refused(work):
    """What an error says."""
    try:
        work()
    except InvalidSetting as error:
        return str(error)
    return "nothing was refused"


def only_on_two(outside, folder):
    """What there is to see on two devices only."""
    again = load_detector(folder / "detector")
    seen = {
        "files": sorted(file.name for file in folder.iterdir() if file.suffix in (".keras", ".csv")),
        "reloaded": again.score(X[:13]).tolist(),
    }
    if BACKEND == "torch":
        other = ModelDistillation(model=classifier(RANK), distilled_model=student())
        seen["stream"] = refused(lambda: again.fit(iter([X]), epochs=1, verbose=False))
        seen["rows"] = refused(lambda: again.fit(X + RANK, epochs=1, verbose=False))
        seen["classifier"] = refused(lambda: other.fit(X, epochs=1, verbose=False))
        seen["interrupted"] = interrupted(again)
    elif BACKEND == "tensorflow":
        mixed = AdversarialAE(model=classifier(), ae=normed(activity_regularizer="l1"))
        seen["outside"] = refused(lambda: outside.fit(X, epochs=1, verbose=False))
        seen["mixed"] = refused(lambda: mixed.fit(X, epochs=1, verbose=False))
        seen["together"] = refused(lambda: again.fit(X, epochs=1, verbose=False, steps_per_execution=2))
    else:
        seen["outside"] = outside.fit(X, epochs=1, verbose=False).history["loss"]
    return seen


def interrupted(detector):
    """Ctrl-C in one process stops all, after the same step; how many that were."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []

    def press(batch, logs):
        steps.append(batch)
        if RANK == 1 and len(steps) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    press_at = keras.callbacks.LambdaCallback(on_train_batch_begin=press)
    try:
        detector.fit(X, epochs=5, batch_size=16, verbose=False, callbacks=[press_at])
    except KeyboardInterrupt:
        return len(steps)
    return "it was not"


def two_devices():
    """As a user of each backend says it."""
    if BACKEND == "jax":
        return keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]).scope()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    import torch

    torch.distributed.init_process_group("gloo")
    return contextlib.nullcontext()


def main():
    folder, scope = Path(sys.argv[1]), two_devices()
    outside = ModelDistillation(model=classifier(), distilled_model=student())
    with scope:
        found = {"cases": results(folder), **only_on_two(outside, folder)}
    (folder / f"{RANK}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
