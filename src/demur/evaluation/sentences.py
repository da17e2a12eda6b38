"""An evaluation in plain words, the worst first, and a table of the main figures."""

from collections.abc import Iterable, Iterator

from demur.calibration.words import NONE, among, count, in_short, interval, listed, percent, percentage
from demur.errors import WrongType
from demur.evaluation.comparison import (
    BETTER,
    RIGHT_ROWS,
    WORSE,
    compared,
    correction_p,
    corrections,
    detection_of,
    differences,
    telling,
)
from demur.evaluation.result import OWN, Evaluation, Threat

ATTACKERS = {
    "white-box": "An attacker who knows the classifier and the guard",
    "grey-box": "An attacker who knows the classifier, but not the guard,",
    "black-box": "An attacker who sees the classifier's answers only",
}
KINDS = {
    "grey-box": "grey-box attack",
    "black-box": "black-box attack",
    "white-box": "white-box attack",
    "corruption": "corruption",
}
"""What threats of each knowledge are called; of a corruption, each severity counts."""
MOST = 3
"""Things named in one sentence."""
LEVEL = 0.05
"""Below this, a p-value speaks against chance."""


def sentences(evaluation: Evaluation) -> list[str]:
    """Say in sentences what an evaluation found.

    What gets through comes first, then what may flatter the figures, then false alarms, what is caught, corruption,
    what correction does, which baselines do better, and what was left out.

    Examples:
        >>> len(sentences(evaluation)) > 2
        True
    """
    if not hasattr(evaluation, "of_interest"):
        raise WrongType(
            f"a report is written of an Evaluation, as demur.evaluate returns it or Evaluation.from_json reads it; got "
            f"{type(evaluation).__name__}"
        )
    parts = (_through, _doubts, _unchanged, _caught, _corruptions, _corrections, _baselines)
    void = [check.detail for check in evaluation.checks if check.name == RIGHT_ROWS and not check.passed]
    notes = "; ".join(map(in_short, evaluation.notes))
    return [
        *(f"All figures are void until this is explained: {detail[0].lower()}{detail[1:]}" for detail in void),
        *(sentence for part in parts for sentence in part(evaluation)),
        *([f"Left out or cut short: {notes}."] if notes else []),
    ]


def _through(evaluation: Evaluation) -> Iterator[str]:
    """What the strongest attackers get through: the worst of all, and the worst who knows the guard."""
    attacks = [t for t in evaluation.of_interest if t.knowledge in ATTACKERS and t.attempted]
    knowing = [t for t in attacks if t.knowledge == "white-box"]
    if not knowing:
        yield (
            "No attacker who knows the guard was tried: such an attacker may get more through than anything "
            "in this report."
        )
    worst = [max(group, key=lambda t: t.broken) for group in (attacks, knowing) if group]
    for threat in {id(threat): threat for threat in worst}.values():
        n = threat.attempted
        accepted, wrong = round(threat.accepted_and_wrong.value * n), round(threat.corrected_to_wrong.value * n)
        through = accepted + wrong
        got = f"{ATTACKERS[threat.knowledge]} gets {among(through, n, 'input')}{_in_percent(n, through)} through with"
        how = f": {accepted:,} unflagged and wrong, {wrong:,} flagged and then given a wrong class" if through else ""
        yield f"{got} {threat.title}{how}."
    known = [case for case in evaluation.worst_cases if case.knowledge == "white-box" and not case.for_the_curve]
    cases = [case for case in known if len(case.attacks) > 1]
    if cases:
        case = min(cases, key=lambda c: c.corrected.value)
        strength = "" if case.strength is None else f" {case.strength:.3g}"
        yield (
            f"If an attacker who knows the guard picks for each input the worst of "
            f"{count(len(case.attacks), 'attack')} ({case.norm}{strength}), {percent(case.corrected.value)} of the "
            "corrected answers are right."
        )


