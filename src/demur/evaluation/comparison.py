"""What differs beyond chance: simpler scores from the guard's, and corrected answers from the classifier's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from demur.metrics import Lead, ScoreEvaluation, holm, mcnemar
from demur.wording import percent

if TYPE_CHECKING:
    from demur.evaluation.result import Clean, Evaluation, Threat

OWN = "demur"
"""The name of the detector's own score among those of the baselines."""
FEWEST = 10
"""Successful rows from which a threat is named as the extreme of several: of fewer, chance picks it."""


@dataclass(frozen=True)
class Difference:
    """A figure of a baseline that differs from that of the guard's score beyond chance."""

    threat: "Threat"
    baseline: str
    figure: str
    """Of `demur.metrics.COMPARED`."""
    lead: Lead

    @property
    def said(self) -> str:
        """The two figures, the baseline's first: "70 % instead of 60 %"."""
        both = (self.threat.detection[name]["successful"] for name in (self.baseline, OWN))
        one, other = (found[self.figure].value for found in both if found is not None)  # type: ignore[literal-required]
        if self.figure == "auroc":
            return f"AUROC {one:.3f} instead of {other:.3f}"
        return f"{percent(one)} instead of {percent(other)}"


def detection_of(threat: "Threat", name: str) -> ScoreEvaluation | None:
    """How well a score tells what fooled the classifier."""
    return threat.detection.get(name, {}).get("successful")


def compared(evaluation: "Evaluation") -> "tuple[list[Threat], list[str]]":
    """The threats on which scores can be compared, and the names of the baselines."""
    threats = [threat for threat in evaluation.of_interest if detection_of(threat, OWN) is not None]
    return threats, list(dict.fromkeys(name for t in threats for name in t.detection if name != OWN))


def tests_made(evaluation: "Evaluation") -> int:
    """How many figures of baselines were tested against those of the guard's score."""
    return sum(len(figures) for threat in evaluation.threats for figures in threat.leads.values())


def differences(evaluation: "Evaluation") -> list[Difference]:
    """Where a baseline does better or worse than the guard's score, not by chance: by the paired bootstrap.

    Of all the tests, the chance of any false finding is at most 5 % (Holm).
    """
    every = [
        Difference(threat, baseline, figure, lead)
        for threat in evaluation.threats
        for baseline, figures in threat.leads.items()
        for figure, lead in figures.items()
    ]
    return [one for one, is_real in zip(every, holm([one.lead.p for one in every]), strict=True) if is_real]


def correction_p(of: "Threat | Clean") -> float | None:
    """The p-value of what correction changes, by McNemar's test; None where it was not counted."""
    return None if of.repaired is None or of.spoiled is None else mcnemar(of.repaired, of.spoiled)


def corrections(evaluation: "Evaluation") -> "list[Threat]":
    """Threats under which correction changes how many answers are right, not by chance: by McNemar's test, and Holm."""
    counted = [(threat, p) for threat in evaluation.threats if (p := correction_p(threat)) is not None]
    return [one for (one, _), is_real in zip(counted, holm([p for _, p in counted]), strict=True) if is_real]


def telling(threats: "Sequence[Threat]") -> "list[Threat]":
    """Those that succeeded on at least ten rows; all, if none did."""
    return [threat for threat in threats if sum(threat.successful) >= FEWEST] or list(threats)
