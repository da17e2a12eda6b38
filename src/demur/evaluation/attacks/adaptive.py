"""Attacks by someone who knows classifier and guard, score and threshold included.

Each is an objective over a detector's graph, climbed inside a ball; a new detector gets them for nothing.
"""

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
    """How often it climbs, with other constants."""
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
        """What to climb, `(n,)` each."""

    @property
    def label(self) -> str:
        return self.name if self.norm == "Linf" else f"{self.name}, {self.norm}"

    direction: Direction = staticmethod(first)
    """Where to go, of the objectives' gradients."""

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        """Of each climb, what the objective takes besides; rows first."""
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
    """Steps on whichever is not reached yet: the classifier's error, or else a score below the threshold.

    Selective projected gradient descent (Bryniarski et al., 2021, arXiv:2106.15023).
    """

    name = "selective PGD"

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        ahead = lead(look.reference, y)
        return [ops.where(ahead > 0, unnoticed(look.score, limit), ahead)]


class OrthogonalPGD(AdaptiveAttack):
    """The same, each step at right angles to the gradient of the other: what is reached is not lost at once.

    Orthogonal projected gradient descent (Bryniarski et al., 2021, arXiv:2106.15023).
    """

    name = "orthogonal PGD"
    count = 2

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        return [lead(look.reference, y), unnoticed(look.score, limit)]

    @staticmethod
    def direction(gradients: list[Array], facts: Facts) -> Array:
        """Up one of the two, without its part along the other."""
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
    """The companion's error alone: what is flagged is then corrected to a wrong class."""

    name = "PGD on the defended path"

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        return [lead(look.opinion, y)]


class LogitMatching(AdaptiveAttack):
    """Both paths' log-probabilities as close as they get to those of a clean row of another class.

    Such a row is accepted, so what looks like it is too (Tramèr et al., 2020, arXiv:2002.08347).
    """

    name = "logit matching"
    climbs = 2

    def objective(self, look: Look, y: Tensor, limit: Tensor, *constants: Tensor) -> Sequence[Tensor]:
        pairs = zip((look.reference, look.opinion), constants, strict=True)
        return [-sum(ops.sum(ops.square(_centred(log_p) - wanted), axis=-1) for log_p, wanted in pairs)]

    def constants(self, target: Target, x: Array, y: Array, seed: int) -> Sequence[Sequence[Array]]:
        """Two models for each row: one of its likeliest other class, one of any."""
        _, reference, opinion = target.detector.score(x, return_predictions=True)
        log_views = [np.log(np.maximum(view, 1e-9)) for view in (reference, opinion)]
        views = [np.maximum(v - v.mean(axis=1, keepdims=True), -FLOOR).astype("float32") for v in log_views]
        accepted = target.verdict(x)
        pool = np.flatnonzero((accepted.reference == y) & ~accepted.flagged)
        pool = pool if len(pool) else np.arange(len(x))
        rng, likely = np.random.default_rng(seed), _others(target, x, y)
        chosen = [np.array([_one_of(rng, pool, y, y[i], likely[i, 0]) for i in range(len(x))])]
        chosen.append(np.array([_one_of(rng, pool, y, y[i], None) for i in range(len(x))]))
        return [tuple(view[rows] for view in views) for rows in chosen]


FLOOR = 20.0
"""Nats below the mean at which log-probabilities are cut for matching."""


def _centred(log_p: Tensor) -> Tensor:
    return ops.maximum(log_p - ops.mean(log_p, axis=-1, keepdims=True), -FLOOR)


def _without(gradient: Array, other: Array) -> Array:
    """A gradient without its part along another, row by row."""
    a, b = gradient.reshape(len(gradient), -1), other.reshape(len(other), -1)
    along = (a * b).sum(axis=1, keepdims=True) / np.maximum((b * b).sum(axis=1, keepdims=True), 1e-30)
    return np.asarray((a - along * b).reshape(gradient.shape), gradient.dtype)


def _others(target: Target, x: Array, y: Array) -> Array:
    """Of each row the classes other than its own, the classifier's likeliest first: `(n, classes - 1)`."""
    log_p = target.classifier_outputs(x)[0].copy()
    log_p[np.arange(len(x)), y] = -np.inf
    return np.asarray(np.argsort(-log_p, axis=1)[:, :-1])


def _one_of(rng: np.random.Generator, pool: Array, y: Array, own: Any, wanted: Any) -> int:
    """A row of the pool of the class wanted or, failing that, of any other than one's own."""
    fitting = pool[y[pool] == wanted] if wanted is not None else pool[:0]
    fitting = fitting if len(fitting) else pool[y[pool] != own]
    return int(rng.choice(fitting if len(fitting) else pool))