def _doubts(evaluation: Evaluation) -> Iterator[str]:
    """What may make the figures look better than they are."""
    checks = evaluation.checks
    failed = [check.name for check in checks if check.passed is False]
    unmade = sum(check.passed is None for check in checks)
    if failed:
        others = f"; {unmade} could not be made" if unmade else ""
        yield (
            f"{among(len(failed), len(checks), 'sanity check').capitalize()} failed, so take all figures for too good "
            f"until that is explained. It should hold that {listed(failed)}{others}."
        )
    elif unmade:
        yield f"{among(unmade, len(checks), 'sanity check').capitalize()} could not be made."
    if not checks:
        yield "No sanity check was made of the attacks: they may be weaker than they should be."
    short = [threat.title for threat in evaluation.threats if threat.converged is False]
    if short:
        yield (
            f"{count(len(short), 'attack')} had not converged at the end ({listed(short)}): with more steps "
            f"{'it' if len(short) == 1 else 'they'} may get more through."
        )


def _unchanged(evaluation: Evaluation) -> Iterator[str]:
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
    else:
        chance = ", and chance alone explains the difference" if clean.fpr.value > promised else ""
        yield f"{sentence}; at most {percent(promised)} was promised{chance}."
    before, after, p = percent(clean.accuracy.value), percent(clean.corrected.value), correction_p(clean)
    chance = ", which chance alone explains" if p is not None and p > LEVEL else ""
    if before == after:
        yield f"On these the classifier is right on {before}, with correction and without."
    else:
        does = "leaves" if clean.corrected.value < clean.accuracy.value else "raises that to"
        yield f"On these the classifier alone is right on {before}; correction {does} {after}{chance}."


def _caught(evaluation: Evaluation) -> Iterator[str]:
    """For each kind of attacker, the attacks that are caught least and most."""
    alarms = percent(evaluation.clean.fpr.value)

    def share(threat: Threat) -> str:
        n, k = _counts(threat)
        return among(k, n, f"{threat.title} attack")

    for knowledge, who in ATTACKERS.items():
        threats = telling([t for t in evaluation.of_interest if t.knowledge == knowledge and t.flagged is not None])
        if threats:
            least, most = min(threats, key=_flagged), max(threats, key=_flagged)
            caught = f"{share(least)} that fooled the classifier{_in_percent(*_counts(least))}"
            if _flagged(most) > _flagged(least):
                caught += f", the least of {len(threats)}, and {share(most)}{_in_percent(*_counts(most))}, the most"
            elif len(threats) > 1:
                caught += f", and no larger share of {count(len(threats) - 1, 'other attack')}"
            against = f"Against {who[0].lower()}{who[1:].rstrip(',')}"
            yield f"{against}, the guard catches {caught}, at {alarms} false alarms."
    idle = [threat.title for threat in evaluation.of_interest if threat.flagged is None]
    if idle:
        yield f"{count(len(idle), 'threat')} never fooled the classifier: there was nothing to catch ({listed(idle)})."


def _flagged(threat: Threat) -> float:
    return threat.flagged.value if threat.flagged is not None else 0.0


def _counts(threat: Threat) -> tuple[int, int]:
    """On how many rows an attack succeeded, and how many of these are flagged."""
    n = sum(threat.successful)
    return n, round(_flagged(threat) * n)


def _in_percent(n: int, k: int) -> str:
    return f" ({percent(k / n)})" if 0 < k < n else ""


def _corruptions(evaluation: Evaluation) -> Iterator[str]:
    threats = [t for t in evaluation.of_interest if t.knowledge == "corruption" and t.flagged is not None]
    if not threats:
        return
    n, k = (sum(several) for several in zip(*map(_counts, threats), strict=True))
    names = len({threat.name for threat in threats})
    flagged = "all" if k == n else f"{k:,}" if k else "none"
    sentence = (
        f"{count(names, 'corruption').capitalize()} turned {count(n, 'right prediction')} wrong, "
        f"of which the guard flags {flagged}{_in_percent(n, k)}"
    )
    least = min(telling(threats), key=_flagged)
    if k < n and len(threats) > 1:
        sentence += f", least of {least.title} ({_counts(least)[1]} of {_counts(least)[0]})"
    areas = [t.harm.auroc.value for t in telling(threats) if t.harm.auroc is not None]
    if areas:
        found = f"{min(areas):.2f}" + (f" to {max(areas):.2f}" if len(areas) > 1 else "")
        sentence += f"; its score tells harmful corruption from harmless with an AUROC of {found}"
    yield f"{sentence}."


