"""What makes a companion better, and which score of two predictions: every companion times every score.

    KERAS_BACKEND=tensorflow python benchmarks/ablation.py DATASET [--seed N] [--keep FOLDER] [--companions NAME ...]

All see the same attacks: the attacker knows the classifier, not the guard. Then those who know the guard attack some
of them. What was found goes to benchmarks/results/ablation-DATASET-SEED.json after each companion; those that it holds
already are not trained again. `--keep` keeps attacked images and companions.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.special
from guarded import CLASSIFIERS, classifier_of
from measuring import machine
from networks import published_autoencoder

import demur
from demur import AdversarialAE, ModelDistillation, Robust, datasets
from demur.calibration.metrics import evaluate_scores
from demur.evaluation.attacks import (
    PGD,
    PGDL2,
    SLIDE,
    Attack,
    CarliniWagner,
    ConfidentCarliniWagner,
    DeepFool,
    DefendedPathPGD,
    SelectivePGD,
    WeightedPGD,
)
from demur.evaluation.norms import default_epsilons
from demur.evaluation.store import AttackedRows, digest_of_classifier, digest_of_rows
from demur.evaluation.target import Target
from demur.network.graph import Half, compiled
from demur.network.passes import over_batches
from demur.rows.sources import as_source

ROOT = Path(__file__).resolve().parent
ATTACKED = 100
ATTACKED_ADAPTIVELY = 64
CLEAN = 2000
FPR = 0.05
BATCH = 128
PUBLISHED = "K-L"
TRAIN = "training"

Array = Any


class Companion(NamedTuple):
    """How a companion is made and trained."""

    kind: Any
    settings: dict[str, Any]
    fit: dict[str, Any]
    is_attacked: bool = False
    """Whether those who know the guard attack it: under the published score, and under the default one."""
    student: str = "ready"
    """`large` is the classifier's architecture, with three times the ready one's weights; `copy` starts as it is."""
    is_long: bool = False
    """Whether it learns from more rows, for more epochs, at a rate that falls to 0."""


class Size(NamedTuple):
    """How much is done on a data set."""

    ae_rows: int
    ae_epochs: int
    student_rows: int
    student_epochs: int
    long_rows: int
    long_epochs: int
    epsilon: float
    """That robust companions are trained for."""


SIZES = {
    "mnist": Size(8_000, 8, 25_000, 10, 25_000, 10, 0.1),
    "fashion_mnist": Size(12_000, 8, 25_000, 10, 50_000, 15, 0.1),
    "cifar10": Size(20_000, 8, 50_000, 20, 50_000, 20, 8 / 255),
}


def noisy(x: Array) -> Array:
    """Rows with noise of a strength of their own."""
    rng = np.random.default_rng(int(1e6 * float(np.abs(x).sum())) % 2**32)
    strength = rng.uniform(0, 0.2, (len(x), *[1] * (x.ndim - 1)))
    return np.clip(x + strength * rng.standard_normal(x.shape), 0, 1).astype("float32")


def companions(size: Size) -> dict[str, Companion]:
    """By name. What is not said otherwise is published: trained on the K-L divergence, with a reconstruction term."""
    near = Robust(size.epsilon, bounds=(0.0, 1.0))
    round_too, closer = (
        Robust({"Linf": share * size.epsilon, "L2": 15 * share * size.epsilon}, bounds=(0.0, 1.0))
        for share in (1, 0.25)
    )
    ae: dict[str, Any] = {"epochs": size.ae_epochs, "w_recon": 0.1}
    student: dict[str, Any] = {"epochs": size.student_epochs}
    kld, half, jeffreys = {"loss_type": "kld"}, {"loss_type": "kld", "temperature": 0.5}, {"loss_type": "jeffreys"}
    distilled = functools.partial(Companion, ModelDistillation)
    redrawn = functools.partial(Companion, AdversarialAE)
    return {
        "student": distilled(kld, student, is_attacked=True),
        "student, Jeffreys": distilled(jeffreys, student),
        "student, noisy rows": distilled(kld, {**student, "preprocess_fn": noisy}),
        "student, robust": distilled(kld, {**student, "robust": near}),
        "student, robust, Jeffreys": distilled(jeffreys, {**student, "robust": near}, is_attacked=True),
        "autoencoder": redrawn(half, ae, is_attacked=True),
        "autoencoder, Jeffreys": redrawn(jeffreys, ae),
        "autoencoder, hidden layer": redrawn({**half, "hidden_layer_kld": {-2: 20}}, ae),
        "autoencoder, no reconstruction term": redrawn(half, {**ae, "w_recon": 0.0}),
        "autoencoder, noisy rows": redrawn(half, {**ae, "preprocess_fn": noisy}),
        "student, noisy rows, robust": distilled(
            kld, {**student, "preprocess_fn": noisy, "robust": near}, is_attacked=True
        ),
        "large student, robust": distilled(kld, {**student, "robust": near}, is_attacked=True, student="large"),
        "copy, robust": distilled(kld, {**student, "robust": near}, is_attacked=True, student="copy"),
        "copy, robust in two norms, long": distilled(
            kld, {"robust": round_too}, is_attacked=True, student="copy", is_long=True
        ),
        "copy, a quarter as robust in two norms, long": distilled(
            kld, {"robust": closer}, is_attacked=True, student="copy", is_long=True
        ),
        "autoencoder, robust, Jeffreys": redrawn(jeffreys, {**ae, "robust": near}, is_attacked=True),
    }


class Said(NamedTuple):
    """What classifier and companion say of rows: log-probabilities `(n, classes)`, untempered."""

    reference: Array
    opinion: Array

    @property
    def own(self) -> Array:
        """The companion's log-probability of the classifier's class."""
        return self.opinion[np.arange(len(self.opinion)), self.reference.argmax(axis=1)]


def kl(a: Array, b: Array) -> Array:
    """K-L divergence of each row, in nats."""
    return np.sum(np.exp(a) * (a - b), axis=1)


def sharpened(log_p: Array, temperature: float) -> Array:
    """As the published method has it."""
    return scipy.special.log_softmax(log_p / temperature, axis=1)


def published(said: Said, temperature: float = 1.0) -> Array:
    """The published score."""
    return kl(sharpened(said.reference, temperature), said.opinion)


def jeffreys(said: Said) -> Array:
    """The divergences both ways."""
    return kl(said.reference, said.opinion) + kl(said.opinion, said.reference)


def doubt(said: Said) -> Array:
    """The classifier's own."""
    return -said.reference.max(axis=1)


