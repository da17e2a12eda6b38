"""What stands in the tables of a report: threats grouped, corruptions by severity, scores compared."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from demur.calibration.metrics import Estimate
from demur.evaluation.comparison import compared, detection_of, differences
from demur.evaluation.result import OWN, Evaluation, Threat

KNOWLEDGE = {
    "grey-box": "Grey-box",
    "black-box": "Black-box",
    "white-box": "White-box, adaptive",
    "corruption": "Corruptions",
}


class Attack(NamedTuple):
    """All strengths of one attack or corruption."""

    name: str
    model: str
    """The threat model, where it is not the group's."""
    threats: list[Threat]


class Group(NamedTuple):
    """All attacks of one knowledge."""

    knowledge: str
    heading: str
    meaning: str
    """The threat model of most of the attacks."""
    attacks: list[Attack]


class Matrix(NamedTuple):
    """Corruptions by severity; None where a severity was not tried."""

    severities: list[float]
    rows: list[tuple[str, list[Threat | None]]]


class Compared(NamedTuple):
    """One score on one threat, or the means over several threats."""

    tpr: Estimate | None
    auroc: Estimate | None
    mark: str
    """BETTER or WORSE than the guard's AUROC, beyond chance; "" for neither."""


class Row(NamedTuple):
    """All scores on one threat, or the means over several threats."""

    title: str
    knowledge: str
    threats: int
    rows: int
    """How many inputs fooled the classifier."""
    cells: list[Compared]
    kind: str
    """"all" where the row holds the means of a knowledge."""


def groups(threats: Sequence[Threat]) -> list[Group]:
    """Threats by what the attacker knows, and by name; each in the order in which they come."""
    found = []
    for knowledge, heading in KNOWLEDGE.items():
        chosen = [threat for threat in threats if threat.knowledge == knowledge]
        if chosen:
            kinds = dict.fromkeys((threat.name, threat.model) for threat in chosen)
            usual = Counter(model for _, model in kinds).most_common(1)[0][0]
            attacks = [
                Attack(name, "" if model == usual else model, [t for t in chosen if (t.name, t.model) == (name, model)])
                for name, model in kinds
            ]
            found.append(Group(knowledge, heading, usual, attacks))
    return found


def matrix(threats: Sequence[Threat]) -> Matrix:
    """The corruptions that have a severity."""
    found = {(t.name, t.strength): t for t in threats if t.knowledge == "corruption" and t.strength is not None}
    severities = sorted({strength for _, strength in found if strength is not None})
    names = dict.fromkeys(name for name, _ in found)
    return Matrix(severities, [(name, [found.get((name, severity)) for severity in severities]) for name in names])


def comparison(evaluation: Evaluation) -> tuple[list[str], list[Row], list[Row]]:
    """How much of what succeeded each score would catch.

    Returns:
        The names of the scores, the guard's first; for each knowledge a row for each attack, or for the mean of each
        corruption over its severities, and a row for the mean of all; and a row for each severity of each corruption.
    """
    threats, baselines = compared(evaluation)
    names = [OWN, *baselines]
    if not baselines:
        return names, [], []
    marks, rows = differences(evaluation), []

    def cell(name: str, over: str, several: Sequence[Threat]) -> Compared:
        found = [one for threat in several if (one := detection_of(threat, name)) is not None]
        means = _mean([one["tpr_at_5_fpr"] for one in found]), _mean([one["auroc"] for one in found])
        return Compared(*means, marks.get((over, name), ""))

    def row(title: str, over: str, several: Sequence[Threat], kind: str = "") -> Row:
        cells = [cell(name, over, several) for name in names]
        return Row(title, several[0].knowledge, len(several), sum(sum(t.successful) for t in several), cells, kind)

    for knowledge, heading in KNOWLEDGE.items():
        chosen = [threat for threat in threats if threat.knowledge == knowledge]
        kinds = dict.fromkeys(threat.name if knowledge == "corruption" else threat.title for threat in chosen)
        rows += [row(kind, kind, [t for t in chosen if kind in (t.name, t.title)]) for kind in kinds]
        if len(kinds) > 1:
            rows.append(row(heading, knowledge, chosen, "all"))
    return names, rows, [row(t.title, t.title, [t]) for t in threats if t.knowledge == "corruption"]


def _mean(estimates: Sequence[Estimate]) -> Estimate | None:
    """The mean; by Minkowski's inequality it lies within the mean bounds as often as each value within its own."""
    return Estimate(*(float(value) for value in np.mean(estimates, axis=0))) if estimates else None
