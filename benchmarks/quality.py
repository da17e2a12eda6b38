"""How good are the detectors? One configuration a row: trained, attacked by those who know it and who do not, measured.

    KERAS_BACKEND=tensorflow python benchmarks/quality.py [CONFIGURATION ...] [--seed N] [--keep FOLDER]

Without a configuration, runs all that a CPU can; `--list` names them. Each goes through `demur.evaluate`, and what that
found goes to benchmarks/results/CONFIGURATION-SEED.json. The classifier of a data set and seed is trained once and kept
in benchmarks/models/, so that a row can be repeated (benchmarks/guarded.py). Data come from `$DEMUR_DATA`, or are
downloaded by Keras. `--keep` keeps detectors and attacked images, so that an interrupted run goes on, on another
machine if need be, and attacks on one classifier serve all configurations.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from guarded import CLASSIFIERS, classifier_of
from measuring import machine
from networks import published_autoencoder

import demur
from demur import AdversarialAE, ModelDistillation, Robust, datasets
from demur.evaluation.attacks import (
    PGD,
    SLIDE,
    BothPathsPGD,
    CarliniWagner,
    ConfidentCarliniWagner,
    DefendedPathPGD,
    OrthogonalPGD,
    SelectivePGD,
    WeightedPGD,
)
from demur.evaluation.norms import default_epsilons

ROOT = Path(__file__).resolve().parent
FPR = 0.05


class Configuration(NamedTuple):
    """One row of the table."""

    classifier: str
    """By its name in guarded.py."""
    kind: Any
    settings: dict[str, Any]
    fit: dict[str, Any]
    rows: int | None = None
    """That the companion learns from; None for all."""
    tested: int = 64
    """Images that are attacked."""
    corruptions: Any = None
    needs_gpu: bool = False
    is_attacked_knowingly: bool = True
    """Whether those who know the guard attack it too, and by all that is measured; else by the published attacks."""


PUBLISHED: dict[str, Any] = {"score_type": "kld"}
SHARPENED: dict[str, Any] = {"score_type": "kld", "temperature": 0.5}
HIDDEN: dict[str, Any] = {"score_type": "kld", "hidden_layer_kld": {-3: 20}}
SMALL_AE: dict[str, Any] = {"w_recon": 0.1, "epochs": 8}
FULL_AE: dict[str, Any] = {"epochs": 20, "batch_size": 128}
FULL: dict[str, Any] = {"needs_gpu": True, "is_attacked_knowingly": False}
NEARBY = Robust(0.1, bounds=(0.0, 1.0))
NEARBY_COLOUR = Robust(8 / 255, bounds=(0.0, 1.0))

CONFIGURATIONS = {
    "fashion_mnist-ae": Configuration("fashion_mnist", AdversarialAE, SHARPENED, SMALL_AE, 12_000),
    "fashion_mnist-distillation": Configuration("fashion_mnist", ModelDistillation, PUBLISHED, {"epochs": 10}, 25_000),
    "fashion_mnist-distillation-robust": Configuration(
        "fashion_mnist", ModelDistillation, {}, {"epochs": 10, "robust": NEARBY}, 25_000
    ),
    "cifar10-ae": Configuration("cifar10", AdversarialAE, PUBLISHED, {"epochs": 10}, 20_000, corruptions="default"),
    "cifar10-ae-sharpened": Configuration("cifar10", AdversarialAE, SHARPENED, {"epochs": 10}, 20_000),
    "cifar10-ae-hidden": Configuration("cifar10", AdversarialAE, HIDDEN, {"epochs": 10}, 20_000),
    "cifar10-distillation": Configuration(
        "cifar10", ModelDistillation, PUBLISHED, {"epochs": 20}, corruptions="default"
    ),
    "cifar10-distillation-robust": Configuration(
        "cifar10", ModelDistillation, {}, {"epochs": 20, "robust": NEARBY_COLOUR}, corruptions="default"
    ),
    # A step through a ResNet-20 takes a CPU seconds: few rows, for few epochs, from where the classifier is.
    "cifar10-distillation-copy": Configuration(
        "cifar10",
        ModelDistillation,
        {"distilled_model": "copy"},
        {"epochs": 4, "robust": Robust({"Linf": 8 / 255, "L2": 0.5}, bounds=(0.0, 1.0))},
        16_000,
        corruptions="default",
    ),
    "cifar10-full-ae": Configuration("cifar10-full", AdversarialAE, PUBLISHED, FULL_AE, corruptions="default", **FULL),
    "cifar10-full-ae-sharpened": Configuration("cifar10-full", AdversarialAE, SHARPENED, FULL_AE, **FULL),
    "cifar10-full-ae-hidden": Configuration("cifar10-full", AdversarialAE, HIDDEN, FULL_AE, **FULL),
    "cifar10-full-distillation": Configuration(
        "cifar10-full", ModelDistillation, PUBLISHED, {"epochs": 20, "batch_size": 128}, corruptions="default", **FULL
    ),
    "cifar10-full-distillation-copy": Configuration(
        "cifar10-full",
        ModelDistillation,
        {"distilled_model": "copy"},
        {"epochs": 6, "batch_size": 128, "robust": Robust({"Linf": 2 / 255, "L2": 0.12}, bounds=(0.0, 1.0))},
        corruptions="default",
        **FULL,
    ),
}


def detector_of(configuration: Configuration, model: Any, data: datasets.Dataset, seed: int) -> Any:
    """The detector, trained and calibrated."""
    x = data.train.x[: configuration.rows]
    settings = dict(configuration.settings)
    if configuration.kind is AdversarialAE:
        keras.utils.set_random_seed(seed)
        settings["ae"] = published_autoencoder(x.shape[1:], (32, 64) if x.shape[1] == 28 else (32, 64, 256))
    detector = configuration.kind(model=model, data_type="image", seed=seed, **settings)
    detector.fit(x, verbose=2, **configuration.fit)
    return detector.infer_threshold(data.held_out.x, fpr=FPR)


def kept_or_trained(name: str, model: Any, data: datasets.Dataset, seed: int, keep: Path | None) -> tuple[Any, Any]:
    """The detector, and the machine that it was trained on: from the folder, if it is there, or trained and kept."""
    if keep is None:
        return detector_of(CONFIGURATIONS[name], model, data, seed), machine()
    folder, beside = keep / f"{name}-{seed}", keep / f"{name}-{seed}.json"
    if not folder.is_dir():
        keep.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(machine()), encoding="utf-8")
        detector_of(CONFIGURATIONS[name], model, data, seed).save(folder)
    detector = demur.load_detector(folder)
    if detector.classifier.fingerprint() != type(detector.classifier).fingerprint_of(model):
        raise SystemExit(f"{folder} guards another classifier than benchmarks/models holds: remove that folder")
    return detector, json.loads(beside.read_text(encoding="utf-8"))


def attacks_for(shape: tuple[int, ...], *, knowing: bool) -> list[Any]:
    """The published attacks; and, if asked for, two more, and those by someone who knows the guard."""
    epsilons = default_epsilons(shape, (0.0, 1.0))
    linf = epsilons["Linf"]
    known = [CarliniWagner(), SLIDE(epsilons["L1"])]
    if not knowing:
        return known
    known += [ConfidentCarliniWagner(), PGD(linf)]
    adaptive = (WeightedPGD, SelectivePGD, OrthogonalPGD, BothPathsPGD, DefendedPathPGD)
    return [*known, *(kind(linf) for kind in adaptive)]


def run(name: str, seed: int, keep: Path | None) -> None:
    """Train, evaluate and write one row."""
    configuration, started = CONFIGURATIONS[name], time.monotonic()
    data = datasets.load(CLASSIFIERS[configuration.classifier].dataset, seed=seed)
    model = classifier_of(configuration.classifier, data, seed)
    detector, trained_on = kept_or_trained(name, model, data, seed, keep)
    chosen = np.random.default_rng(seed).permutation(len(data.test.y))[: configuration.tested]
    evaluation = demur.evaluate(
        detector,
        data.test.x[chosen],
        data.test.y[chosen],
        attacks=attacks_for(data.test.x.shape[1:], knowing=configuration.is_attacked_knowingly),
        corruptions=configuration.corruptions,
        X_train=data.train.x[:5000],
        class_names=data.class_names,
        seed=seed,
        out=None if keep is None else keep / f"{configuration.classifier}-{seed}",
    )
    clean = detector.correct(data.test.x)["data"]
    document = {
        "configuration": name,
        "seed": seed,
        "machine": machine(),
        "trained_on": trained_on,
        "seconds": round(time.monotonic() - started),
        "test": {
            "rows": len(data.test.y),
            "accuracy": float(np.mean(clean["no_defense"] == data.test.y)),
            "corrected": float(np.mean(clean["corrected"] == data.test.y)),
            "always_corrected": float(np.mean(clean["defense"] == data.test.y)),
            "fpr": float(np.mean(clean["is_adversarial"])),
        },
        "threats": evaluation.records(),
        "scores": {
            threat.title: {
                score: {figure: estimate.value for figure, estimate in found["successful"].items()}
                for score, found in threat.detection.items()
                if found["successful"] is not None
            }
            for threat in evaluation.threats
        },
        "checks": {check.name: check.passed for check in evaluation.checks},
        "settings": evaluation.settings,
        "versions": evaluation.versions,
    }
    file = ROOT / "results" / f"{name}-{seed}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configurations", nargs="*", metavar="CONFIGURATION", help="default: all that a CPU can")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep attacked images and detectors here")
    parser.add_argument("--list", action="store_true", help="name the configurations and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CONFIGURATIONS))
        return 0
    able = [name for name, configuration in CONFIGURATIONS.items() if not configuration.needs_gpu]
    for name in arguments.configurations or able:
        print(f"\n{name}, seed {arguments.seed}", flush=True)
        run(name, arguments.seed, arguments.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