SCORES: dict[str, Callable[[Said], Array]] = {
    PUBLISHED: published,
    "K-L, T = 0.5": lambda said: published(said, 0.5),
    "several temperatures": lambda said: sum(published(said, t) for t in (0.5, 1.0, 2.0)),
    "Jeffreys": jeffreys,
    "the opinion's doubt in the class": lambda said: -said.own,
    "K-L + 10 x the classifier's doubt": lambda said: published(said) + 10 * doubt(said),
    "Jeffreys + 10 x the classifier's doubt": lambda said: jeffreys(said) + 10 * doubt(said),
    "the classifier's doubt alone": doubt,
}
"""`-> (n,)`, larger where less is to be believed."""
DEFAULT = "Jeffreys and balanced doubt"
"""The length of both: what a detector does by default."""


def balance(trained_on: Said) -> float:
    """The weight of doubt with which both reach as far on training rows."""
    return float(np.quantile(jeffreys(trained_on), 0.95) / max(np.quantile(doubt(trained_on), 0.95), 1e-3))


def balanced(said: Said, weight: float) -> Array:
    """The default score."""
    return np.hypot(jeffreys(said), weight * doubt(said))


def said_of(detector: Any, X: Array) -> Said:
    """What both networks say of rows."""
    views, layout = detector.views, detector.classifier.layout
    half = Half(lambda x: [detector.classifier(x, training=False)[0], views.opinion(x, False)[0][0]], detector.layers)
    parts = over_batches(compiled(half, layout), as_source(X, layout), 256)
    return Said(*(np.concatenate(outputs).astype("float64") for outputs in zip(*parts, strict=True)))


class Judged(NamedTuple):
    """Scores of one way to score, and the opinion's classes; by which rows."""

    score: dict[str, Array]
    opinion: dict[str, Array]


