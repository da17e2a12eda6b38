"""The tables of what `benchmarks/ablation.py` has measured: means over seeds, by data set."""

import json
import math
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks/results"
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
PUBLISHED, DEFAULT = "K-L", "Jeffreys and balanced doubt"

Found = dict[str, Any]
"""Of each row set, clean or an attack: its figures."""


def by_scale() -> tuple[list[str], list[list[str]]]:
    """How well ready companions agree with classifiers of images on several scales."""
    path = RESULTS.parent.parent / "docs/results/input-scales.json"
    rows = []
    for name, found in json.loads(path.read_text(encoding="utf-8"))["runs"].items():
        means = {key: statistics.mean(shares) for key, shares in found.items() if isinstance(shares, list)}
        for companion in dict.fromkeys(key.rpartition(", ")[0] for key in means):
            both = (f"{100 * means[f'{companion}, {how}']:.1f} %" for how in ("as they come", "learned"))
            rows.append([f"{NAMES[name]}, {companion}", *both])
    return ["", "numbers as they come", "scales learned"], rows


def runs(dataset: str) -> list[Any]:
    """One a seed."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob(f"ablation-{dataset}-*.json"))]


def datasets() -> list[str]:
    """Those that were measured."""
    return [name for name in NAMES if runs(name)]


def attacked(found: Found) -> dict[str, Any]:
    """The attacks that fooled the classifier at all."""
    return {title: row for title, row in found.items() if title != "clean" and "auroc" in row}


FIGURES: dict[str, Callable[[Found], float]] = {
    "mean AUROC": lambda found: statistics.mean(row["auroc"] for row in attacked(found).values()),
    "worst AUROC": lambda found: min(row["auroc"] for row in attacked(found).values()),
    "C&W": lambda found: found["C&W"]["tpr_at_5_fpr"],
    "C&W, confident": lambda found: found["C&W, confident"]["tpr_at_5_fpr"],
    "SLIDE": lambda found: first(found, "SLIDE")["tpr_at_5_fpr"],
    "PGD": lambda found: first(found, "PGD 0")["tpr_at_5_fpr"],
    "clean": lambda found: found["clean"]["corrected"] - found["clean"]["accuracy"],
}
"""By heading; shares caught at 5 % false alarms but for the first two, and what correction does to clean accuracy."""
AREAS = ("mean AUROC", "worst AUROC")
POINTS = ("clean",)


def first(found: Found, start: str) -> Any:
    """The attack whose title starts so, at its smallest budget."""
    return next(row for title, row in found.items() if title.startswith(start))


def cells(several: list[Found]) -> list[str]:
    """The means over seeds."""
    shown = []
    for heading, figure in FIGURES.items():
        value = statistics.mean(figure(found) for found in several)
        if heading in AREAS:
            shown.append(f"{value:.3f}")
        else:
            shown.append(f"{100 * value:+.1f}" if heading in POINTS else f"{100 * value:.0f} %")
    return shown


HEAD = [*AREAS, "C&W", "C&W, confident", "SLIDE", "PGD", "clean accuracy"]


def blocks(rows: Callable[[list[Any]], Iterator[tuple[str, list[Found]]]]) -> list[list[str]]:
    """A block a data set, a row a title; with how many seeds it stands on."""
    table = []
    for dataset in datasets():
        table.append([f"**{NAMES[dataset]}**", "", *[""] * len(HEAD)])
        table += [[title, str(len(several)), *cells(several)] for title, several in rows(runs(dataset)) if several]
    return table


def by_companion(score: str) -> list[list[str]]:
    """One score, every companion."""

    def rows(seeds: list[Any]) -> Iterator[tuple[str, list[Found]]]:
        for name in names(seed["companions"] for seed in seeds):
            having = [seed["companions"][name]["scores"] for seed in seeds if name in seed["companions"]]
            yield name, [scores[score] for scores in having if score in scores]

    return blocks(rows)


SHOWN = (
    "K-L",
    "several temperatures",
    "Jeffreys",
    "the opinion's doubt in the class",
    "Jeffreys + 10 x the classifier's doubt",
    "the classifier's doubt alone",
    "Jeffreys and balanced doubt",
)


def by_score(companion: str, shown: tuple[str, ...] = ()) -> list[list[str]]:
    """One companion, every score or those that are named."""

    def rows(seeds: list[Any]) -> Iterator[tuple[str, list[Found]]]:
        having = [seed["companions"][companion] for seed in seeds if companion in seed["companions"]]
        for score in shown or names(companion["scores"] for companion in having):
            yield score, [companion["scores"][score] for companion in having if score in companion["scores"]]

    return blocks(rows)


COMBINED = (
    "student: smaller p-value, Jeffreys and doubt",
    "student, robust: smaller p-value, Jeffreys and doubt",
    "student, robust and student, robust, Jeffreys: smallest p-value, Jeffreys and doubt",
    "autoencoder and student: smallest p-value, Jeffreys and doubt",
    "copy, robust in two norms, long: smaller p-value, Jeffreys and doubt",
)
"""Of many that were tried, those that did best."""


def by_combination() -> list[list[str]]:
    """Several p-values, several companions."""

    def rows(seeds: list[Any]) -> Iterator[tuple[str, list[Found]]]:
        for title in COMBINED:
            yield title, [seed["combined"][title] for seed in seeds if title in seed["combined"]]

    return blocks(rows)


def names(several: Any) -> list[str]:
    """All keys, in the order in which they come."""
    return list(dict.fromkeys(name for keys in several for name in keys))


ATTACKED = ("student", "student, robust, Jeffreys", "autoencoder", "copy, robust", "copy, robust in two norms, long")
"""Companions that are shown under attackers who know the guard."""


def adaptive() -> tuple[list[str], list[list[str]]]:
    """Those who know the guard: AUROC of the worst case, and what a user of `correct` still gets right."""
    table = []
    for dataset in datasets():
        seeds = runs(dataset)
        table.append([f"**{NAMES[dataset]}**", *[""] * 5])
        for name in ATTACKED:
            for score in (PUBLISHED, DEFAULT):
                found = [
                    seed["companions"][name]["adaptive"][score]
                    for seed in seeds
                    if score in seed["companions"].get(name, {}).get("adaptive", {})
                ]
                if found:
                    table.append([name, score, str(len(found)), *(mean(found, key) for key in ADAPTIVE)])
    return ["companion", "score", "seeds", *ADAPTIVE.values()], table


GIST = {
    "autoencoder": "`AdversarialAE`",
    "student": "`ModelDistillation`, ready student",
    "copy, robust in two norms, long": "`ModelDistillation`, robust copy",
}


def gist() -> tuple[list[str], list[list[str]]]:
    """Three companions under the default score: what is caught at 5 % false alarms, by who knows the guard too."""
    columns, table = ["C&W", "C&W, confident", "SLIDE", "PGD"], []
    for dataset in (dataset for dataset in datasets() if dataset != "mnist"):
        seeds = runs(dataset)
        table.append([f"**{NAMES[dataset]}**", *[""] * (len(columns) + 2)])
        for name, title in GIST.items():
            found = [seed["companions"][name] for seed in seeds if name in seed["companions"]]
            shown = dict(zip(HEAD, cells([one["scores"][DEFAULT] for one in found]), strict=True))
            knowing = mean([one["adaptive"][DEFAULT] for one in found], "tpr_at_5_fpr")
            table.append([title, *(shown[column] for column in columns), knowing, shown["clean accuracy"]])
    return ["caught at 5 % false alarms", *columns, "who knows the guard", "points of clean accuracy"], table


COSTS = ("student", "student, robust", "copy, robust", "copy, robust in two norms, long", "autoencoder")


def cost() -> tuple[list[str], list[list[str]]]:
    """What training a companion takes, in minutes and against the ready student."""
    table = []
    for dataset in datasets():
        table.append([f"**{NAMES[dataset]}**", "", "", ""])
        for name in COSTS:
            both = [
                (seed["companions"][name], seed["companions"]["student"])
                for seed in runs(dataset)
                if name in seed["companions"]
            ]
            if both:
                minutes = sorted(one["fit_seconds"] / 60 for one, _ in both)
                times = sorted(one["fit_seconds"] / student["fit_seconds"] for one, student in both)
                table.append([name, str(len(both)), ends(minutes), ends(times)])
    return ["companion", "seeds", "minutes", "times the student's"], table


def ends(values: list[float]) -> str:
    """The smallest and the largest of sorted values."""
    shown = dict.fromkeys(f"{value:.1f}" for value in (values[0], values[-1]))
    return " to ".join(shown)


ADAPTIVE = {"auroc": "AUROC", "tpr_at_5_fpr": "caught at 5 %", "corrected": "accuracy of `correct`"}


def mean(found: list[Any], key: str) -> str:
    """A mean over seeds, where all have the figure."""
    values = [row[key] for row in found if key in row]
    if len(values) < len(found):
        return ""
    value = statistics.mean(values)
    return f"{value:.3f}" if key == "auroc" else f"{100 * value:.0f} %"


def against_the_paper() -> tuple[list[str], list[list[str]]]:
    """The published method on the published attacks, and what is asked of it."""
    head = ["", "seeds", "clean accuracy", "attack", "AUROC", "asked", "always corrected", "points lost", "asked"]
    table = []
    for dataset, (area, points) in {"mnist": (0.99, 1.0), "fashion_mnist": (0.97, 4.0)}.items():
        for name in ("autoencoder", "student"):
            score = "K-L, T = 0.5" if name == "autoencoder" else PUBLISHED
            found = [seed["companions"][name]["scores"][score] for seed in runs(dataset) if name in seed["companions"]]
            for attack in ("C&W", "SLIDE") if found else ():
                rows = [first(one, attack) for one in found]
                # Attacked are rows that the classifier gets right, so unattacked it is right on all of them.
                lost = [100 * (1 - row["always_corrected"]) for row in rows]
                table.append(
                    [
                        f"{NAMES[dataset]}, {name}",
                        str(len(found)),
                        f"{100 * statistics.mean(one['clean']['accuracy'] for one in found):.1f} %",
                        attack,
                        spread([row["auroc"] for row in rows], 3),
                        f"{area:g}",
                        f"{100 * statistics.mean(row['always_corrected'] for row in rows):.1f} %",
                        spread(lost, 1),
                        f"{points:g}",
                    ]
                )
    return head, table


def spread(values: list[float], digits: int) -> str:
    """The mean and, of several, the standard deviation."""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) < 2 or math.isnan(values[0]) else f"{text} ± {statistics.stdev(values):.{digits}f}"
