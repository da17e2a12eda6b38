"""What became of the rows of each threat, and the figures from that."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from demur.calibration.metrics import Estimate, Pair, ScoreEvaluation, cohens_d, evaluate_scores, lead, share
from demur.evaluation.norms import NORMS, size
from demur.evaluation.result import OWN, Clean, Comparison, Example, Harm, Knowledge, Threat, WorstCase
from demur.evaluation.target import Array, Target, Verdict

LATE = 0.02
"""Share of the rows that the last quarter of an attack's steps may bring, if it is to count as converged."""
UNKNOWN = Estimate(0.0, 0.0, 1.0)
"""The share of no rows at all."""


class Description(NamedTuple):
    """What a threat is; see `demur.evaluation.result.Threat`."""

    name: str
    strength: float | None
    knowledge: Knowledge
    norm: str | None
    model: str
    for_the_curve: bool = False


class Unchanged(NamedTuple):
    """The test rows before anything happens to them."""

    y: Array
    verdict: Verdict
    scores: dict[str, Array]
    """`(n,)` each, by the name of the score."""

    @property
    def right(self) -> Array:
        """Whether the classifier is right, `(n,)`."""
        return np.asarray(self.verdict.reference == self.y)

    def clean(self) -> Clean:
        """The figures."""
        verdict, y = self.verdict, self.y
        return Clean(
            accuracy=share(verdict.reference == y),
            corrected=share(verdict.final == y),
            always_corrected=share(verdict.opinion == y),
            fpr=share(verdict.flagged),
            scores=verdict.score.tolist(),
            repaired=int(((verdict.reference != y) & (verdict.final == y)).sum()),
            spoiled=int(((verdict.reference == y) & (verdict.final != y)).sum()),
        )


class Changed(NamedTuple):
    """Rows after a threat; arrays are `(k,)`."""

    rows: Array
    """The numbers of the rows among the test rows."""
    verdict: Verdict
    scores: dict[str, Array]
    distance: dict[str, Array]
    """Size of each change, by norm; empty where rows are not one array."""
    late: Array | None
    """Whether the guard fell only in the last quarter of the steps; None where the attack cannot tell."""
    seconds: float
    examples: list[Example]


def joined(parts: Sequence[Changed], most_examples: int) -> Changed:
    """Consecutive parts as one, with at most so many examples."""

    def together(arrays: Iterable[Any]) -> Array:
        return np.concatenate(list(arrays))

    late = [part.late for part in parts if part.late is not None]
    examples = [example for part in parts for example in part.examples]
    missed, caught = ([one for one in examples if one.flagged is flagged] for flagged in (False, True))
    return Changed(
        rows=together(part.rows for part in parts),
        verdict=Verdict(*map(np.concatenate, zip(*(part.verdict for part in parts), strict=True))),
        scores={name: together(part.scores[name] for part in parts) for name in parts[0].scores},
        distance={norm: together(part.distance[norm] for part in parts) for norm in parts[0].distance},
        late=np.concatenate(late) if len(late) == len(parts) else None,
        seconds=sum(part.seconds for part in parts),
        examples=_in_turn(missed, caught)[:most_examples],
    )


class Outcome(NamedTuple):
    """What became of the rows of a threat; arrays are `(k,)`."""

    description: Description
    changed: Changed
    attempted: Array
    """The classifier gets the row right unchanged."""
    successful: Array
    """Attempted, and the classifier gets the row wrong changed."""
    accepted_and_wrong: Array
    corrected_to_wrong: Array
    right_alone: Array
    right_guarded: Array

    @property
    def broken(self) -> Array:
        """Whether the guarded classifier is wrong, `(k,)`."""
        return np.asarray(self.accepted_and_wrong | self.corrected_to_wrong)

    @property
    def budget(self) -> tuple[str | None, float | None]:
        """Norm and strength."""
        return self.description.norm, self.description.strength

    @property
    def late(self) -> float | None:
        """Share of the attempted rows on which the guard fell late; None where the attack cannot tell."""
        late = self.changed.late
        return float(late[self.attempted].mean()) if late is not None and self.attempted.any() else None


