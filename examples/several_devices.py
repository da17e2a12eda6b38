"""Train detectors on several devices: one script for JAX, TensorFlow and PyTorch.

    KERAS_BACKEND=jax        python examples/several_devices.py
    KERAS_BACKEND=tensorflow python examples/several_devices.py
    KERAS_BACKEND=torch      torchrun --nproc-per-node 2 examples/several_devices.py

It takes all GPUs there are (on PyTorch, as many as there are processes), and without any two virtual devices on the
CPU. With `--one` it takes one device, to compare the losses with. The classifier is trained once, on one device, and
kept in a file: what is guarded is there beforehand, and is the same for each process.
"""

import argparse
import contextlib
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
if os.environ["KERAS_BACKEND"] == "jax":  # before JAX is imported; of no effect where there are GPUs
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import keras
from keras import layers

from demur import AdversarialAE, ModelDistillation
from demur.datasets import load

BACKEND = keras.backend.backend()
RANK = int(os.environ.get("RANK", "0"))


def several_devices() -> Any:
    """Say, by the backend's own means, on which devices to train; within the context everything is made and fitted."""
    if BACKEND == "jax":
        return keras.distribution.DataParallel().scope()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return tf.distribute.MirroredStrategy().scope()
        cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
        return tf.distribute.MirroredStrategy(cpus).scope()
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # before anything is made there
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(minutes=5))
    return contextlib.nullcontext()


def virtual_devices() -> None:
    """Make two of TensorFlow's CPU, where there is no GPU: before anything runs on it."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def classifier(file: Path, data: Any) -> Any:
    """The network to guard: from the file, or trained now, by the first process, and put there."""
    if RANK == 0 and not file.exists():
        model = keras.Sequential(
            [
                layers.Input(data.train.x.shape[1:]),
                layers.Conv2D(16, 3, strides=2, activation="relu"),
                layers.Conv2D(32, 3, strides=2, activation="relu"),
                layers.Flatten(),
                layers.Dense(len(data.class_names), activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(data.train.x[:10_000], data.train.y[:10_000], epochs=3, verbose=0)
        model.save(file)
    if BACKEND == "torch":
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # until the file is there
    return keras.saving.load_model(file)


def main() -> None:
    """Train both detectors and say what their losses were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", action="store_true", help="train on one device")
    parser.add_argument("--dataset", default="digits", help="digits (the default), fashion_mnist, mnist or cifar10")
    parser.add_argument("--rows", type=int, default=500, help="to train the detectors on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--classifier", type=Path, default=Path("classifier.keras"), help="its file; made if need be")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="where to put the detectors")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the losses to this JSON file")
    options = parser.parse_args()

    data = load(options.dataset)
    X, X_held_out = data.train.x[: options.rows], data.held_out.x[:256]
    if BACKEND == "tensorflow" and not options.one:
        virtual_devices()
    scope = contextlib.nullcontext() if options.one else several_devices()
    if BACKEND != "torch" and not options.classifier.exists():
        classifier(options.classifier, data)  # outside of the scope: on one device

    losses = {}
    with scope:
        model = classifier(options.classifier, data)
        settings = {"epochs": options.epochs, "batch_size": 128, "validation_data": X_held_out}
        detectors = {
            "AdversarialAE": AdversarialAE(model=model).fit(X, w_recon=0.1, **settings),
            "ModelDistillation": ModelDistillation(model=model).fit(X, **settings),
        }
        for name, detector in detectors.items():
            detector.infer_threshold(X_held_out, fpr=0.05)
            losses[name] = {key: detector.history[key] for key in ("loss", "val_loss")}
    if RANK == 0:  # each process has the same detectors: one writes
        for name, detector in detectors.items():
            print(f"{name}: threshold {detector.threshold:.4f}, loss {losses[name]['loss']}")
            if options.save:
                detector.save(options.save / name)
        if options.out:
            options.out.write_text(json.dumps(losses), encoding="utf-8")
    if BACKEND == "torch" and not options.one:
        import torch

        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