def _corrections(evaluation: Evaluation) -> Iterator[str]:
    """Under which threats correction changes how many answers are right, beyond chance."""
    threats = evaluation.of_interest
    if not threats:
        return
    if any(threat.repaired is None for threat in threats):
        yield "Whether correction pays was not tested: the evaluation is from an earlier demur."
        return
    changed = corrections(evaluation)
    worse = [t for t in threats if changed.get(id(t)) == WORSE]
    worse.sort(key=lambda t: t.corrected.value - t.accuracy.value)
    better = sum(changed.get(id(t)) == BETTER for t in threats)
    rest = len(threats) - len(worse) - better
    test = "McNemar's test on the same rows, at 5 % after Holm's correction"
    if rest == len(threats):
        yield (
            "Correction leaves about as many answers right as the classifier alone: under "
            f"{among(rest, rest, 'threat')} chance explains the difference ({test})."
        )
        return
    named = [f"{t.title}: {percent(t.corrected.value)} instead of {percent(t.accuracy.value)}" for t in worse]
    parts = [f"more answers right than the classifier alone under {among(better, len(threats), 'threat')}"]
    parts += [f"fewer under {len(worse):,} ({listed(named)})"] if worse else []
    parts += [f"under the other {rest:,} chance explains the difference"] if rest else []
    yield f"Correction leaves {listed(parts)} ({test})."


def _baselines(evaluation: Evaluation) -> Iterator[str]:
    """Which baselines are better or worse than the guard's score, beyond chance, over all threats of each knowledge."""
    threats, names = compared(evaluation)
    if not names:
        yield "No simpler score was compared with the guard's."
        return
    found, parts = differences(evaluation), []
    for knowledge, noun in KINDS.items():
        several = [threat for threat in threats if threat.knowledge == knowledge]
        leads = {one.baseline: one.lead.value for one in evaluation.comparisons if one.over == knowledge}
        if leads and several:
            own = sum(one["auroc"].value for t in several if (one := detection_of(t, OWN)) is not None) / len(several)
            better = [name for name in leads if found.get((knowledge, name)) == BETTER]
            better.sort(key=lambda name: -leads[name])
            worse = sum(found.get((knowledge, name)) == WORSE for name in leads)
            which = listed([f"{name} ({own + leads[name]:.3f})" for name in better] or ["no simpler score"], MOST)
            evade = f", which {'evade' if len(several) > 1 else 'evades'} the guard's score alone,"
            parts.append(
                f"over {count(len(several), noun)}{evade if knowledge == 'white-box' else ''} {which} "
                f"{'tell' if len(better) > 1 else 'tells'} more than the guard's (AUROC {own:.3f}), "
                f"and {worse} of {len(leads)} less"
            )
    if parts:
        yield f"Beyond chance, {'; '.join(parts)} (DeLong's test on the same rows, at 5 % after Holm's correction)."
    else:
        yield "Whether a simpler score does better was not tested: the evaluation is from an earlier demur."


def main_figures(evaluation: Evaluation) -> list[list[str]]:
    """The table of a summary, heads first: each attack at the strength asked for, and each corruption."""
    threats, clean = evaluation.of_interest, evaluation.clean
    rows = [_figures(threat.title, [threat]) for threat in threats if threat.knowledge != "corruption"]
    names = dict.fromkeys(threat.name for threat in threats if threat.knowledge == "corruption")
    rows += [_figures(name, [threat for threat in threats if threat.name == name]) for name in names]
    unchanged = [percentage(estimate.value) for estimate in (clean.accuracy, clean.corrected, clean.fpr)]
    heads = ["", "rows", "alone %", "guarded %", "flagged %", "AUROC"]
    return [heads, ["unchanged", f"{evaluation.rows:,}", *unchanged, ""], *rows]


def _figures(title: str, threats: list[Threat]) -> list[str]:
    """A row of the table: of a threat, or the means over several severities."""

    def mean(values: Iterable[float]) -> float | None:
        found = list(values)
        return sum(found) / len(found) if found else None

    shares = [
        mean(threat.accuracy.value for threat in threats),
        mean(threat.corrected.value for threat in threats),
        mean(threat.flagged.value for threat in threats if threat.flagged is not None),
    ]
    areas = mean(found["auroc"].value for threat in threats if (found := detection_of(threat, OWN)) is not None)
    rows, severities = max(threat.rows for threat in threats), f", mean of {len(threats)}" if len(threats) > 1 else ""
    cells = [NONE if share is None else percentage(share) for share in shares]
    return [f"{title}{severities}", f"{rows:,}", *cells, NONE if areas is None else f"{areas:.3f}"]
