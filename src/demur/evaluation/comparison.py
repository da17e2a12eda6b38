"""What differs beyond chance: simpler scores from the guard's, and corrected answers from the classifier's."""

from collections.abc import Sequence

from demur.calibration.metrics import ScoreEvaluation, holm, mcnemar
from demur.evaluation.result import OWN, Clean, Evaluation, Threat

RIGHT_ROWS = "test rows and labels are what they are taken for"
"""The sanity check that fails where `WrongRows` is warned of."""
BETTER, WORSE = "better", "worse"
FEWEST = 10
"""Successful rows that a threat needs to be named as the extreme of several: of fewer rows, chance picks it."""


def detection_of(threat: Threat, name: str) -> ScoreEvaluation | None:
    """How well a score tells the rows that fooled the classifier."""
    return threat.detection.get(name, {}).get("successful")


def compared(evaluation: Evaluation) -> tuple[list[Threat], list[str]]:
    """The threats on which scores can be compared, and the names of the baselines."""
    threats = [threat for threat in evaluation.of_interest if detection_of(threat, OWN) is not None]
    return threats, list(dict.fromkeys(name for t in threats for name in t.detection if name != OWN))


def differences(evaluation: Evaluation) -> dict[tuple[str, str], str]:
    """By what was compared and baseline, whether the baseline is better or worse than the guard's score.

    By DeLong's test, with at most 5 % chance of any false finding (Holm).
    """
    every = evaluation.comparisons
    return {
        (one.over, one.baseline): BETTER if one.lead.value > 0 else WORSE
        for one, is_real in zip(every, holm([one.lead.p for one in every]), strict=True)
        if is_real
    }


def correction_p(of: Threat | Clean) -> float | None:
    """The p-value of what correction changes, by McNemar's test; None in files of earlier versions."""
    return None if of.repaired is None or of.spoiled is None else mcnemar(of.repaired, of.spoiled)


def corrections(evaluation: Evaluation) -> dict[int, str]:
    """By the id of a threat, whether correction leaves more or fewer answers right.

    By McNemar's test, with at most 5 % chance of any false finding (Holm).
    """
    counted = [(threat, p) for threat in evaluation.threats if (p := correction_p(threat)) is not None]
    return {
        id(threat): BETTER if threat.corrected.value > threat.accuracy.value else WORSE
        for (threat, _), is_real in zip(counted, holm([p for _, p in counted]), strict=True)
        if is_real
    }


def telling(threats: Sequence[Threat]) -> list[Threat]:
    """The threats that succeeded on at least ten rows; all threats if none did."""
    return [threat for threat in threats if sum(threat.successful) >= FEWEST] or list(threats)