def figures(judged: Judged, truth: dict[str, Array], predicted: dict[str, Array]) -> dict[str, Any]:
    """Accuracy of `correct` at the threshold, and of each attack's successes how well they are told from clean rows."""
    limit = np.quantile(judged.score["held out"], 1 - FPR, method="higher")
    found: dict[str, Any] = {}
    for name, score in judged.score.items():
        if name in ("held out", TRAIN):
            continue
        y, own, other = truth[name], predicted[name], judged.opinion[name]
        row = {
            "accuracy": np.mean(own == y),
            "always_corrected": np.mean(other == y),
            "corrected": np.mean(np.where(score > limit, other, own) == y),
            "flagged": np.mean(score > limit),
        }
        if name != "clean" and (own != y).any():
            ours = evaluate_scores(judged.score["clean"], score[own != y], resamples=1)
            row |= {key: ours[key].value for key in ("auroc", "tpr_at_1_fpr", "tpr_at_5_fpr")}
        found[name] = {key: round(float(value), 5) for key, value in row.items()}
    return found


PAIRS = (
    ["autoencoder", "student"],
    ["student, robust", "student, robust, Jeffreys"],
    ["copy, robust in two norms, long", "copy, a quarter as robust in two norms, long"],
)
"""Companions that are also heard together."""


def p_values(held_out: Array, score: Array) -> Array:
    """Conformal p-values."""
    ordered = np.sort(held_out)
    return (1 + len(ordered) - np.searchsorted(ordered, score, side="left")) / (1 + len(ordered))


def combined(said: dict[str, dict[str, Said]]) -> dict[str, Judged]:
    """Scores of p-values, and of two companions, by name; the opinion is the mean of the companions'."""

    def opinions(names: list[str]) -> dict[str, Array]:
        return {rows: np.mean([said[n][rows].opinion for n in names], axis=0).argmax(axis=1) for rows in said[names[0]]}

    def joined(names: list[str], ways: list[Callable[[Said], Array]], fold: Callable[[Any], Array]) -> Judged:
        # P-values only order the rows here: the threshold is set on held-out rows as for any score.
        found = {}
        for rows in said[names[0]]:
            pairs = [(way(said[n]["held out"]), way(said[n][rows])) for n in names for way in ways]
            found[rows] = fold([p_values(*pair) for pair in pairs])
        return Judged(found, opinions(names))

    def mixed(names: list[str]) -> Judged:
        together = {}
        for rows in said[names[0]]:
            log_q = scipy.special.logsumexp([said[n][rows].opinion for n in names], axis=0) - np.log(len(names))
            together[rows] = Said(said[names[0]][rows].reference, log_q)
        weight = balance(together[TRAIN])
        return Judged({rows: balanced(both, weight) for rows, both in together.items()}, opinions(names))

    def smallest(p: Any) -> Array:
        return -np.min(p, axis=0)

    def product(p: Any) -> Array:
        return -np.log(p).sum(axis=0)

    found: dict[str, Judged] = {}
    for name in said:
        found[f"{name}: smaller p-value, Jeffreys and doubt"] = joined([name], [jeffreys, doubt], smallest)
        found[f"{name}: product of p-values, Jeffreys and doubt"] = joined([name], [jeffreys, doubt], product)
    for two in PAIRS:
        if all(name in said for name in two):
            title = " and ".join(two)
            found[f"{title}: smaller p-value, K-L"] = joined(two, [published], smallest)
            found[f"{title}: smallest p-value, Jeffreys and doubt"] = joined(two, [jeffreys, doubt], smallest)
            found[f"{title}: mean opinion, {DEFAULT}"] = mixed(two)
    return found


def attacks_for(shape: tuple[int, ...]) -> list[Attack]:
    """Those who know the classifier: stopping at the boundary, going beyond it, and within usual budgets."""
    limit = default_epsilons(shape, (0.0, 1.0))
    return [
        CarliniWagner(),
        ConfidentCarliniWagner(),
        DeepFool(),
        SLIDE(limit["L1"]),
        PGDL2(limit["L2"]),
        PGD(limit["Linf"]),
        PGD(2 * limit["Linf"]),
    ]


