"""A PyTorch CNN for clothes, guarded by both detectors: attacks are caught and corrected, harmful noise is told apart.

    python examples/torch_fashion_mnist.py [--small] [--out FILE]

The network is trained by a plain PyTorch loop and takes images as PyTorch has them, (channels, height, width). Keras
computes with PyTorch, so AdversarialAE can train through the network; its weights stay as they are. Fashion-MNIST is
downloaded by Keras, unless $DEMUR_DATA names a folder with fashion_mnist.npz; with --small, scikit-learn's digits stand
in for it.
"""

import os
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import common
import keras
import numpy as np
import torch

from demur import AdversarialAE, ModelDistillation, datasets
from demur.evaluation.attacks import Attack
from demur.evaluation.corruptions import corrupt
from demur.evaluation.target import Target


class Plan(NamedTuple):
    """How much is done on a data set."""

    train: int
    test: int
    classifier_epochs: int
    detector_epochs: int
    attacks: tuple[tuple[str, float], ...]


FULL = Plan(12_000, 1000, 6, 8, (("FGSM", 0.02), ("PGD", 0.02), ("PGD", 0.05)))
SMALL = Plan(1000, 397, 25, 20, (("FGSM", 0.1), ("PGD", 0.1)))


def trained_cnn(x: np.ndarray, y: np.ndarray, epochs: int) -> torch.nn.Module:
    """A CNN that returns logits, trained without Keras or demur."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(64 * (x.shape[2] // 4) * (x.shape[3] // 4), 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )
    rows = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader = torch.utils.data.DataLoader(rows, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs=epochs, steps_per_epoch=len(loader))
    for epoch in range(epochs):
        for images, classes in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), classes)
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"classifier, epoch {epoch + 1} of {epochs}: loss {loss.item():.3f} on the last batch")
    return model.eval()


def channels_first(images: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) as PyTorch has it."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def main() -> None:
    """Train, guard, attack, corrupt, measure."""
    arguments = common.options(__doc__)
    plan = SMALL if arguments.small else FULL
    keras.utils.set_random_seed(0)
    data = datasets.load("digits" if arguments.small else "fashion_mnist")
    x_train, x_held_out = channels_first(data.train.x[: plan.train]), channels_first(data.held_out.x)
    images, y = data.test.x[: plan.test], data.test.y[: plan.test]
    model = trained_cnn(x_train, data.train.y[: plan.train], plan.classifier_epochs)

    ae = AdversarialAE(model=model, from_logits=True, channels_last=False)
    ae.fit(x_train, w_recon=0.1, epochs=plan.detector_epochs, verbose=2)
    distillation = ModelDistillation(model=model, from_logits=True, channels_last=False)
    distillation.fit(x_train, epochs=plan.detector_epochs, verbose=2)
    detectors = {"AdversarialAE": ae, "ModelDistillation": distillation}

    # The attacker knows the network and not the guard.
    target = Target(ae)
    changed = {
        f"{name} eps {epsilon:g}": Attack.registry[name](epsilon).run(target, channels_first(images), y).x
        for name, epsilon in plan.attacks
    }
    changed |= {name: channels_first(corrupt(images, name=name, severity=3)) for name in common.CORRUPTIONS}
    results = {
        "backend": keras.backend.backend(),
        "rows": {"train": len(x_train), "held out": len(x_held_out), "test": len(y)},
        "detectors": {
            name: common.measure(
                detector.infer_threshold(x_held_out, fpr=common.FPR), channels_first(images), y, changed
            )
            for name, detector in detectors.items()
        },
    }
    common.report(results, ["torch"], arguments.out)


if __name__ == "__main__":
    main()
