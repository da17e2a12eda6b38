"""An evaluation in plain words: the worst first, and what was left out."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from demur.errors import WrongType
from demur.report.tables import better_baselines, compared
from demur.report.wording import among, be, count, interval, listed, percent

if TYPE_CHECKING:
    from demur.evaluation.result import Evaluation, Threat

ATTACKERS = {
    "white-box": "An attacker who knows the classifier and the guard",
    "grey-box": "An attacker who knows the classifier, but not the guard,",
    "black-box": "An attacker who sees the classifier's answers only",
}
MOST = 3
"""Things named in one sentence."""


def summary(evaluation: "Evaluation") -> list[str]:
    """Say in sentences what an evaluation found.

    What gets through comes first, then what may flatter the figures, then false alarms, what is caught, corruption,
    what correction does, which baselines do better, and what was left out.

    Examples:
        >>> len(summary(evaluation)) > 2
        True
    """
    if not hasattr(evaluation, "of_interest"):
        raise WrongType(
            f"a report is written of an Evaluation, as demur.evaluate returns it or Evaluation.from_json reads it; got "
            f"{type(evaluation).__name__}"
        )
    parts: tuple[Callable[[Evaluation], Iterator[str]], ...] = (
        _through,
        _doubts,
        _unchanged,
        _caught,
        _corruptions,
        _corrections,
        _baselines,
        _left_out,
    )
    return [sentence for part in parts for sentence in part(evaluation)]


def _through(evaluation: "Evaluation") -> Iterator[str]:
    """What the strongest attackers get through: the worst of all, and the worst who knows the guard."""
    attacks = [t for t in evaluation.of_interest if t.knowledge in ATTACKERS and t.attempted]
    knowing = [t for t in attacks if t.knowledge == "white-box"]
    if not knowing:
        yield (
            "No attacker who knows the guard was tried: such an attacker may get more through than anything "
            "in this report."
        )
    worst = [max(group, key=lambda t: t.broken) for group in (attacks, knowing) if group]
    for threat in dict.fromkeys(map(id, worst)):
        yield _got_through(next(t for t in worst if id(t) == threat))
    cases = [
        case
        for case in evaluation.worst_cases
        if case.knowledge == "white-box" and len(case.attacks) > 1 and not case.for_the_curve
    ]
    if cases:
        case = min(cases, key=lambda c: c.corrected.value)
        strength = "" if case.strength is None else f" {case.strength:.3g}"
        yield (
            f"If an attacker who knows the guard picks for each input the worst of "
            f"{count(len(case.attacks), 'attack')} ({case.norm}{strength}), {percent(case.corrected.value)} of the "
            "corrected answers are right."
        )


def _got_through(threat: "Threat") -> str:
    n = threat.attempted
    accepted, wrong = round(threat.accepted_and_wrong.value * n), round(threat.corrected_to_wrong.value * n)
    through = accepted + wrong
    share = f" ({percent(through / n)})" if 0 < through < n else ""
    sentence = f"{ATTACKERS[threat.knowledge]} gets {among(through, n, 'input')}{share} through with {threat.title}"
    if not through:
        return f"{sentence}."
    return f"{sentence}: {accepted:,} unflagged and wrong, {wrong:,} flagged and then given a wrong class."


def _doubts(evaluation: "Evaluation") -> Iterator[str]:
    """What may make the figures look better than they are."""
    failed = [check.name for check in evaluation.checks if check.passed is False]
    unmade = sum(check.passed is None for check in evaluation.checks)
    if failed:
        which = f"{among(len(failed), len(evaluation.checks), 'sanity check').capitalize()} failed ({listed(failed)})"
        others = f"; {unmade} could not be made" if unmade else ""
        yield f"{which}: until that is explained, take all figures for too good{others}."
    elif unmade:
        yield f"{among(unmade, len(evaluation.checks), 'sanity check').capitalize()} could not be made."
    if not evaluation.checks:
        yield "No sanity check was made of the attacks: they may be weaker than they should be."
    short = [threat.title for threat in evaluation.threats if threat.converged is False]
    if short:
        yield (
            f"{count(len(short), 'attack')} had not converged at the end ({listed(short)}): with more steps "
            f"{'it' if len(short) == 1 else 'they'} may get more through."
        )


def _unchanged(evaluation: "Evaluation") -> Iterator[str]:
    """False alarms, measured and promised, and accuracy without any attack."""
    clean, promised = evaluation.clean, evaluation.promised_fpr
    alarms = round(clean.fpr.value * evaluation.rows)
    sentence = (
        f"Of {count(evaluation.rows, 'unchanged input')} the guard flags {alarms or 'none'}: a false-alarm rate of "
        f"{percent(clean.fpr.value)} (95 % interval {interval(clean.fpr)})"
    )
    if promised is None:
        yield f"{sentence}; none was promised with this threshold."
    elif clean.fpr.low > promised:
        yield f"{sentence}, although at most {percent(promised)} was promised: the promise is broken on these inputs."
    elif clean.fpr.value > promised:
        yield f"{sentence}; at most {percent(promised)} was promised, and chance alone explains the difference."
    else:
        yield f"{sentence}; at most {percent(promised)} was promised."
    before, after = percent(clean.accuracy.value), percent(clean.corrected.value)
    if clean.corrected.value < clean.accuracy.value:
        yield f"On these the classifier alone is right on {before}; correction costs accuracy and leaves {after}."
    elif clean.corrected.value > clean.accuracy.value:
        yield f"On these the classifier alone is right on {before}; correction raises that to {after}."
    else:
        yield f"On these the classifier is right on {before}, with correction and without."


def _caught(evaluation: "Evaluation") -> Iterator[str]:
    """For each kind of attacker, the attack of which least is caught and the one of which most is."""
    alarms = percent(evaluation.clean.fpr.value)
    for knowledge, who in ATTACKERS.items():
        threats = [t for t in evaluation.of_interest if t.knowledge == knowledge and t.flagged is not None]
        if not threats:
            continue
        least, most = min(threats, key=_flagged), max(threats, key=_flagged)
        caught = f"{_some(least)} that fooled the classifier{_in_percent(*_counts(least))}"
        if _flagged(most) > _flagged(least):
            caught += f", the least of {len(threats)}, and {_some(most)}{_in_percent(*_counts(most))}, the most"
        elif len(threats) > 1:
            caught += f", and no larger share of {count(len(threats) - 1, 'other attack')}"
        yield f"Against {who[0].lower()}{who[1:].rstrip(',')}, the guard catches {caught}, at {alarms} false alarms."
    idle = [t.title for t in evaluation.of_interest if t.flagged is None]
    if idle:
        yield f"{listed(idle)} never fooled the classifier: there was nothing to catch."


def _some(threat: "Threat") -> str:
    n, k = _counts(threat)
    return among(k, n, f"{threat.title} attack")


def _flagged(threat: "Threat") -> float:
    return threat.flagged.value if threat.flagged is not None else 0.0


def _counts(threat: "Threat") -> tuple[int, int]:
    """On how many rows an attack succeeded, and how many of these are flagged."""
    n = sum(threat.successful)
    return n, round(_flagged(threat) * n)


def _in_percent(n: int, k: int) -> str:
    return f" ({percent(k / n)})" if 0 < k < n else ""


def _corruptions(evaluation: "Evaluation") -> Iterator[str]:
    threats = [t for t in evaluation.of_interest if t.knowledge == "corruption" and t.flagged is not None]
    if not threats:
        return
    n, k = (sum(several) for several in zip(*map(_counts, threats), strict=True))
    names = len({threat.name for threat in threats})
    areas = [t.harm.auroc.value for t in threats if t.harm.auroc is not None]
    flagged = "all" if k == n else f"{k:,}" if k else "none"
    sentence = (
        f"{count(names, 'corruption').capitalize()} turned {count(n, 'right prediction')} wrong, "
        f"of which the guard flags {flagged}{_in_percent(n, k)}"
    )
    least = min(threats, key=_flagged)
    if k < n and len(threats) > 1:
        sentence += f", least of {least.title} ({percent(_flagged(least))})"
    if areas:
        found = f"{min(areas):.2f}" + (f" to {max(areas):.2f}" if len(areas) > 1 else "")
        sentence += f"; its score tells harmful corruption from harmless with an AUROC of {found}"
    yield f"{sentence}."


def _corrections(evaluation: "Evaluation") -> Iterator[str]:
    threats = evaluation.of_interest
    if not threats:
        return
    worse = sorted(
        (t for t in threats if t.corrected.value < t.accuracy.value), key=lambda t: t.corrected.value - t.accuracy.value
    )
    if worse:
        named = [f"{t.title}: {percent(t.corrected.value)} instead of {percent(t.accuracy.value)}" for t in worse]
        yield (
            f"Correction leaves fewer answers right than the classifier alone under "
            f"{among(len(worse), len(threats), 'threat')} ({listed(named)})."
        )
    else:
        yield (
            "Correction leaves no fewer answers right than the classifier alone under "
            f"{among(len(threats), len(threats), 'threat')}."
        )


def _baselines(evaluation: "Evaluation") -> Iterator[str]:
    """Where a simpler score does better, by AUROC or by what is caught at 5 % false alarms."""
    threats, names = compared(evaluation)
    if not names:
        yield "No simpler score was compared with the guard's."
        return
    better = better_baselines(evaluation)
    if not better:
        yield f"None of {count(len(names), 'simpler score')} does better than the guard's on any threat."
        return
    named = [f"{one.baseline} on {one.threat.title} ({one.difference})" for one in better]
    yield (
        f"A simpler score does better than the guard's on {among(len(better), len(threats), 'threat')}, by what it "
        f"catches at 5 % false alarms or by AUROC: {listed(named, MOST)}."
    )


def _left_out(evaluation: "Evaluation") -> Iterator[str]:
    for note in evaluation.notes[:MOST]:
        yield f"Left out or cut short: {note.strip().rstrip('.')}."
    more: Sequence[str] = evaluation.notes[MOST:]
    if more:
        yield f"{count(len(more), 'more note').capitalize()} of this kind {be(len(more))} at the end."
