"""From what became of changed rows to the figures of a threat."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from demur.calibration.metrics import Estimate, Pair, ScoreEvaluation, cohens_d, evaluate_scores, lead, share
from demur.evaluation.budgets import NORMS
from demur.evaluation.comparison import OWN
from demur.evaluation.norms import size
from demur.evaluation.result import Clean, Comparison, Example, Harm, Knowledge, Threat, WorstCase
from demur.evaluation.target import Array, Target, Verdict

LATE = 0.02
"""Share of the rows that the last quarter of an attack's steps may bring, if it is to count as converged."""
UNKNOWN = Estimate(0.0, 0.0, 1.0)
"""A share of nothing."""


class Description(NamedTuple):
    """What a threat is, apart from what it did."""

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
    """Of each row, by the name of the score."""

    @property
    def right(self) -> Array:
        """Which rows the classifier gets right, `(n,)`."""
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
    """Rows after a threat, `(k,)` each: the test rows with these numbers."""

    rows: Array
    verdict: Verdict
    scores: dict[str, Array]
    distance: dict[str, Array]
    """By norm, how far each was changed; empty where rows are not one array."""
    late: Array | None
    """Where the guard fell only in the last quarter of an attack's steps; None where that is not known."""
    seconds: float
    examples: list[Example]


def joined(parts: Sequence[Changed], most_examples: int) -> Changed:
    """Parts that follow each other as one, with so many examples at most."""

    def together(arrays: Iterable[Any]) -> Array:
        return np.concatenate(list(arrays))

    late = [part.late for part in parts if part.late is not None]
    examples = [example for part in parts for example in part.examples]
    through, caught = ([one for one in examples if one.flagged is flagged] for flagged in (False, True))
    return Changed(
        rows=together(part.rows for part in parts),
        verdict=Verdict(*map(np.concatenate, zip(*(part.verdict for part in parts), strict=True))),
        scores={name: together(part.scores[name] for part in parts) for name in parts[0].scores},
        distance={norm: together(part.distance[norm] for part in parts) for norm in parts[0].distance},
        late=np.concatenate(late) if len(late) == len(parts) else None,
        seconds=sum(part.seconds for part in parts),
        examples=_in_turn(through, caught)[:most_examples],
    )


class Outcome(NamedTuple):
    """Of changed rows, what each check and each worst case needs; `(k,)` each."""

    description: Description
    changed: Changed
    attempted: Array
    """The classifier gets the row right unchanged."""
    successful: Array
    """And wrong changed."""
    accepted_and_wrong: Array
    corrected_to_wrong: Array
    right_alone: Array
    right_guarded: Array

    @property
    def broken(self) -> Array:
        """The guarded classifier is wrong, `(k,)`."""
        return np.asarray(self.accepted_and_wrong | self.corrected_to_wrong)

    @property
    def late(self) -> float | None:
        """Share of the attempted rows on which the guard fell only in the last quarter of the steps."""
        late = self.changed.late
        return float(late[self.attempted].mean()) if late is not None and self.attempted.any() else None


def outcome_of(description: Description, unchanged: Unchanged, changed: Changed) -> Outcome:
    """What became of rows."""
    y, verdict = unchanged.y[changed.rows], changed.verdict
    attempted = unchanged.right[changed.rows]
    wrong, opinion_wrong = verdict.reference != y, verdict.opinion != y
    return Outcome(
        description,
        changed,
        attempted,
        attempted & wrong,
        attempted & wrong & ~verdict.flagged,
        attempted & opinion_wrong & verdict.flagged,
        ~wrong,
        verdict.final == y,
    )


def threat_of(outcome: Outcome, unchanged: Unchanged, *, resamples: int, seed: int) -> Threat:
    """The figures of a threat."""
    changed, attempted, successful = outcome.changed, outcome.attempted, outcome.successful
    y = unchanged.y[changed.rows]
    alone, guarded = outcome.right_alone, outcome.right_guarded

    def among_attempted(values: Array) -> Estimate:
        return share(values[attempted]) if attempted.any() else UNKNOWN

    return Threat(
        **outcome.description._asdict(),
        rows=len(changed.rows),
        seconds=changed.seconds,
        accuracy=share(alone),
        always_corrected=share(changed.verdict.opinion == y),
        corrected=share(guarded),
        attempted=int(attempted.sum()),
        succeeded=among_attempted(successful),
        accepted_and_wrong=among_attempted(outcome.accepted_and_wrong),
        corrected_to_wrong=among_attempted(outcome.corrected_to_wrong),
        flagged=share(changed.verdict.flagged[successful]) if successful.any() else None,
        flagged_all=share(changed.verdict.flagged),
        distance={norm: _median(changed.distance.get(norm), successful) for norm in NORMS},
        detection={
            name: {
                "successful": detected(unchanged.scores[name], scores[successful], resamples, seed),
                "all": detected(unchanged.scores[name], scores[attempted], resamples, seed),
            }
            for name, scores in changed.scores.items()
        },
        harm=harm_of(changed.verdict.score, successful, attempted & ~successful, resamples, seed),
        converged=None if outcome.late is None else outcome.late <= LATE,
        scores=changed.verdict.score.tolist(),
        successful=successful.tolist(),
        examples=changed.examples,
        repaired=int((~alone & guarded).sum()),
        spoiled=int((alone & ~guarded).sum()),
    )


