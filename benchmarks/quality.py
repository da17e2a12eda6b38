"""How good are the detectors? One configuration a row: trained, attacked by those who know it and who do not, measured.

    KERAS_BACKEND=tensorflow python benchmarks/quality.py [CONFIGURATION ...] [--seed N] [--keep FOLDER]

Without a configuration, runs all of them; `--list` names them. Each goes through `demur.evaluate`, and what that found
goes to benchmarks/results/CONFIGURATION-SEED.json. The classifier of a data set and seed is trained once and kept in
benchmarks/models/DATASET-SEED.keras, so that a row can be repeated. Data come from `$DEMUR_DATA`, or are downloaded by
Keras. `--keep` keeps the attacked images, so that an interrupted run goes on.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from measuring import machine
from networks import published_autoencoder

import demur
from demur import AdversarialAE, ModelDistillation, Robust, datasets
from demur.demo import build_classifier
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
from demur.evaluation.budgets import default_epsilons

ROOT = Path(__file__).resolve().parent
TEST = 200
FPR = 0.05


class Configuration(NamedTuple):
    """One row of the table."""

    dataset: str
    kind: Any
    settings: dict[str, Any]
    fit: dict[str, Any]
    classifier_epochs: int
    rows: int
    """That the companion learns from."""


def ae(dataset: str, classifier_epochs: int, *, robust: Robust | None = None, **settings: Any) -> Configuration:
    """The published autoencoder."""
    fit = {"w_recon": 0.1, "epochs": 8, "robust": robust}
    return Configuration(dataset, AdversarialAE, settings, fit, classifier_epochs, 12_000)


def distillation(
    dataset: str, classifier_epochs: int, *, robust: Robust | None = None, **settings: Any
) -> Configuration:
    """The ready student."""
    fit = {"epochs": 8, "robust": robust}
    return Configuration(dataset, ModelDistillation, settings, fit, classifier_epochs, 12_000)


NEARBY = Robust(0.1, bounds=(0.0, 1.0))
SHARP: dict[str, Any] = {"loss_type": "jeffreys", "w_uncertainty": 10.0}
CONFIGURATIONS = {
    "fashion_mnist-ae": ae("fashion_mnist", 12, temperature=0.5),
    "fashion_mnist-ae-robust": ae("fashion_mnist", 12, temperature=0.5, robust=NEARBY),
    "fashion_mnist-ae-robust-jeffreys": ae("fashion_mnist", 12, robust=NEARBY, **SHARP),
    "fashion_mnist-distillation": distillation("fashion_mnist", 12, temperature=0.5),
    "fashion_mnist-distillation-robust": distillation("fashion_mnist", 12, temperature=0.5, robust=NEARBY),
    "fashion_mnist-distillation-robust-jeffreys": distillation("fashion_mnist", 12, robust=NEARBY, **SHARP),
    "mnist-ae": ae("mnist", 6, temperature=0.5),
    "mnist-distillation": distillation("mnist", 6, temperature=0.5),
}


def classifier_of(configuration: Configuration, data: datasets.Dataset, seed: int) -> Any:
    """The classifier to be guarded: from its file, or trained and written to it."""
    file = ROOT / "models" / f"{configuration.dataset}-{seed}.keras"
    if file.is_file():
        return keras.models.load_model(file)
    keras.utils.set_random_seed(seed)
    model = build_classifier(data.train.x.shape[1:], len(data.class_names))
    steps = configuration.classifier_epochs * (len(data.train.y) // 64)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.fit(data.train.x, data.train.y, batch_size=64, epochs=configuration.classifier_epochs, verbose=2)
    bare = keras.models.clone_model(model)  # without the optimizer's state
    bare.set_weights(model.get_weights())
    file.parent.mkdir(exist_ok=True)
    bare.save(file)
    return bare


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


def attacks_for(shape: tuple[int, ...]) -> list[Any]:
    """The published attacks, PGD, and those by someone who knows the guard."""
    epsilons = default_epsilons(shape, (0.0, 1.0))
    linf = epsilons["Linf"]
    known = [CarliniWagner(), ConfidentCarliniWagner(), SLIDE(epsilons["L1"]), PGD(linf)]
    adaptive = (WeightedPGD, SelectivePGD, OrthogonalPGD, BothPathsPGD, DefendedPathPGD)
    return [*known, *(kind(linf) for kind in adaptive)]


def run(name: str, seed: int, keep: Path | None) -> None:
    """Train, evaluate and write one row."""
    configuration, started = CONFIGURATIONS[name], time.monotonic()
    data = datasets.load(configuration.dataset, seed=seed)
    model = classifier_of(configuration, data, seed)
    detector = detector_of(configuration, model, data, seed)
    chosen = np.random.default_rng(seed).permutation(len(data.test.y))[:TEST]
    evaluation = demur.evaluate(
        detector,
        data.test.x[chosen],
        data.test.y[chosen],
        attacks=attacks_for(data.test.x.shape[1:]),
        corruptions=None,
        X_train=data.train.x[: configuration.rows],
        class_names=data.class_names,
        seed=seed,
        out=None if keep is None else keep / f"{name}-{seed}",
    )
    if keep is not None:
        detector.save(keep / f"{name}-{seed}" / "detector")
    clean = detector.correct(data.test.x)["data"]
    document = {
        "configuration": name,
        "seed": seed,
        "machine": machine(),
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
    parser.add_argument("configurations", nargs="*", metavar="CONFIGURATION", help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep attacked images and detectors here")
    parser.add_argument("--list", action="store_true", help="name the configurations and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(CONFIGURATIONS))
        return 0
    for name in arguments.configurations or CONFIGURATIONS:
        print(f"\n{name}, seed {arguments.seed}", flush=True)
        run(name, arguments.seed, arguments.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
