"""What stands in the tables of a report: threats grouped, corruptions by severity, scores compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from demur.evaluation.comparison import OWN
from demur.wording import percent

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation, Threat
    from demur.metrics import ScoreEvaluation

KNOWLEDGE = {
    "grey-box": ("Grey-box", "the attacker knows the classifier, and not the guard"),
    "black-box": ("Black-box", "the attacker sees the classifier's answers only"),
    "white-box": ("White-box, adaptive", "the attack is on the guarded classifier"),
    "corruption": ("Corruptions", "there is no attacker"),
}


@dataclass(frozen=True)
class Attack:
    """All strengths of one attack or corruption."""

    name: str
    model: str
    threats: "list[Threat]"


@dataclass(frozen=True)
class Group:
    """All attacks of one knowledge."""

    knowledge: str
    heading: str
    meaning: str
    shared: bool
    """Whether one sentence, the meaning, says of all attacks what the attacker knows."""
    attacks: list[Attack]


@dataclass(frozen=True)
class Matrix:
    """Corruptions by severity; None where there is none of a severity."""

    severities: list[float]
    rows: "list[tuple[str, list[Threat | None]]]"


@dataclass(frozen=True)
class Compared:
    """One score on one threat."""

    tpr: float | None
    auroc: float | None
    best: bool


@dataclass(frozen=True)
class Row:
    """All scores on one threat, or the means of several."""

    title: str
    knowledge: str
    threats: int
    cells: list[Compared]


@dataclass(frozen=True)
class Better:
    """A baseline that does better than the guard on a threat."""

    threat: "Threat"
    baseline: str
    difference: str
    gain: float


def groups(threats: "Sequence[Threat]") -> list[Group]:
    """Threats by what the attacker knows, and by name; each in the order in which they come."""
    found = []
    for knowledge, (heading, meaning) in KNOWLEDGE.items():
        chosen = [threat for threat in threats if threat.knowledge == knowledge]
        kinds = dict.fromkeys((threat.name, threat.model) for threat in chosen)
        attacks = [
            Attack(*kind, [threat for threat in chosen if (threat.name, threat.model) == kind]) for kind in kinds
        ]
        models = {attack.model for attack in attacks}
        if attacks:
            shared = len(models) == 1
            found.append(Group(knowledge, heading, models.pop() if shared else meaning, shared, attacks))
    return found


def matrix(threats: "Sequence[Threat]") -> Matrix:
    """Corruptions that have a severity."""
    found = {(t.name, t.strength): t for t in threats if t.knowledge == "corruption" and t.strength is not None}
    severities = sorted({strength for _, strength in found if strength is not None})
    names = dict.fromkeys(name for name, _ in found)
    return Matrix(severities, [(name, [found.get((name, severity)) for severity in severities]) for name in names])


def compared(evaluation: "Evaluation") -> "tuple[list[Threat], list[str]]":
    """The threats on which scores can be compared, and the names of the baselines."""
    threats = [threat for threat in evaluation.of_interest if _found(threat, OWN) is not None]
    return threats, list(dict.fromkeys(name for t in threats for name in t.detection if name != OWN))


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
    attacks = [_row(t.title, [t], names) for t in threats if t.knowledge != "corruption"]
    corruptions = [threat for threat in threats if threat.knowledge == "corruption"]
    kinds = dict.fromkeys(threat.name for threat in corruptions)
    means = [_row(kind, [threat for threat in corruptions if threat.name == kind], names) for kind in kinds]
    return names, attacks + means, [_row(threat.title, [threat], names) for threat in corruptions]


def better_baselines(evaluation: "Evaluation") -> list[Better]:
    """On which threats a baseline has a higher AUROC, or catches more at 5 % false alarms; the clearest first."""
    threats, names = compared(evaluation)
    found = []
    for threat in threats:
        ahead = [better for name in names if (better := _better(threat, name)) is not None]
        if ahead:
            found.append(max(ahead, key=lambda better: better.gain))
    return sorted(found, key=lambda better: -better.gain)


def _found(threat: "Threat", name: str) -> "ScoreEvaluation | None":
    return threat.detection.get(name, {}).get("successful")


def _row(title: str, threats: "Sequence[Threat]", names: Sequence[str]) -> Row:
    """One row, of one threat or of the means of several."""
    found = [[one for threat in threats if (one := _found(threat, name)) is not None] for name in names]
    rates = [float(np.mean([one["tpr_at_5_fpr"].value for one in several])) if several else None for several in found]
    areas = [float(np.mean([one["auroc"].value for one in several])) if several else None for several in found]
    # Shares that are shown alike are alike: the best is marked by what can be read.
    shown = [None if rate is None else round(rate, 3) for rate in rates]
    best = max(rate for rate in shown if rate is not None)
    cells = [Compared(*three) for three in zip(rates, areas, [rate == best for rate in shown], strict=True)]
    return Row(title, threats[0].knowledge, len(threats), cells)


def _better(threat: "Threat", name: str) -> Better | None:
    own, other = _found(threat, OWN), _found(threat, name)
    if own is None or other is None:
        return None
    one, two = own["tpr_at_5_fpr"].value, other["tpr_at_5_fpr"].value
    if two > one:
        return Better(threat, name, f"{percent(two)} instead of {percent(one)}", two - one)
    area, larger = own["auroc"].value, other["auroc"].value
    if larger > area:
        return Better(threat, name, f"AUROC {larger:.3f} instead of {area:.3f}", larger - area)
    return None
