"""What stands in the tables of a report: threats grouped, corruptions by severity, scores compared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demur.calibration.metrics import Estimate
from demur.evaluation.comparison import OWN, compared, detection_of, differences

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation, Threat

KNOWLEDGE = {
    "grey-box": "Grey-box",
    "black-box": "Black-box",
    "white-box": "White-box, adaptive",
    "corruption": "Corruptions",
}


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
    """One score on one threat, or its means over several."""

    tpr: Estimate | None
    auroc: Estimate | None
    mark: str
    """BETTER or WORSE than the guard's AUROC, beyond chance; "" for neither."""


@dataclass(frozen=True)
class Row:
    """All scores on one threat, or the means of several."""

    title: str
    knowledge: str
    threats: int
    rows: int
    """How many inputs fooled the classifier."""
    cells: list[Compared]
    kind: str
    """"all" of the means of a knowledge."""


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


def comparison(evaluation: "Evaluation") -> "tuple[list[str], list[Row], list[Row]]":
    """How much of what succeeded each score would catch.

    Returns:
        The names of the scores, the guard's first; of each knowledge a row an attack, or a corruption with the means
        over its severities, and one with the means of all; and one row a severity of each corruption.
    """
    threats, baselines = compared(evaluation)
    names = [OWN, *baselines]
    if not baselines:
        return names, [], []
    marks, rows = differences(evaluation), []

    def row(title: str, over: str, several: "Sequence[Threat]", kind: str = "") -> Row:
        cells = [_compared(name, several, marks.get((over, name), "")) for name in names]
        return Row(title, several[0].knowledge, len(several), sum(sum(t.successful) for t in several), cells, kind)

    for knowledge, heading in KNOWLEDGE.items():
        chosen = [threat for threat in threats if threat.knowledge == knowledge]
        kinds = dict.fromkeys(threat.name if knowledge == "corruption" else threat.title for threat in chosen)
        rows += [row(kind, kind, [t for t in chosen if kind in (t.name, t.title)]) for kind in kinds]
        if len(kinds) > 1:
            rows.append(row(heading, knowledge, chosen, "all"))
    corruptions = [threat for threat in threats if threat.knowledge == "corruption"]
    return names, rows, [row(threat.title, threat.title, [threat]) for threat in corruptions]


def _compared(name: str, threats: "Sequence[Threat]", mark: str) -> Compared:
    """A score on a threat, or its means over several."""
    found = [one for threat in threats if (one := detection_of(threat, name)) is not None]
    return Compared(_mean([one["tpr_at_5_fpr"] for one in found]), _mean([one["auroc"] for one in found]), mark)


def _mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """The mean, within the mean bounds at least as often as each is within its own: by Minkowski's inequality."""
    return Estimate(*(float(value) for value in np.mean(estimates, axis=0))) if estimates else None