def comparisons(threats: Sequence[Threat], outcomes: Sequence[Outcome], unchanged: Unchanged) -> list[Comparison]:
    """Each simpler score against the guard's, on each attack, each corruption, and all threats of each knowledge."""
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


def _median(values: Array | None, among: Array) -> float | None:
    return float(np.median(values[among])) if values is not None and among.any() else None


def detected(clean: Array, bad: Array, resamples: int, seed: int) -> ScoreEvaluation | None:
    """How well scores tell bad rows from unchanged ones; None if there are no bad ones."""
    return evaluate_scores(clean, bad, resamples=resamples, seed=seed) if len(bad) else None


def harm_of(score: Array, harmful: Array, harmless: Array, resamples: int, seed: int) -> Harm:
    """How the scores of harmed rows differ from those of the others."""
    bad, good = score[harmful], score[harmless]
    finite_bad, finite_good = bad[np.isfinite(bad)], good[np.isfinite(good)]
    both = len(bad) > 0 and len(good) > 0
    return Harm(
        harmful=len(bad),
        harmless=len(good),
        mean_harmful=float(finite_bad.mean()) if len(finite_bad) else None,
        mean_harmless=float(finite_good.mean()) if len(finite_good) else None,
        cohens_d=cohens_d(finite_bad, finite_good),
        auroc=evaluate_scores(good, bad, resamples=resamples, seed=seed)["auroc"] if both else None,
    )


def distances(before: Array, after: Array) -> dict[str, Array]:
    """How far each row was changed, by norm."""
    change = np.asarray(after, "float32") - np.asarray(before, "float32")
    return {norm: size(change, norm) for norm in NORMS}


def examples_of(
    target: Target, original: Array, after: Array, y: Array, before: Array, verdict: Verdict, most: int
) -> list[Example]:
    """Rows for the gallery, `most` at most: those that the classifier falls for, got through and caught in turn."""
    if not most:
        return []
    fooled = (before == y) & (verdict.reference != y)
    through, caught = np.flatnonzero(fooled & ~verdict.flagged), np.flatnonzero(fooled & verdict.flagged)
    chosen = _in_turn(list(through), list(caught))[:most]
    if not chosen:
        return []
    made = target.detector.reconstruct(after[chosen]) if hasattr(target.detector, "reconstruct") else None

    def seen(row: Array) -> Array:
        """An image with its channels last."""
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
    """One of each in turn, and then what one list has more."""
    both = min(len(some), len(others))
    return [*(one for pair in zip(some, others, strict=False) for one in pair), *some[both:], *others[both:]]


def worst_case(
    outcomes: Sequence[Outcome], knowledge: Knowledge, unchanged: Unchanged, *, resamples: int, seed: int
) -> WorstCase:
    """For each row the threat that hurts it most; over the rows that every one of them was tried on."""
    rows = min((outcome.changed.rows for outcome in outcomes), key=len)
    n = len(rows)

    def stacked(values: Any) -> Array:
        return np.stack([np.asarray(value)[:n] for value in values])

    successful = stacked(o.successful for o in outcomes)
    scores = stacked(o.changed.verdict.score for o in outcomes)
    lowest = np.where(successful, scores, np.inf).min(axis=0)
    attempted, first = outcomes[0].attempted[:n], outcomes[0].description
    through = np.asarray(stacked(o.accepted_and_wrong for o in outcomes).any(axis=0))
    found = lowest[successful.any(axis=0)]
    return WorstCase(
        knowledge=knowledge,
        norm=str(first.norm),
        strength=first.strength,
        attacks=[o.description.name for o in outcomes],
        rows=n,
        accuracy=share(stacked(o.right_alone for o in outcomes).all(axis=0)),
        corrected=share(stacked(o.right_guarded for o in outcomes).all(axis=0)),
        accepted_and_wrong=share(through[attempted]) if attempted.any() else UNKNOWN,
        detection=detected(unchanged.scores[OWN], found, resamples, seed),
        for_the_curve=all(o.description.for_the_curve for o in outcomes),
    )


def worst_cases(outcomes: Sequence[Outcome], unchanged: Unchanged, *, resamples: int, seed: int) -> list[WorstCase]:
    """The worst case of each knowledge, norm and strength. Who knows more can do all that who knows less can."""
    stronger: dict[Knowledge, tuple[Knowledge, ...]] = {
        "grey-box": ("grey-box", "black-box"),
        "white-box": ("white-box", "grey-box", "black-box"),
    }
    found = []
    for knowledge, includes in stronger.items():
        own = [o for o in outcomes if o.description.knowledge == knowledge and o.description.strength is not None]
        for norm, strength in dict.fromkeys((o.description.norm, o.description.strength) for o in own):
            same = [
                o
                for o in outcomes
                if o.description.knowledge in includes
                and (o.description.norm, o.description.strength) == (norm, strength)
            ]
            found.append(worst_case(same, knowledge, unchanged, resamples=resamples, seed=seed))
    return found
