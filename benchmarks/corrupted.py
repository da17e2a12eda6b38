"""What a classifier and a detector say of clean images and of corrupted ones: what drift is measured on."""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from guarded import CLASSIFIERS, classifier_of
from measuring import machine

import demur
from demur import ModelDistillation, datasets
from demur.evaluation.corruptions import CORRUPTIONS, corrupt
from demur.evaluation.store import digest_of_classifier, digest_of_detector, digest_of_rows

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"
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


def grid(asked: argparse.Namespace) -> Grid:
    """Score everything, or read what was scored before.

    Args:
        asked: as `arguments` gives it.
    """
    file = None if asked.keep is None else asked.keep / f"said-{asked.dataset}-{asked.name}-{asked.seed}.npz"
    data = datasets.load(CLASSIFIERS[asked.dataset].dataset, seed=asked.seed)
    origin = origin_of(asked, data)
    if file is not None and file.is_file():
        return _read(file, origin)
    detector = student_of(asked.dataset, data, asked.seed, asked.detector)
    learned, tested = {}, {}
    for name in sorted(CORRUPTIONS):
        print(name, flush=True)
        for severity in SEVERITIES:
            for part, n, found, other in ((data.held_out, LEARNED_FROM, learned, 1), (data.test, TESTED_ON, tested, 2)):
                x = corrupt(part.x[:n], name=name, severity=severity, seed=other)
                found[name, severity] = said_of(detector, x, part.y[:n])
    found = Grid(said_of(detector, *data.held_out), learned, said_of(detector, *data.test), tested)
    if file is not None:
        _write(found, file, origin)
    return found


def origin_of(asked: argparse.Namespace, data: datasets.Dataset) -> str:
    """What is said depends on this: the images with their classes, the classifier, and the detector."""
    if asked.detector is not None:
        said_by = digest_of_detector(demur.load_detector(asked.detector))
    else:
        model = classifier_of(asked.dataset, data, asked.seed)
        said_by = digest_of_classifier(ModelDistillation(model=model, threshold=0.0))
    return json.dumps({"data": digest_of_rows(*data.test), "said by": said_by})


def arguments(doc: str | None) -> argparse.Namespace:
    """What a script that measures drift is asked for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("fashion_mnist", "cifar10"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--detector", type=Path, metavar="FOLDER", help="a saved detector, not the ready student")
    parser.add_argument("--name", default="student", help="what to call it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what is said of the images, for another run")
    asked = parser.parse_args()
    if (asked.detector is None) != (asked.name == "student"):
        parser.error("--detector and --name go together: results of another detector must not replace the student's")
    return asked


def write(kind: str, asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """To docs/results/drift-KIND-DATASET-NAME.json."""
    document = {"dataset": asked.dataset, "detector": asked.name, "seed": asked.seed, "machine": machine(), **found}
    file = RESULTS / f"drift-{kind}-{asked.dataset}-{asked.name}.json"
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _write(found: Grid, file: Path, origin: str) -> None:
    flat = {"held_out": found.held_out, "test": found.test}
    for part in ("learned_from", "tested_on"):
        flat |= {f"{part} {name} {severity}": said for (name, severity), said in getattr(found, part).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{key}.{field}": array for key, said in flat.items() for field, array in said._asdict().items()}
    np.savez(file, origin=np.array(origin), **arrays)


def _read(file: Path, origin: str) -> Grid:
    with np.load(file, allow_pickle=False) as opened:
        arrays = dict(opened)
        if str(arrays.pop("origin", "")) != origin:
            raise SystemExit(f"{file} is of other images, another classifier or another detector: remove that file")
        keys = dict.fromkeys(key.partition(".")[0] for key in arrays)
        flat = {key: Said(*(arrays[f"{key}.{field}"] for field in Said._fields)) for key in keys}
    parts: dict[str, dict[tuple[str, int], Said]] = {"learned_from": {}, "tested_on": {}}
    for key in set(flat) - {"held_out", "test"}:
        part, *words, severity = key.split(" ")
        parts[part][" ".join(words), int(severity)] = flat[key]
    order = {part: dict(sorted(found.items())) for part, found in parts.items()}
    return Grid(flat["held_out"], order["learned_from"], flat["test"], order["tested_on"])
