"""The main job on real images, from training a classifier to correcting attacks, as one table and one picture."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from rich import box
from rich.console import Console
from rich.table import Table

from demur import backends, datasets, plots
from demur._version import __version__
from demur.calibration.metrics import auroc, flagged_rate, split_by_harm
from demur.calibration.thresholds import percentile_threshold
from demur.checks import chosen
from demur.detectors import AdversarialAE, Detector, ModelDistillation
from demur.evaluation.attacks import Attack
from demur.evaluation.baselines import MaximumProbability
from demur.evaluation.corruptions import corrupt
from demur.evaluation.target import Target
from demur.private import without_tensorflow
from demur.progress import can_draw

EXAMPLES = 8
SEVERITY = 3
CORRUPTIONS = ("gaussian noise", "impulse noise", "gaussian blur", "contrast")

NOTES = f"""\
accuracy   of the classifier alone
corrected  accuracy with the opinion's class where flagged
harmful    mean score, in nats, of the images that the classifier got right
           before the change and gets wrong after it
harmless   the same of those that it still gets right
AUROC      of the scores of harmful against those of clean images
flagged    share of the harmful images above the threshold, which is the 95th
           percentile of held-out images; of the clean ones: false alarms
eps        largest change of a pixel, which goes from 0 to 1; the attacker
           does not know the guard. Corruptions are of severity {SEVERITY} of 5.

