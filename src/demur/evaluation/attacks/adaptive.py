"""Attacks by someone who knows classifier and guard: objectives over the graph of any detector, climbed in a ball."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from keras import ops

from demur.backends.divergence import Tensor
from demur.checks import check_whole
from demur.errors import InvalidSetting
from demur.evaluation.attacks.base import Array, Attack, Attacked
from demur.evaluation.attacks.climbing import LEAD, Climb, Direction, Facts, first, lead, unnoticed, worst
from demur.evaluation.norms import Norm
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Look, Target

WHITE = "knows classifier and guard, score and threshold included"


class AdaptiveAttack(Attack):
    """Climbs an objective over the detector's graph.

    Examples:
        >>> attack = Attack.registry["selective PGD"](0.1, steps=3)
        >>> changed = attack.run(Target(detector), X_new[:8], y_new[:8]).x
        >>> bool(np.abs(changed - X_new[:8]).max() <= 0.1001)
        True

    Args:
        epsilon: the largest change, in the units of `norm`.
        norm: "Linf", "L2" or "L1".
        steps: of each climb.
    """

    knowledge: ClassVar[Knowledge] = "white-box"
    model = WHITE
    count: ClassVar[int] = 1
    """How many objectives there are."""
    climbs: ClassVar[int] = 1
    """How often it climbs, each time with other constants."""
    passes = 100

    def __init__(self, epsilon: float | None = None, *, norm: Norm = "Linf", steps: int = 100) -> None:
        super().__init__(epsilon)
        if norm not in ("Linf", "L2", "L1"):
            raise InvalidSetting(f"norm is 'Linf', 'L2' or 'L1'; got {norm!r}")
        check_whole("steps", steps, 1)
        self.norm, self.steps = norm, steps  # type: ignore[misc]
        self.passes = steps * self.climbs  # type: ignore[misc]

    @abc.abstractmethod
    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        """What to climb: `(n,)` each."""

    @property
    def label(self) -> str:
        return self.name if self.norm == "Linf" else f"{self.name}, {self.norm}"

    direction: Direction = staticmethod(first)
    """From the gradients of the objectives to the way to go."""

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        """For each climb, further arguments of the objective; rows first."""
        return [()] * self.climbs

    def run(self, target: Target, x: Array, y: Array, *, seed: int = 0) -> Attacked:
        climb = target.once(self, lambda: Climb(target, self.objective, count=self.count, direction=self.direction))
        found = [
            climb.run(x, y, constants, norm=self.norm, radius=float(self.epsilon or 0), steps=self.steps, seed=seed + i)
            for i, constants in enumerate(self.constants(target, x, y, seed))
        ]
        attacked = worst(found)
        return Attacked(self.within(x, attacked.x, target), attacked.late)


class WeightedPGD(AdaptiveAttack):
    """The classifier's error plus a weight times the smallness of the score, for several weights.

    The straightforward adaptive attack (Carlini & Wagner, 2017, arXiv:1705.07263).
    """

    name = "PGD on error and score"
    weights: ClassVar[tuple[float, ...]] = (0.1, 1.0, 10.0)
    climbs = len(weights)

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        (weight,) = constants
        return [ops.minimum(lead(look.reference, y), LEAD) + weight * unnoticed(look.score, limit)]

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        return [(np.full(len(x), weight, "float32"),) for weight in self.weights]


class SelectivePGD(AdaptiveAttack):
    """Selective projected gradient descent (Bryniarski et al., 2021, arXiv:2106.15023).

    Each step goes for the goal that is not reached yet: the classifier's error, or else a score below the threshold.
    """

    name = "selective PGD"

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        ahead = lead(look.reference, y)
        return [ops.where(ahead > 0, unnoticed(look.score, limit), ahead)]


class OrthogonalPGD(AdaptiveAttack):
    """Orthogonal projected gradient descent (Bryniarski et al., 2021, arXiv:2106.15023).

    As `SelectivePGD`, with each step orthogonal to the gradient of the other goal, so that no goal is lost again.
    """

    name = "orthogonal PGD"
    count = 2

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        return [lead(look.reference, y), unnoticed(look.score, limit)]

    @staticmethod
    def direction(gradients: list[Array], facts: Facts) -> Array:
        """Up one gradient, orthogonal to the other."""
        error, score = gradients
        wrong = facts.wrong.reshape(-1, *[1] * (error.ndim - 1))
        return np.where(wrong, _without(score, error), _without(error, score))


class BothPathsPGD(AdaptiveAttack):
    """One wrong class on both paths, so that classifier and companion agree on it."""

    name = "PGD on both paths"
    climbs = 2

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        (wanted,) = constants
        paths = [ops.minimum(-lead(log_p, wanted), LEAD) for log_p in (look.reference, look.opinion)]
        return [paths[0] + paths[1] + unnoticed(look.score, limit)]

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        likely = _others(target, x, y)
        return [(likely[:, min(i, likely.shape[1] - 1)].astype("int32"),) for i in range(self.climbs)]


class DefendedPathPGD(AdaptiveAttack):
    """The companion's error alone, so that flagged rows are corrected to a wrong class."""

    name = "PGD on the defended path"

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        return [lead(look.opinion, y)]


