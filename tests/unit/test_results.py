"""Results of attacks that contradict themselves are refused: attacked images joined with other rows' labels do."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
ABLATIONS = sorted(ROOT.glob("ablation-*.json"))
QUALITY = sorted(file for file in ROOT.glob("*.json") if file not in ABLATIONS)
SMALLEST = ("C&W", "C&W, confident", "DeepFool")
"""Attacks without a budget, which succeed on every row that the classifier got right."""
ROUNDING = 0.02
"""Share of the rows at the boundary that another machine may decide otherwise."""


def ablation_faults(document):
    """What is wrong with the attacked rows of an ablation, in words."""
    faults, accuracy, opinion = [], {}, {}
    for name, companion in [
        *((name, found["scores"]) for name, found in document["companions"].items()),
        *((name, {"": found}) for name, found in document["combined"].items()),
    ]:
        for figures in companion.values():
            for attack, row in figures.items():
                accuracy.setdefault(attack, set()).add(row["accuracy"])
                if name in document["companions"]:
                    opinion.setdefault(attack, []).append(row["always_corrected"])
    for attack, found in accuracy.items():
        if max(found) - min(found) > ROUNDING:
            faults.append(f"{attack}: the classifier's accuracy differs between companions")
        if attack in SMALLEST and max(found) > ROUNDING:
            faults.append(f"{attack}: the attack leaves the classifier right on {max(found):.0%}")
        claimed = 1 - document["fooled"][attack] if attack in document.get("fooled", {}) else None
        if claimed is not None and max(abs(value - claimed) for value in found) > ROUNDING:
            faults.append(f"{attack}: the attack claims an accuracy of {claimed:.0%}")
    if "C&W" in opinion and max(opinion["C&W"]) < max(opinion["clean"]) / 2:
        faults.append(f"C&W: changes too small to see leave no companion right on more than {max(opinion['C&W']):.0%}")
    return faults


def quality_faults(document):
    """What is wrong with the attacked rows of an evaluation, in words."""
    faults, clean = [], document["threats"][0]["accuracy"]
    for threat in document["threats"]:
        if threat["norm"] is None:
            continue
        title = threat["threat"]
        # Attacked are the rows that the classifier gets right; it is right where the attack fails.
        claimed = clean * (1 - threat["succeeded"])
        if abs(threat["accuracy"] - claimed) > ROUNDING:
            faults.append(f"{title}: the classifier is right on {threat['accuracy']:.0%}, claimed are {claimed:.0%}")
        if title in SMALLEST and threat["accuracy"] > ROUNDING:
            faults.append(f"{title}: the attack leaves the classifier right on {threat['accuracy']:.0%}")
    return faults


@pytest.mark.parametrize("file", ABLATIONS, ids=lambda file: file.stem)
def test_attacks_in_an_ablation_leave_the_accuracy_that_they_claim(file):
    assert ablation_faults(json.loads(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("file", QUALITY, ids=lambda file: file.stem)
def test_attacks_in_an_evaluation_leave_the_accuracy_that_they_claim(file):
    assert quality_faults(json.loads(file.read_text(encoding="utf-8"))) == []


def an_ablation(accuracy=0.0, opinion=0.9, other=None, fooled=1.0):
    """Two companions' results; the figures of what went wrong once are .05 and .13."""

    def scores(accuracy):
        clean = {"accuracy": 0.89, "always_corrected": 0.86}
        return {"scores": {"K-L": {"clean": clean, "C&W": {"accuracy": accuracy, "always_corrected": opinion}}}}

    companions = {"student": scores(accuracy), "copy": scores(accuracy if other is None else other)}
    return {"companions": companions, "combined": {}, "fooled": {"C&W": fooled}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"accuracy": 0.05}, "leaves the classifier right on 5%"),
        ({"opinion": 0.13}, "leave no companion right on more than 13%"),
        ({"other": 0.1}, "differs between companions"),
        ({"fooled": 0.9}, "claims an accuracy of 10%"),
    ],
)
def test_what_went_wrong_once_is_found(wrong, said):
    assert ablation_faults(an_ablation()) == []
    assert any(said in fault for fault in ablation_faults(an_ablation(**wrong)))


def test_an_evaluation_that_contradicts_itself_is_found():
    threats = [
        {"threat": "unchanged", "norm": None, "accuracy": 0.9},
        {"threat": "PGD", "norm": "Linf", "accuracy": 0.1, "succeeded": 1.0},
    ]
    assert quality_faults({"threats": threats}) == ["PGD: the classifier is right on 10%, claimed are 0%"]
