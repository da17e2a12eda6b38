"""Conditions without which an evaluation proves little: those of Carlini et al., 2019 (arXiv:1902.06705)."""

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
"""Times DeepFool's change that Carlini-Wagner's may be."""


def iterative_beats_one_step(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """Many small steps do at least as well as one large one."""
    name = "iterative attacks are at least as strong as one-step attacks"
    pairs = [
        (one, many)
        for one in _named(outcomes, "FGSM")
        for many in _named(outcomes, "PGD")
        if one.description.strength == many.description.strength
    ]
    if not pairs:
        return Check(name, None, "Needs FGSM and PGD of the same budget among the attacks.")
    one, many = pairs[0]
    n = min(len(one.changed.rows), len(many.changed.rows))
    single, several = (_rate(o.successful[:n], o.attempted[:n]) for o in (one, many))
    detail = (
        f"FGSM succeeds on {_percent(single)} of the rows, PGD on {_percent(several)}, both against the classifier."
    )
    hint = " Where one step does better, gradients are masked or PGD has too few steps."
    passed = several >= single - SLACK
    return Check(name, passed, detail + ("" if passed else hint))


def knowing_more_helps(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """An attacker who knows the guard does at least as well against it as one who does not."""
    name = "white-box attacks are at least as strong as grey-box attacks"
    found = []
    for norm, strength in _budgets(outcomes, "white-box"):
        groups = [
            [
                o
                for o in outcomes
                if o.description.knowledge == knowledge
                and (o.description.norm, o.description.strength) == (norm, strength)
            ]
            for knowledge in ("white-box", "grey-box")
        ]
        if not all(groups):
            continue
        n = min(len(o.changed.rows) for group in groups for o in group)
        attempted = groups[0][0].attempted[:n]
        knowing, not_knowing = (_rate(np.any([o.broken[:n] for o in group], axis=0), attempted) for group in groups)
        found.append((knowing - not_knowing, knowing, not_knowing, str(norm), strength))
    if not found:
        return Check(name, None, "Needs white-box and grey-box attacks of one norm and budget.")
    lead, knowing, not_knowing, norm, strength = min(found)
    detail = (
        f"At {norm} {strength:.3g}, attackers who know the guard defeat it on {_percent(knowing)} of the rows, "
        f"those who know the classifier alone on {_percent(not_knowing)}."
    )
    hint = " The adaptive attacks are too weak: give them more steps."
    return Check(name, lead >= -SLACK, detail + ("" if lead >= -SLACK else hint))


def gradients_beat_guessing(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """With gradients, an attacker needs no larger changes than without."""
    name = "attacks with gradients are at least as strong as black-box attacks"
    with_gradients = [o for o in outcomes if o.description.knowledge == "grey-box" and o.description.strength is None]
    without = [o for o in outcomes if o.description.knowledge == "black-box" and o.description.strength is None]
    pairs = [(a, b) for a in with_gradients for b in without if a.description.norm == b.description.norm]
    distances = []
    for one, other in pairs:
        norm = str(one.description.norm)
        medians = _medians(one, other, norm)
        if medians is not None:
            distances.append((*medians, one.description.name, other.description.name, norm))
    if not distances:
        return Check(name, None, "Needs an attack with and one without gradients that look for the smallest change.")
    near, far, one_name, other_name, norm = min(distances)
    detail = f"{one_name} needs a median change of {near:.3g} in {norm}, {other_name} of {far:.3g}."
    hint = " Where guessing does better, gradients are masked."
    return Check(name, near <= far * (1 + SLACK), detail + ("" if near <= far * (1 + SLACK) else hint))


def smallest_changes_are_small(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """Carlini-Wagner's attack, which searches, needs no larger changes than DeepFool, which takes a few steps."""
    name = "Carlini-Wagner's changes are about as small as DeepFool's"
    pairs = [(a, b) for a in _named(outcomes, "C&W") for b in _named(outcomes, "DeepFool")]
    medians = [found for a, b in pairs if (found := _medians(a, b, "L2")) is not None]
    if not medians:
        return Check(name, None, "Needs C&W and DeepFool among the attacks, and rows on which both succeed.")
    ours, theirs = medians[0]
    detail = f"C&W needs a median change of {ours:.3g} in L2, DeepFool of {theirs:.3g}."
    hint = (
        f" More than {LARGER:g} times as much: its search takes too few steps, or too large ones. Try "
        "CarliniWagner(steps=1000) of demur.evaluation.attacks."
    )
    passed = ours <= LARGER * theirs
    return Check(name, passed, detail + ("" if passed else hint))


def large_budgets_succeed(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """With a budget large enough, every row falls."""
    name = "accuracy falls to about 0 as the budget grows"
    curve = [o for o in outcomes if o.description.knowledge == "grey-box" and o.description.strength is not None]
    if len({o.description.strength for o in _named(outcomes, "PGD")}) < 2:
        return Check(name, None, "Needs PGD with several budgets.")
    strongest = max(_named(outcomes, "PGD"), key=lambda o: float(o.description.strength or 0))
    accuracy = min(float(o.right_alone.mean()) for o in curve if o.description.norm == strongest.description.norm)
    detail = (
        f"The classifier's accuracy falls to {_percent(accuracy)} at budgets of up to "
        f"{strongest.description.strength:.3g} in {strongest.description.norm}."
    )
    hint = " Where a large budget fails, the attack does: gradients are masked, or the bounds are wrong."
    return Check(name, accuracy <= 0.05, detail + ("" if accuracy <= 0.05 else hint))


def failures_do_not_count(outcomes: Sequence[Outcome], **_: Any) -> Check:
    """What an attack left as it was, or blank, is no success of it."""
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
    most = max(late, key=lambda title: late[title] or 0.0)
    detail = (
        f"The last quarter of the steps brought the guard down on at most {_percent(late[most] or 0.0)} of the rows, "
        f"by {most}."
    )
    rising = [title for title, share in late.items() if (share or 0.0) > LATE]
    hint = f" Still finding more when they stopped, and so in need of more steps: {', '.join(rising)}."
    return Check(name, not rising, detail + (hint if rising else ""))


def calibration_is_disjoint(target: Target, unchanged: Unchanged, **_: Any) -> Check:
    """The rows that set the threshold are not those that it is tested on."""
    name = "calibration and test rows do not overlap"
    calibration = target.detector.calibration
    if calibration is None:
        return Check(name, None, "The threshold was given by hand, or is not from infer_threshold.")
    same = _shared(np.asarray(unchanged.verdict.score), *weighted(calibration.ordinary.values()))
    detail = f"{_percent(same)} of the test rows have, to the last digit, the score of a calibration row."
    hint = " Evaluate on rows that infer_threshold has not seen."
    return Check(name, same <= 0.1, detail + ("" if same <= 0.1 else hint))


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


def _medians(one: Outcome, other: Outcome, norm: str) -> tuple[float, float] | None:
    """The median changes of two attacks, of the rows on which both succeed; None if there are none."""
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


def _budgets(outcomes: Sequence[Outcome], knowledge: str) -> list[tuple[str | None, float]]:
    found = [o.description for o in outcomes if o.description.knowledge == knowledge]
    return list(dict.fromkeys((d.norm, d.strength) for d in found if d.strength is not None))


def _rate(values: Array, among: Array) -> float:
    return float(np.asarray(values)[among].mean()) if among.any() else 0.0


def _shared(scores: Array, known: Array, counts: Array) -> float:
    """Share of the scores above 0 that are among the known ones; scores of exactly 0 are common to many rows.

    Of more than 10,000 calibration scores only some are known, and each stands for `counts` of them: so does each that
    is found, up to ten, since two float32 of very many are the same by chance now and then.
    """
    positive = scores[scores > 0].astype("float32")
    weight = dict(zip(known.tolist(), np.minimum(counts, 10).tolist(), strict=True))
    found = [weight.get(score, 0) for score in positive.tolist()]
    return min(1.0, float(np.mean(found))) if found else 0.0


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"
