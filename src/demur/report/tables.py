"""What stands in the tables of a report: threats grouped, corruptions by severity, scores compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demur.evaluation.comparison import OWN, compared, corrections, detection_of, differences
from demur.metrics import COMPARED, Estimate

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation, Threat

KNOWLEDGE = {
    "grey-box": "Grey-box",
    "black-box": "Black-box",
    "white-box": "White-box, adaptive",
    "corruption": "Corruptions",
}
BETTER, WORSE = "better", "worse"


@dataclass(frozen=True)
class Attack:
    """All strengths of one attack or corruption."""

    name: str
    model: str
    """What the attacker knows, where that is not what the group says."""
    threats: "list[Threat]"


@dataclass(frozen=True)
class Group:
    """All attacks of one knowledge."""

    knowledge: str
    heading: str
    meaning: str
    """What most of its attackers know."""
    attacks: list[Attack]


@dataclass(frozen=True)
class Matrix:
    """Corruptions by severity; None where there is none of a severity."""

    severities: list[float]
    rows: "list[tuple[str, list[Threat | None]]]"


@dataclass(frozen=True)
class Compared:
    """One score on one threat: its figures, and whether they differ from the guard's beyond chance."""

    tpr: Estimate | None
    auroc: Estimate | None
    marks: dict[str, str]
    """By figure, BETTER or WORSE."""


@dataclass(frozen=True)
class Row:
    """All scores on one threat, or the means of several."""

    title: str
    knowledge: str
    threats: int
    rows: int
    """How many inputs fooled the classifier."""
    cells: list[Compared]


def groups(threats: "Sequence[Threat]") -> list[Group]:
    """Threats by what the attacker knows, and by name; each in the order in which they come."""
    found = []
    for knowledge, heading in KNOWLEDGE.items():
        chosen = [threat for threat in threats if threat.knowledge == knowledge]
        if not chosen:
            continue
        kinds = dict.fromkeys((threat.name, threat.model) for threat in chosen)
        usual = Counter(model for _, model in kinds).most_common(1)[0][0]
        attacks = [
            Attack(name, "" if model == usual else model, [t for t in chosen if (t.name, t.model) == (name, model)])
            for name, model in kinds
        ]
        found.append(Group(knowledge, heading, usual, attacks))
    return found


def matrix(threats: "Sequence[Threat]") -> Matrix:
    """Corruptions that have a severity."""
    found = {(t.name, t.strength): t for t in threats if t.knowledge == "corruption" and t.strength is not None}
    severities = sorted({strength for _, strength in found if strength is not None})
    names = dict.fromkeys(name for name, _ in found)
    return Matrix(severities, [(name, [found.get((name, severity)) for severity in severities]) for name in names])


def marked_corrections(evaluation: "Evaluation") -> dict[int, str]:
    """By the id of a threat, whether correction makes answers better or worse beyond chance."""
    return {
        id(threat): BETTER if threat.corrected.value > threat.accuracy.value else WORSE
        for threat in corrections(evaluation)
    }


def comparison(evaluation: "Evaluation") -> "tuple[list[str], list[Row], list[Row]]":
    """How much of what succeeded each score would catch.

    Returns:
        The names of the scores, the guard's first; one row an attack, and one a corruption with the means over its
        severities; and one row a severity of each corruption.
    """
    threats, baselines = compared(evaluation)
    names = [OWN, *baselines]
    if not baselines:
        return names, [], []
    marks = {
        (id(one.threat), one.baseline, one.figure): BETTER if one.lead.value > 0 else WORSE
        for one in differences(evaluation)
    }

    def row(title: str, several: "Sequence[Threat]") -> Row:
        cells = [_compared(name, several, marks) for name in names]
        rows = sum(sum(threat.successful) for threat in several)
        return Row(title, several[0].knowledge, len(several), rows, cells)

    attacks = [row(t.title, [t]) for t in threats if t.knowledge != "corruption"]
    corruptions = [threat for threat in threats if threat.knowledge == "corruption"]
    kinds = dict.fromkeys(threat.name for threat in corruptions)
    means = [row(kind, [threat for threat in corruptions if threat.name == kind]) for kind in kinds]
    return names, attacks + means, [row(threat.title, [threat]) for threat in corruptions]


def _compared(name: str, threats: "Sequence[Threat]", marks: dict[tuple[int, str, str], str]) -> Compared:
    """A score on a threat, or its means over several; marked where those of the several that are marked agree."""
    found = [one for threat in threats if (one := detection_of(threat, name)) is not None]
    tpr, auroc = (_mean([one[figure] for one in found]) for figure in COMPARED)  # type: ignore[literal-required]
    agreed = {}
    for figure in COMPARED:
        own = {marks[key] for threat in threats if (key := (id(threat), name, figure)) in marks}
        if len(own) == 1:
            agreed[figure] = own.pop()
    return Compared(tpr, auroc, agreed)


def _mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """The mean, within the mean bounds at least as often as each is within its own: by Minkowski's inequality."""
    return Estimate(*(float(value) for value in np.mean(estimates, axis=0))) if estimates else None
