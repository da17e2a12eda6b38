"""Sanity checks without which an evaluation proves little, after Carlini et al., 2019 (arXiv:1902.06705)."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from demur.calibration.thresholds import weighted
from demur.evaluation.outcomes import LATE, Outcome, Unchanged
from demur.evaluation.result import Check
from demur.evaluation.target import Array, Target

SLACK = 0.02
"""Share of the rows that chance may decide."""
LARGER = 1.2
"""How many times the change of DeepFool the change of Carlini and Wagner's attack may be."""


def iterative_beats_one_step(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """Many small steps do at least as well as one large step."""
    name = "iterative attacks are at least as strong as one-step attacks"
    pairs = [(one, many) for one in _named(outcomes, "FGSM") for many in _named(outcomes, "PGD")]
    pairs = [(one, many) for one, many in pairs if one.description.strength == many.description.strength]
    if not pairs:
        return Check(name, None, "Needs FGSM and PGD of the same budget among the attacks.")
    n = min(len(o.changed.rows) for o in pairs[0])
    single, several = (_rate(o.successful[:n], o.attempted[:n]) for o in pairs[0])
    return _check(
        name,
        several >= single - SLACK,
        f"FGSM succeeds on {_percent(single)} of the rows, PGD on {_percent(several)}, both against the classifier.",
        "Where one step does better, gradients are masked or PGD has too few steps.",
    )


def knowing_more_helps(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """An attacker who knows the guard does at least as well against the guard as an attacker who does not."""
    name = "white-box attacks are at least as strong as grey-box attacks"
    found = []
    for budget in dict.fromkeys(o.budget for o in outcomes if o.budget[1] is not None):
        same = [o for o in outcomes if o.budget == budget]
        groups = [[o for o in same if o.description.knowledge == who] for who in ("white-box", "grey-box")]
        if all(groups):
            n = min(len(o.changed.rows) for group in groups for o in group)
            attempted = groups[0][0].attempted[:n]
            more, less = (_rate(np.any([o.broken[:n] for o in group], axis=0), attempted) for group in groups)
            found.append((more - less, more, less, str(budget[0]), budget[1]))
    if not found:
        return Check(name, None, "Needs white-box and grey-box attacks of one norm and budget.")
    lead, knowing, not_knowing, norm, strength = min(found)
    return _check(
        name,
        lead >= -SLACK,
        f"At {norm} {strength:.3g}, attackers who know the guard defeat it on {_percent(knowing)} of the rows, "
        f"those who know the classifier alone on {_percent(not_knowing)}.",
        "The adaptive attacks are too weak: give them more steps.",
    )


def gradients_beat_guessing(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """With gradients, an attacker needs no larger changes than without."""
    name = "attacks with gradients are at least as strong as black-box attacks"
    smallest = [o for o in outcomes if o.description.strength is None]
    with_gradients, without = (
        [o for o in smallest if o.description.knowledge == knowledge] for knowledge in ("grey-box", "black-box")
    )
    distances = []
    for a, b in itertools.product(with_gradients, without):
        norm = str(a.description.norm)
        medians = _medians(a, b, norm) if a.description.norm == b.description.norm else None
        if medians is not None:
            distances.append((*medians, a.description.name, b.description.name, norm))
    if not distances:
        return Check(name, None, "Needs an attack with and one without gradients that look for the smallest change.")
    near, far, one_name, other_name, norm = min(distances)
    return _check(
        name,
        near <= far * (1 + SLACK),
        f"{one_name} needs a median change of {near:.3g} in {norm}, {other_name} of {far:.3g}.",
        "Where guessing does better, gradients are masked.",
    )


def smallest_changes_are_small(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """Carlini and Wagner's attack, which searches, needs no larger changes than DeepFool, which takes a few steps."""
    name = "Carlini-Wagner's changes are about as small as DeepFool's"
    pairs = [(a, b) for a in _named(outcomes, "C&W") for b in _named(outcomes, "DeepFool")]
    medians = [found for a, b in pairs if (found := _medians(a, b, "L2")) is not None]
    if not medians:
        return Check(name, None, "Needs C&W and DeepFool among the attacks, and rows on which both succeed.")
    ours, theirs = medians[0]
    return _check(
        name,
        ours <= LARGER * theirs,
        f"C&W needs a median change of {ours:.3g} in L2, DeepFool of {theirs:.3g}.",
        f"More than {LARGER:g} times as much: its search takes too few steps, or too large ones. Try "
        "CarliniWagner(steps=1000) of demur.evaluation.attacks.",
    )


def large_budgets_succeed(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """With a budget large enough, every row falls."""
    name = "accuracy falls to about 0 as the budget grows"
    pgd = _named(outcomes, "PGD")
    if len({o.description.strength for o in pgd}) < 2:
        return Check(name, None, "Needs PGD with several budgets.")
    norm, strength = max((o.budget for o in pgd), key=lambda budget: float(budget[1] or 0))
    curve = [o for o in outcomes if o.description.knowledge == "grey-box" and o.description.strength is not None]
    accuracy = min(float(o.right_alone.mean()) for o in curve if o.description.norm == norm)
    return _check(
        name,
        accuracy <= 0.05,
        f"The classifier's accuracy falls to {_percent(accuracy)} at budgets of up to {strength:.3g} in {norm}.",
        "Where a large budget fails, the attack does: gradients are masked, or the bounds are wrong.",
    )


def failures_do_not_count(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """A row that an attack left unchanged does not count as a success."""
    name = "failed attacks are not counted as successes"
    attacks = [o for o in outcomes if o.description.knowledge != "corruption"]
    if not attacks:
        return Check(name, None, "There are no attacks.")
    unchanged = {_title(o): int((o.attempted & (o.changed.distance["Linf"] == 0)).sum()) for o in attacks}
    counted = sum(int((o.successful & (o.changed.distance["Linf"] == 0)).sum()) for o in attacks)
    failed = ", ".join(f"{name} on {n}" for name, n in unchanged.items() if n)
    detail = f"Attacks that changed nothing: {failed or 'none'}; {counted} of these counted as a success."
    return Check(name, counted == 0, detail)


def attacks_converged(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """More steps would hardly have found more."""
    name = "the adaptive attacks converged"
    late = {_title(o): o.late for o in outcomes if o.late is not None}
    if not late:
        return Check(name, None, "Needs an adaptive attack.")
    most, share = max(late.items(), key=lambda one: one[1])
    rising = [title for title, share in late.items() if share > LATE]
    return _check(
        name,
        not rising,
        f"The last quarter of the steps brought the guard down on at most {_percent(share)} of the rows, by {most}.",
        f"Still finding more when they stopped, and so in need of more steps: {', '.join(rising)}.",
    )


def calibration_is_disjoint(target: Target, unchanged: Unchanged, **_: Any) -> Check:
    """The threshold is not tested on the rows that set it."""
    name = "calibration and test rows do not overlap"
    calibration = target.detector.calibration
    if calibration is None:
        return Check(name, None, "The threshold was given by hand, or is not from infer_threshold.")
    same = _shared(np.asarray(unchanged.verdict.score), *weighted(calibration.ordinary.values()))
    detail = f"{_percent(same)} of the test rows have, to the last digit, the score of a calibration row."
    return _check(name, same <= 0.1, detail, "Evaluate on rows that infer_threshold has not seen.")


CHECKS: tuple[Callable[..., Check], ...] = (
    calibration_is_disjoint,
    iterative_beats_one_step,
    knowing_more_helps,
    gradients_beat_guessing,
    smallest_changes_are_small,
    large_budgets_succeed,
    failures_do_not_count,
    attacks_converged,
)


def check_all(target: Target, unchanged: Unchanged, outcomes: Sequence[Outcome]) -> list[Check]:
    """Every check."""
    return [check(target=target, unchanged=unchanged, outcomes=outcomes) for check in CHECKS]


def _check(name: str, passed: bool, detail: str, hint: str) -> Check:
    """A check that was made; the hint is given where it failed."""
    return Check(name, passed, detail if passed else f"{detail} {hint}")


def _medians(one: Outcome, other: Outcome, norm: str) -> tuple[float, float] | None:
    """The median changes of two attacks, over the rows on which both succeed; None if there are none."""
    n = min(len(one.changed.rows), len(other.changed.rows))
    both = one.successful[:n] & other.successful[:n]
    if not both.any():
        return None
    ours, theirs = (float(np.median(o.changed.distance[norm][:n][both])) for o in (one, other))
    return ours, theirs


def _named(outcomes: Sequence[Outcome], name: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.description.name == name]


def _title(outcome: Outcome) -> str:
    name, strength = outcome.description.name, outcome.description.strength
    return name if strength is None else f"{name} {strength:.3g}"


def _rate(values: Array, among: Array) -> float:
    return float(np.asarray(values)[among].mean()) if among.any() else 0.0


def _shared(scores: Array, known: Array, counts: Array) -> float:
    """Share of the scores above 0 that are among the known ones; scores of exactly 0 are common to many rows.

    Of more than 10,000 calibration scores only some are known, and each stands for `counts` of them. A score that is
    found counts as often, but at most ten times: two float32 of very many are the same by chance now and then.
    """
    positive = scores[scores > 0].astype("float32")
    weight = dict(zip(known.tolist(), np.minimum(counts, 10).tolist(), strict=True))
    found = [weight.get(score, 0) for score in positive.tolist()]
    return min(1.0, float(np.mean(found))) if found else 0.0


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"