def outcome_of(description: Description, unchanged: Unchanged, changed: Changed) -> Outcome:
    """Compare changed rows with the unchanged ones."""
    y, verdict = unchanged.y[changed.rows], changed.verdict
    attempted, wrong = unchanged.right[changed.rows], verdict.reference != y
    return Outcome(
        description=description,
        changed=changed,
        attempted=attempted,
        successful=attempted & wrong,
        accepted_and_wrong=attempted & wrong & ~verdict.flagged,
        corrected_to_wrong=attempted & (verdict.opinion != y) & verdict.flagged,
        right_alone=~wrong,
        right_guarded=verdict.final == y,
    )


def threat_of(outcome: Outcome, unchanged: Unchanged, *, resamples: int, seed: int) -> Threat:
    """The figures of a threat."""
    changed, attempted, successful = outcome.changed, outcome.attempted, outcome.successful
    alone, guarded = outcome.right_alone, outcome.right_guarded
    moved = changed.distance if successful.any() else {}
    return Threat(
        **outcome.description._asdict(),
        rows=len(changed.rows),
        seconds=changed.seconds,
        accuracy=share(alone),
        always_corrected=share(changed.verdict.opinion == unchanged.y[changed.rows]),
        corrected=share(guarded),
        attempted=int(attempted.sum()),
        succeeded=_share(successful[attempted]),
        accepted_and_wrong=_share(outcome.accepted_and_wrong[attempted]),
        corrected_to_wrong=_share(outcome.corrected_to_wrong[attempted]),
        flagged=share(changed.verdict.flagged[successful]) if successful.any() else None,
        flagged_all=share(changed.verdict.flagged),
        distance={norm: float(np.median(moved[norm][successful])) if moved else None for norm in NORMS},
        detection={
            name: {
                positives: _detected(unchanged.scores[name], scores[rows], resamples, seed)
                for positives, rows in (("successful", successful), ("all", attempted))
            }
            for name, scores in changed.scores.items()
        },
        harm=_harm(changed.verdict.score, successful, attempted & ~successful, resamples, seed),
        converged=None if outcome.late is None else outcome.late <= LATE,
        scores=changed.verdict.score.tolist(),
        successful=successful.tolist(),
        examples=changed.examples,
        repaired=int((~alone & guarded).sum()),
        spoiled=int((alone & ~guarded).sum()),
    )


def comparisons(threats: Sequence[Threat], outcomes: Sequence[Outcome], unchanged: Unchanged) -> list[Comparison]:
    """Each baseline against the guard's score: on each attack, each corruption, and all threats of each knowledge."""
    groups: dict[str, list[Outcome]] = {}
    for threat, outcome in zip(threats, outcomes, strict=True):
        if outcome.successful.any() and not threat.for_the_curve:
            for over in (threat.name if threat.knowledge == "corruption" else threat.title, threat.knowledge):
                groups.setdefault(over, []).append(outcome)

    def pair(baseline: str, outcome: Outcome) -> Pair:
        hit, scores, clean = outcome.successful, outcome.changed.scores, unchanged.scores
        return Pair((clean[OWN], clean[baseline]), (scores[OWN][hit], scores[baseline][hit]), outcome.changed.rows[hit])

    return [
        Comparison(over, len(several), baseline, lead([pair(baseline, outcome) for outcome in several]))
        for over, several in groups.items()
        for baseline in unchanged.scores
        if baseline != OWN
    ]


def _share(values: Array) -> Estimate:
    return share(values) if len(values) else UNKNOWN


def _detected(clean: Array, bad: Array, resamples: int, seed: int) -> ScoreEvaluation | None:
    return evaluate_scores(clean, bad, resamples=resamples, seed=seed) if len(bad) else None


def _harm(score: Array, harmful: Array, harmless: Array, resamples: int, seed: int) -> Harm:
    bad, good = score[harmful], score[harmless]
    finite_bad, finite_good = bad[np.isfinite(bad)], good[np.isfinite(good)]
    found = _detected(good, bad, resamples, seed) if len(good) else None
    return Harm(
        harmful=len(bad),
        harmless=len(good),
        mean_harmful=float(finite_bad.mean()) if len(finite_bad) else None,
        mean_harmless=float(finite_good.mean()) if len(finite_good) else None,
        cohens_d=cohens_d(finite_bad, finite_good),
        auroc=None if found is None else found["auroc"],
    )