The last block is what costs nothing: the same threshold on the classifier's own
highest probability. Where it flags as much, no guard is needed.
"""


class Plan(NamedTuple):
    """How much is done on a data set: what takes a reasonable time on two cores."""

    train: int
    test: int
    classifier_epochs: int
    detector_epochs: int
    attacks: tuple[tuple[str, float | None], ...]
    robust: float | None = None
    """The largest change of a pixel that the student is trained to resist."""


PLANS = {
    "digits": Plan(
        1000, 397, 25, 40, (("FGSM", 0.1), ("PGD", 0.1), ("PGD", 0.2), ("C&W, confident", None)), robust=0.1
    ),
    "fashion_mnist": Plan(20_000, 1000, 6, 10, (("FGSM", 0.02), ("PGD", 0.02), ("PGD", 0.05))),
    "mnist": Plan(20_000, 1000, 4, 10, (("FGSM", 0.1), ("PGD", 0.1), ("PGD", 0.2))),
}


class EpochBar(keras.callbacks.Callback):  # type: ignore[misc]
    """Keras's progress bar over the epochs, in one line for the whole fit; without a terminal, the last epoch alone."""

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras calls it so
        """Start the bar."""
        self.bar = keras.utils.Progbar(self.params["epochs"], verbose=1 if can_draw() else 0, unit_name="epoch")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Move the bar and show the latest loss and metrics."""
        self.bar.update(epoch + 1, list((logs or {}).items()))
        if not can_draw() and epoch + 1 == self.params["epochs"]:
            print(f"{epoch + 1} epochs,", ", ".join(f"{name} {value:.4g}" for name, value in (logs or {}).items()))


def main(*, dataset: str = "digits", seed: int = 0, out: Path = Path("demur-demo")) -> int:
    """Run the demonstration, print its tables, and write `demo.png` and `demo.json` to a folder.

    Args:
        dataset: "digits", "fashion_mnist" or "mnist".
        seed: of everything: a seed prints the same table again on the same machine and backend.
        out: the folder, made if it does not exist.

    Returns:
        0, the exit status.
    """
    dataset = chosen(dataset, PLANS, "the demonstration's dataset")
    console = Console(highlight=False)
    started = time.monotonic()
    with without_tensorflow():
        keras.utils.set_random_seed(seed)
    data = datasets.load(dataset, seed=seed)
    plan = PLANS[dataset]
    x_train, y_train = data.train.x[: plan.train], data.train.y[: plan.train]
    test = datasets.Part(data.test.x[: plan.test], data.test.y[: plan.test])
    backend = backends.current().name
    console.rule(f"demur {__version__} on {dataset}, seed {seed}, Keras {keras.__version__} on {backend}")
    sizes = " x ".join(map(str, x_train.shape[1:3]))
    console.print(
        f"{len(x_train)} images of {sizes} to train on, {len(data.held_out.y)} to set thresholds on, "
        f"{len(test.y)} to test on\n"
    )

    console.print("[bold]The classifier[/bold], a small CNN: it is to be guarded")
    classifier = build_classifier(x_train.shape[1:], len(data.class_names))
    xla = False if backend == "tensorflow" else "auto"
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=xla)
    classifier.fit(x_train, y_train, epochs=plan.classifier_epochs, batch_size=64, verbose=0, callbacks=[EpochBar()])

    console.print("\n[bold]AdversarialAE[/bold]: an autoencoder that keeps what the classifier sees")
    ae = AdversarialAE(model=classifier, data_type="image", seed=seed)
    ae.fit(x_train, w_recon=0.1, epochs=plan.detector_epochs, verbose=False, callbacks=[EpochBar()])
    robust = "" if plan.robust is None else f", robust={plan.robust:g}"
    console.print(f"\n[bold]ModelDistillation[/bold]{robust}: a student that learns what the classifier says")
    distillation = ModelDistillation(model=classifier, data_type="image", seed=seed)
    distillation.fit(x_train, epochs=plan.detector_epochs, robust=plan.robust, verbose=False, callbacks=[EpochBar()])
    detectors: dict[str, Detector] = {"AdversarialAE": ae, "ModelDistillation": distillation}
    for detector in detectors.values():
        detector.infer_threshold(data.held_out.x, threshold_perc=95)

    console.print("\nattacking and corrupting the test images ...")
    target = Target(ae)
    attacked = {}
    for name, epsilon in plan.attacks:
        title = name if epsilon is None else f"{name} eps {epsilon:g}"
        attacked[title] = Attack.registry[name](epsilon).run(target, *test, seed=seed).x
    changed = attacked | {name: corrupt(test.x, name=name, severity=SEVERITY, seed=seed) for name in CORRUPTIONS}
    results = {
        "dataset": dataset,
        "seed": seed,
        "backend": backend,
        "versions": {"demur": __version__, "keras": keras.__version__},
        "images": {"train": len(x_train), "held out": len(data.held_out.y), "test": len(test.y)},
        "detectors": {
            **{name: measure(_answers(one), _threshold(one), test, changed) for name, one in detectors.items()},
            "maximum probability": measure_confidence(target, data.held_out.x, test, changed),
        },
    }

    console.print()
    console.print(table(results))
    console.print(NOTES)

    out.mkdir(parents=True, exist_ok=True)
    (out / "demo.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    draw(out / "demo.png", data, test, ae, detectors, attacked)
    console.print(f"picture: {out / 'demo.png'}\nfigures: {out / 'demo.json'}")
    console.print(f"{time.monotonic() - started:.0f} s")
    return 0


def build_classifier(shape: tuple[int, ...], classes: int) -> Any:
    """A small CNN with a softmax at its end."""
    return keras.Sequential(
        [
            layers.Input(shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            *([layers.MaxPooling2D()] if shape[0] > 16 else []),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax"),
        ],
        name="classifier",
    )


def measure(answer: Callable[[Any], Any], threshold: float, test: datasets.Part, variants: dict[str, Any]) -> Any:
    """Measure what a detector answers on the clean test images and on changed ones: what `demo.json` holds."""
    clean = answer(test.x)
    rows = {"clean": _row(clean, test.y, None, threshold)}
    rows |= {title: _row(answer(X), test.y, clean, threshold) for title, X in variants.items()}
    return {"threshold": threshold, "rows": rows}


def measure_confidence(target: Target, held_out: Any, test: datasets.Part, variants: dict[str, Any]) -> Any:
    """Measure the classifier's highest probability in the same way: it needs no guard and corrects nothing."""
    confidence = MaximumProbability(target)

    def answer(X: Any) -> dict[str, Any]:
        outputs = target.classifier_outputs(X)
        return {"instance_score": confidence.score(X, outputs), "no_defense": outputs[0].argmax(axis=1)}

    found = measure(answer, percentile_threshold(answer(held_out)["instance_score"], 95), test, variants)
    for row in found["rows"].values():
        # This score is not in nats, and its means would stand beside means in nats.
        row |= {"harmful_score": None, "harmless_score": None}
    return found