def attacked_rows(model: Any, data: datasets.Dataset, seed: int, keep: Path) -> dict[str, AttackedRows]:
    """Test rows that the classifier gets right, attacked; from the folder, if they are there.

    Raises:
        CorruptEvaluation: the rows there were made from other data or another classifier, or do not fool this one.
    """
    chosen = np.random.default_rng(seed).permutation(len(data.test.y))
    target = Target(ModelDistillation(model=model, threshold=0.0))
    right = target.classifier_outputs(data.test.x)[0].argmax(axis=1) == data.test.y
    rows, found = chosen[right[chosen]][:ATTACKED], {}
    made_from = {"data": digest_of_rows(*data.test), "classifier": digest_of_classifier(target.detector)}
    keep.mkdir(parents=True, exist_ok=True)
    for attack in attacks_for(data.test.x.shape[1:]):
        origin = {**made_from, "attack": json.dumps(attack.settings, sort_keys=True), "seed": str(seed)}
        file, started = keep / f"{attack.title}.npz", time.monotonic()
        made = AttackedRows.read(file)
        if made is None:
            x, y = data.test.x[rows], data.test.y[rows]
            x = attack.run(target, x, y, seed=seed).x
            made = AttackedRows(x, rows, y, wrong_on(target, x, y), origin)
            made.write(file)
        made.check(origin, file)
        # The numbers kept with the rows count: on another machine, rounding may choose other rows.
        made.check(origin, file, data.test.y[made.rows])
        made.check_claim(wrong_on(target, made.x, made.y), file)
        print(f"{attack.title}: {time.monotonic() - started:.0f} s", flush=True)
        found[attack.title] = made
    return found


def wrong_on(target: Target, x: Array, y: Array) -> Array:
    """Whether the classifier is wrong on rows."""
    return target.classifier_outputs(x)[0].argmax(axis=1) != y


