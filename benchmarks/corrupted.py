"""What a classifier and a detector say of clean images and of corrupted ones: what drift is measured on."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from guarded import CLASSIFIERS, classifier_of

import demur
from demur import ModelDistillation, datasets
from demur.evaluation.corruptions import CORRUPTIONS, corrupt

SEVERITIES = (1, 2, 3, 4, 5)
LEARNED_FROM, TESTED_ON = 1500, 1000

Array = Any


class Said(NamedTuple):
    """Of rows, in order."""

    score: Array
    """The detector's, in nats."""
    probabilities: Array
    """The classifier's, `(n, classes)`."""
    right: Array
    """Whether it is."""

    @property
    def confidence(self) -> Array:
        """The classifier's highest probability."""
        return self.probabilities.max(axis=1)

    @property
    def entropy(self) -> Array:
        """Of its distribution, in nats."""
        return -(self.probabilities * np.log(np.maximum(self.probabilities, 1e-12))).sum(axis=1)


class Grid(NamedTuple):
    """Clean rows, and the same rows corrupted."""

    held_out: Said
    """Clean, 5,000 of them."""
    learned_from: dict[tuple[str, int], Said]
    """The first 1,500 of these, by corruption and severity."""
    test: Said
    """Clean, all there are."""
    tested_on: dict[tuple[str, int], Said]
    """The first 1,000 of these."""


def student_of(dataset: str, data: datasets.Dataset, seed: int, folder: Path | None) -> Any:
    """The ready student of the kept classifier, trained or loaded."""
    if folder is not None:
        return demur.load_detector(folder)
    model = classifier_of(dataset, data, seed)
    epochs = 20 if dataset == "cifar10" else 10
    return ModelDistillation(model=model, data_type="image", seed=seed).fit(data.train.x, epochs=epochs, verbose=2)


def said_of(detector: Any, x: Array, y: Array) -> Said:
    score, probabilities, _ = detector.score(x, return_predictions=True)
    return Said(score.astype("float64"), probabilities, probabilities.argmax(axis=1) == y)


def grid(dataset: str, *, seed: int = 0, folder: Path | None = None) -> Grid:
    """Score everything.

    Args:
        dataset: as guarded.py knows it.
        seed: of classifier and student.
        folder: of a saved detector, in place of the ready student.
    """
    data = datasets.load(CLASSIFIERS[dataset].dataset, seed=seed)
    detector = student_of(dataset, data, seed, folder)
    learned, tested = {}, {}
    for name in sorted(CORRUPTIONS):
        print(name, flush=True)
        for severity in SEVERITIES:
            for part, n, found, other in ((data.held_out, LEARNED_FROM, learned, 1), (data.test, TESTED_ON, tested, 2)):
                x = corrupt(part.x[:n], name=name, severity=severity, seed=other)
                found[name, severity] = said_of(detector, x, part.y[:n])
    return Grid(said_of(detector, *data.held_out), learned, said_of(detector, *data.test), tested)