def distances(before: Array, after: Array) -> dict[str, Array]:
    """Size of each row's change, by norm."""
    change = np.asarray(after, "float32") - np.asarray(before, "float32")
    return {norm: size(change, norm) for norm in NORMS}


def examples_of(
    target: Target, original: Array, after: Array, y: Array, before: Array, verdict: Verdict, most: int
) -> list[Example]:
    """At most so many rows for the gallery that fooled the classifier: one not flagged and one flagged in turn."""
    fooled = (before == y) & (verdict.reference != y)
    missed, caught = (list(np.flatnonzero(fooled & rows)) for rows in (~verdict.flagged, verdict.flagged))
    chosen = _in_turn(missed, caught)[:most]
    if not chosen:
        return []
    made = target.detector.reconstruct(after[chosen]) if hasattr(target.detector, "reconstruct") else None

    def seen(row: Array) -> Array:
        """Images with the channels last."""
        is_first = row.ndim == 3 and target.detector.channels_first
        return np.asarray(row.transpose(1, 2, 0) if is_first else row, "float32")

    return [
        Example(
            original=seen(original[row]),
            changed=seen(after[row]),
            reconstruction=None if made is None else seen(made[i]),
            label=int(y[row]),
            before=int(before[row]),
            after=int(verdict.reference[row]),
            opinion=int(verdict.opinion[row]),
            score=float(verdict.score[row]),
            flagged=bool(verdict.flagged[row]),
        )
        for i, row in enumerate(chosen)
    ]


def _in_turn(some: list[Any], others: list[Any]) -> list[Any]:
    """One of each list in turn, and then the rest of the longer list."""
    both = min(len(some), len(others))
    return [*(one for pair in zip(some, others, strict=False) for one in pair), *some[both:], *others[both:]]


def worst_cases(outcomes: Sequence[Outcome], unchanged: Unchanged, *, resamples: int, seed: int) -> list[WorstCase]:
    """The worst case of each knowledge, norm and strength. Who knows more can do all that who knows less can."""
    stronger: dict[Knowledge, tuple[Knowledge, ...]] = {
        "grey-box": ("grey-box", "black-box"),
        "white-box": ("white-box", "grey-box", "black-box"),
    }
    found = []
    for knowledge, included in stronger.items():
        budgets = dict.fromkeys(o.budget for o in outcomes if o.description.knowledge == knowledge)
        for budget in budgets:
            if budget[1] is not None:
                same = [o for o in outcomes if o.description.knowledge in included and o.budget == budget]
                found.append(_worst_case(same, knowledge, unchanged, resamples, seed))
    return found


def _worst_case(
    outcomes: Sequence[Outcome], knowledge: Knowledge, unchanged: Unchanged, resamples: int, seed: int
) -> WorstCase:
    """For each row the threat that hurts most; over the rows on which all of the threats were tried."""
    n = min(len(outcome.changed.rows) for outcome in outcomes)

    def stacked(values: Iterable[Any]) -> Array:
        return np.stack([np.asarray(value)[:n] for value in values])

    successful = stacked(o.successful for o in outcomes)
    lowest = np.where(successful, stacked(o.changed.verdict.score for o in outcomes), np.inf).min(axis=0)
    through = np.asarray(stacked(o.accepted_and_wrong for o in outcomes).any(axis=0))
    norm, strength = outcomes[0].budget
    return WorstCase(
        knowledge=knowledge,
        norm=str(norm),
        strength=strength,
        attacks=[o.description.name for o in outcomes],
        rows=n,
        accuracy=share(stacked(o.right_alone for o in outcomes).all(axis=0)),
        corrected=share(stacked(o.right_guarded for o in outcomes).all(axis=0)),
        accepted_and_wrong=_share(through[outcomes[0].attempted[:n]]),
        detection=_detected(unchanged.scores[OWN], lowest[successful.any(axis=0)], resamples, seed),
        for_the_curve=all(o.description.for_the_curve for o in outcomes),
    )