def trained(companion: Companion, model: Any, data: datasets.Dataset, size: Size, seed: int) -> Any:
    """A detector with that companion."""
    rows = size.ae_rows if companion.kind is AdversarialAE else size.student_rows
    x = data.train.x[: size.long_rows if companion.is_long else rows]
    settings, fit = dict(companion.settings), dict(companion.fit)
    keras.utils.set_random_seed(seed)
    if companion.student == "large":
        settings["distilled_model"] = keras.models.clone_model(model)
    if companion.student == "copy":
        settings["distilled_model"] = "copy"
    if companion.is_long:
        steps = size.long_epochs * -(-len(x) // BATCH)
        falling = keras.optimizers.schedules.CosineDecay(1e-3, steps)
        fit |= {"epochs": size.long_epochs, "batch_size": BATCH, "optimizer": keras.optimizers.Adam(falling)}
    if companion.kind is AdversarialAE:
        settings["ae"] = published_autoencoder(x.shape[1:], (32, 64) if x.shape[1] == 28 else (32, 64, 256))
    detector = companion.kind(model=model, data_type="image", seed=seed, **settings)
    return detector.fit(x, verbose=2, **fit)


def against_those_who_know(detector: Any, settings: dict[str, Any], data: datasets.Dataset, seed: int) -> Any:
    """The worst case of each row over adaptive attacks on the same companion under another score."""
    name = "ae" if isinstance(detector, AdversarialAE) else "distilled_model"
    other = type(detector)(model=detector.model, **{name: getattr(detector, name)}, **settings)
    other.infer_threshold(data.held_out.x, fpr=FPR)
    limit = default_epsilons(data.test.x.shape[1:], (0.0, 1.0))["Linf"]
    chosen = np.random.default_rng(seed).permutation(len(data.test.y))[:ATTACKED_ADAPTIVELY]
    evaluation = demur.evaluate(
        other, data.test.x[chosen], data.test.y[chosen], corruptions=None, baselines=None, resamples=2, seed=seed,
        attacks=[WeightedPGD(limit), SelectivePGD(limit), DefendedPathPGD(limit)], verbose=False,
    )  # fmt: skip
    (found,) = (case for case in evaluation.worst_cases if case.knowledge == "white-box")
    detection = {} if found.detection is None else found.detection
    return {
        "clean_corrected": evaluation.clean.corrected.value,
        "accuracy": found.accuracy.value,
        "corrected": found.corrected.value,
        "accepted_and_wrong": found.accepted_and_wrong.value,
        **{key: detection[key].value for key in ("auroc", "tpr_at_5_fpr") if key in detection},
    }


class Bench(NamedTuple):
    """What all companions of a data set and seed have in common."""

    dataset: str
    seed: int
    size: Size
    data: datasets.Dataset
    model: Any
    rows: dict[str, datasets.Part]
    """Training, held-out, clean and attacked ones."""
    attacked: dict[str, AttackedRows]
    keep: Path

    @property
    def truth(self) -> dict[str, Array]:
        """The classes of all rows."""
        return {title: part.y for title, part in self.rows.items()}


def bench(dataset: str, seed: int, keep: Path) -> Bench:
    """Load, train and attack the classifier."""
    data = datasets.load(CLASSIFIERS[dataset].dataset, seed=seed)
    model = classifier_of(dataset, data, seed)
    attacked = attacked_rows(model, data, seed, keep / "attacked")
    rows = {
        TRAIN: datasets.Part(data.train.x[:CLEAN], data.train.y[:CLEAN]),
        "held out": data.held_out,
        "clean": datasets.Part(data.test.x[:CLEAN], data.test.y[:CLEAN]),
        **{title: datasets.Part(made.x, made.y) for title, made in attacked.items()},
    }
    return Bench(dataset, seed, SIZES[dataset], data, model, rows, attacked, keep)


def measured(name: str, on: Bench, known: Any, *, knowingly: bool = True) -> tuple[dict[str, Any], dict[str, Said]]:
    """Train a companion, or load it, and try every score on it.

    Args:
        name: of the companion.
        on: what is measured on.
        known: what was found of it before; None for nothing.
        knowingly: whether those who know the guard attack it too, where that was not done before.
    """
    companion, folder, started = companions(on.size)[name], on.keep / name, time.monotonic()
    if folder.is_dir() and known:
        detector, seconds, trained_on = demur.load_detector(folder), known["fit_seconds"], known.get("trained_on")
    else:
        print(f"\n{name}", flush=True)
        detector = trained(companion, on.model, on.data, on.size, on.seed)
        seconds, trained_on = round(time.monotonic() - started), machine()
        detector.save(folder)
    said = {title: said_of(detector, part.x) for title, part in on.rows.items()}
    for title, made in on.attacked.items():  # the companion may be a kept one, of another classifier
        made.check_claim(predicted(said)[title] != made.y, folder)
    opinion = {title: both.opinion.argmax(axis=1) for title, both in said.items()}
    weight = balance(said[TRAIN])
    ways = {**SCORES, DEFAULT: lambda both: balanced(both, weight)}
    judged = {score: {title: way(both) for title, both in said.items()} for score, way in ways.items()}
    if "hidden layer" in name:
        judged["K-L, T = 0.5, and of the hidden layer"] = {
            title: detector.score(part.x) for title, part in on.rows.items()
        }
    before = (known or {}).get("adaptive", {})
    adaptive = {score: before[score] for score in (PUBLISHED, DEFAULT) if score in before}
    both = {PUBLISHED: {"score_type": "kld"}, DEFAULT: {"score_type": "jeffreys", "w_uncertainty": weight}}
    for score, settings in both.items() if companion.is_attacked and knowingly else ():
        if score not in adaptive:
            adaptive[score] = against_those_who_know(detector, settings, on.data, on.seed)
    return {
        "fit_seconds": seconds,
        "trained_on": trained_on,
        "balance": round(weight, 3),
        "scores": {
            score: figures(Judged(found, opinion), on.truth, predicted(said)) for score, found in judged.items()
        },
        "adaptive": adaptive,
    }, said


def predicted(said: dict[str, Said]) -> dict[str, Array]:
    """The classifier's classes."""
    return {title: both.reference.argmax(axis=1) for title, both in said.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=SIZES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", default=Path("/tmp/demur-ablation"))
    parser.add_argument("--companions", nargs="*", metavar="NAME", help="default: all that are missing")
    parser.add_argument("--no-adaptive", action="store_true", help="leave attacks on the guard to another run")
    arguments = parser.parse_args()
    on = bench(arguments.dataset, arguments.seed, arguments.keep / f"{arguments.dataset}-{arguments.seed}")
    file = ROOT / "results" / f"ablation-{on.dataset}-{on.seed}.json"
    document = json.loads(file.read_text()) if file.is_file() else {"companions": {}, "combined": {}}
    document |= {
        "dataset": on.dataset,
        "seed": on.seed,
        "size": on.size._asdict(),
        "machine": machine(),
        "attacked": ATTACKED,
        "fooled": {title: float(made.fooled.mean()) for title, made in on.attacked.items()},
        "clean": CLEAN,
        "attacked_adaptively": ATTACKED_ADAPTIVELY,
    }
    said: dict[str, dict[str, Said]] = {}
    for name in arguments.companions or companions(on.size):
        started = time.monotonic()
        document["companions"][name], said[name] = measured(
            name, on, document["companions"].get(name), knowingly=not arguments.no_adaptive
        )
        classes = predicted(said[name])
        document["combined"] |= {title: figures(found, on.truth, classes) for title, found in combined(said).items()}
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