class LogitMatching(AdaptiveAttack):
    """The log-probabilities of both paths as close as possible to those of an accepted clean row of another class.

    See Tramèr et al., 2020, arXiv:2002.08347.
    """

    name = "logit matching"
    climbs = 2

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        pairs = zip((look.reference, look.opinion), constants, strict=True)
        return [-sum(ops.sum(ops.square(_centred(log_p) - wanted), axis=-1) for log_p, wanted in pairs)]

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        """Two rows to match for each row: one of the likeliest other class, one of any other class."""
        _, reference, opinion = target.detector.score(x, return_predictions=True)
        log_views = [np.log(np.maximum(view, 1e-9)) for view in (reference, opinion)]
        views = [np.maximum(v - v.mean(axis=1, keepdims=True), -FLOOR).astype("float32") for v in log_views]
        accepted = target.verdict(x)
        pool = np.flatnonzero((accepted.reference == y) & ~accepted.flagged)
        pool = pool if len(pool) else np.arange(len(x))
        rng, likely = np.random.default_rng(seed), _others(target, x, y)
        chosen = [
            np.array([_one_of(rng, pool, y, y[i], wanted[i]) for i in range(len(x))])
            for wanted in (likely[:, 0], [None] * len(x))
        ]
        return [tuple(view[rows] for view in views) for rows in chosen]


FLOOR = 20.0
"""Nats below the mean at which log-probabilities are cut for matching."""


def _centred(log_p: Tensor) -> Tensor:
    return ops.maximum(log_p - ops.mean(log_p, axis=-1, keepdims=True), -FLOOR)


def _without(gradient: Array, other: Array) -> Array:
    """A gradient without the part along another gradient, row by row."""
    a, b = gradient.reshape(len(gradient), -1), other.reshape(len(other), -1)
    along = (a * b).sum(axis=1, keepdims=True) / np.maximum((b * b).sum(axis=1, keepdims=True), 1e-30)
    return np.asarray((a - along * b).reshape(gradient.shape), gradient.dtype)


def _others(target: Target, x: Array, y: Array) -> Array:
    """Of each row the classes but the true class, the classifier's likeliest first: `(n, classes - 1)`."""
    log_p = target.classifier_outputs(x)[0].copy()
    log_p[np.arange(len(x)), y] = -np.inf
    return np.asarray(np.argsort(-log_p, axis=1)[:, :-1])


def _one_of(rng: np.random.Generator, pool: Array, y: Array, own: Any, wanted: Any) -> int:
    """A row of the pool of the wanted class or, if there is none, of any class but the row's own."""
    fitting = pool[y[pool] == wanted] if wanted is not None else pool[:0]
    fitting = fitting if len(fitting) else pool[y[pool] != own]
    return int(rng.choice(fitting if len(fitting) else pool))