def _row(answer: Any, y: Any, clean: Any, threshold: float) -> dict[str, Any]:
    score, after = answer["instance_score"], answer["no_defense"]
    split = split_by_harm(y, (answer if clean is None else clean)["no_defense"], after)
    # On clean images every flag is a false alarm; on changed ones those count that the change harmed.
    counted = score if clean is None else score[split.harmful]
    corrected = answer.get("corrected")
    return {
        "accuracy": float(np.mean(after == y)),
        "corrected": None if corrected is None else float(np.mean(corrected == y)),
        "auroc": None if clean is None or not len(counted) else auroc(clean["instance_score"], counted),
        "flagged": flagged_rate(counted, threshold) if len(counted) else None,
        "harmful": int(split.harmful.sum()),
        "harmful_score": float(score[split.harmful].mean()) if split.harmful.any() else None,
        "harmless_score": float(score[split.harmless].mean()) if split.harmless.any() else None,
    }


def table(results: dict[str, Any]) -> Table:
    """The results as one table, with a block for each detector."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("test images", "accuracy", "corrected", "AUROC", "flagged", "harmful", "harmless"):
        shown.add_column(column, justify="left" if column == "test images" else "right", no_wrap=True)
    formats = {"accuracy": ".1%", "corrected": ".1%", "auroc": ".3f", "flagged": ".1%"}
    formats |= {"harmful_score": ".2f", "harmless_score": ".2f"}
    for name, result in results["detectors"].items():
        shown.add_row(f"[bold]{name}[/bold]")
        for title, row in result["rows"].items():
            cells = ("" if row[key] is None else format(row[key], form) for key, form in formats.items())
            shown.add_row(f"  {title}", *(cell.replace("%", " %") for cell in cells))
        shown.add_section()
    return shown


def draw(
    path: Path,
    data: datasets.Dataset,
    test: datasets.Part,
    ae: AdversarialAE,
    detectors: dict[str, Detector],
    attacked: dict[str, Any],
) -> None:
    """Write the picture: the first test images on which an attack succeeded, and the scores of each detector."""
    title, images = list(attacked.items())[1]
    before: Any = ae.correct(test.x)["data"]
    after: Any = ae.correct(images)["data"]
    harmful = split_by_harm(test.y, before["no_defense"], after["no_defense"]).harmful
    chosen = np.flatnonzero(harmful)[:EXAMPLES]
    if not len(chosen):
        return

    def row(name: str, shown: Any, classes: Any, answer: Any = None) -> plots.Row:
        words = [data.class_names[classes[i]] for i in chosen]
        if answer is not None:
            flags = [", flagged" if answer["is_adversarial"][i] else "" for i in chosen]
            scores = [f"\nscore {answer['instance_score'][i]:.2g}" for i in chosen]
            words = list(map("".join, zip(words, scores, flags, strict=True)))
        return plots.Row(name, shown, words, [plots.GOOD if classes[i] == test.y[i] else plots.BAD for i in chosen])

    rows = [
        row("original", test.x[chosen], before["no_defense"], before),
        row("attacked", images[chosen], after["no_defense"], after),
        row("reconstructed", ae.reconstruct(images[chosen]), after["defense"]),
    ]
    histograms = [
        plots.Histogram(name, detector.score(test.x), detector.score(images[harmful]), _threshold(detector))
        for name, detector in detectors.items()
    ]
    what = f"what the classifier says of images, of {title} attacks on them and of their reconstructions"
    plots.attack_picture(path, f"{data.name}: {what}", rows, histograms)


def _threshold(detector: Detector) -> float:
    return float(np.asarray(detector.threshold))


def _answers(detector: Detector) -> Callable[[Any], Any]:
    return lambda X: detector.correct(X)["data"]
