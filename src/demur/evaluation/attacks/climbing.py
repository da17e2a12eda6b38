"""The loop of every adaptive attack: steps up an objective inside a ball; the best row on the way is kept."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import ops

from demur.backends.divergence import Tensor
from demur.evaluation.attacks.base import Array, Attacked
from demur.evaluation.gradients import differentiated
from demur.evaluation.norms import Norm, projected, random_change, steepest
from demur.evaluation.target import Target

Objective: TypeAlias = Callable[..., Sequence[Tensor]]
"""`look, y, limit, *constants -> objectives`, each `(n,)`: the first is climbed, or `direction` combines them."""
Direction: TypeAlias = Callable[[list[Array], "Facts"], Array]
"""`gradients of the objectives, facts -> which way to go`."""

LEAD = 2.0
"""Nats of lead of a wrong class that are enough: more lead is worth no loss elsewhere."""


class Facts(NamedTuple):
    """What the guarded classifier says of rows during an attack; arrays are `(n,)`."""

    score: Array
    wrong: Array
    """Whether the classifier is wrong."""
    opinion_wrong: Array
    limit: Array
    """The threshold that applies."""

    @property
    def accepted(self) -> Array:
        """Whether rows are not flagged."""
        return self.score <= self.limit

    @property
    def rank(self) -> Array:
        """How far the attack has come: 3 accepted and wrong, 2 corrected to wrong, 1 wrong but corrected, 0 right."""
        return np.select([self.wrong & self.accepted, self.opinion_wrong & ~self.accepted, self.wrong], [3, 2, 1], 0)

    @property
    def defeated(self) -> Array:
        """Whether the guarded classifier is wrong."""
        return np.asarray(self.rank >= 2)


def lead(log_p: Tensor, label: Tensor) -> Tensor:
    """By how many nats the likeliest other class leads the label, `(n,)`; negative where the label is predicted."""
    is_label = ops.one_hot(label, log_p.shape[-1], dtype="float32")
    others = ops.max(log_p - 1e9 * is_label, axis=-1)
    return others - ops.sum(log_p * is_label, axis=-1)


def unnoticed(score: Tensor, limit: Tensor) -> Tensor:
    """How small a score is, `(n,)`: 0 for a score of 0, -0.7 at the threshold, falling with the logarithm."""
    return -ops.log1p(ops.maximum(score, 0.0) / limit)


def inward(gradient: Array, x: Array, bounds: tuple[float, float]) -> Array:
    """A gradient without the part that points out of the bounds."""
    outward = ((x <= bounds[0]) & (gradient < 0)) | ((x >= bounds[1]) & (gradient > 0))
    return np.where(outward, np.float32(0), gradient)


def first(gradients: list[Array], facts: Facts) -> Array:  # noqa: ARG001 - one signature for all directions
    """Up the first objective."""
    return gradients[0]


class Climb:
    """A compiled attack, to be run with several constants.

    Args:
        target: what is attacked.
        objective: what to climb.
        count: how many objectives there are.
        direction: from their gradients to the way to go.
    """

    def __init__(self, target: Target, objective: Objective, *, count: int = 1, direction: Direction = first) -> None:
        self.target, self.direction, self.count = target, direction, count

        def looked(x: Tensor, y: Tensor, limit: Tensor, *constants: Tensor) -> list[Tensor]:
            look = target.look(x)
            return [*objective(look, y, limit, *constants), look.score, look.reference, look.opinion]

        self.step = differentiated(looked, count, target.generators)

    def run(
        self, x: Array, y: Array, constants: Sequence[Array] = (), *, norm: Norm, radius: float, steps: int, seed: int
    ) -> tuple[Attacked, Facts]:
        """Climb from a random start in the ball; steps shrink along a half cosine from half the radius to nearly 0.

        Constants are further arguments of the objective, rows first.

        Returns:
            Of each row the best change, by `Facts.rank` and then by the lower score, or the last change if the rank
            stayed 0; and the facts of it.
        """
        target, rng = self.target, np.random.default_rng(seed)
        labels = y.astype("int32")
        # A random start in an L1 ball would be spread over so many numbers that it changes none of them.
        start = 0.0 if norm == "L1" else random_change(x.shape, norm, radius, rng)
        now = target.clipped(x + start).astype("float32")
        limit = target.limits(labels).astype("float32")
        best, best_facts, early = x.copy(), None, np.zeros(len(x), bool)
        for step in range(steps + 1):
            outputs, gradients = self._looked(now, labels, limit, constants)
            facts = self._facts(outputs[self.count :], labels)
            limit = facts.limit.astype("float32")
            better = np.ones(len(x), bool) if best_facts is None else _better(facts, best_facts)
            best[better] = now[better]
            best_facts = facts if best_facts is None else Facts(*map(_chosen(better), facts, best_facts))
            if step <= 3 * steps // 4:
                early = best_facts.defeated
            if step < steps:
                size = radius * (0.25 * (1 + np.cos(np.pi * step / steps)) + 0.005)
                way = steepest(inward(self.direction(gradients, facts), now, target.bounds), norm)
                change = projected(now + size * way - x, norm, radius)
                now = target.clipped(x + change).astype("float32")
        if best_facts is None:
            raise AssertionError("there is at least one step")
        return Attacked(best, best_facts.defeated & ~early), best_facts

    def _looked(self, x: Array, y: Array, limit: Array, constants: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Outputs and gradients; of a random guard, the mean over several draws."""
        self.target.check_time()
        limit = np.maximum(limit, 1e-6)
        draws = [self.step(x, y, limit, *constants) for _ in range(self.target.draws)]
        if len(draws) == 1:
            return draws[0]
        pairs = zip(*draws, strict=True)
        outputs, gradients = ([np.mean(parts, axis=0) for parts in zip(*draw, strict=True)] for draw in pairs)
        return outputs, gradients

    def _facts(self, outputs: list[Array], y: Array) -> Facts:
        score, reference, opinion = outputs
        predicted = reference.argmax(axis=1)
        limits = self.target.limits(predicted)
        return Facts(np.asarray(score, "float64"), predicted != y, opinion.argmax(axis=1) != y, limits)


def worst(found: Sequence[tuple[Attacked, Facts]]) -> Attacked:
    """Of several attacks on the same rows, for each row the attack that came furthest."""
    (attacked, facts), *rest = found
    x, early = attacked.x.copy(), _early(attacked, facts)
    for other, its_facts in rest:
        better = _better(its_facts, facts)
        x[better] = other.x[better]
        facts = Facts(*map(_chosen(better), its_facts, facts))
        early |= _early(other, its_facts)
    return Attacked(x, facts.defeated & ~early)


def _early(attacked: Attacked, facts: Facts) -> Array:
    return np.asarray(facts.defeated & ~np.asarray(attacked.late, bool))


def _better(facts: Facts, than: Facts) -> Array:
    same = facts.rank == than.rank
    return np.asarray((facts.rank > than.rank) | (same & ((facts.rank == 0) | (facts.score < than.score))))


def _chosen(mask: Array) -> Any:
    return lambda new, old: np.where(mask, new, old)
