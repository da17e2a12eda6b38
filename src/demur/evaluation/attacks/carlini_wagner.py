"""Carlini and Wagner's attack, which looks for the smallest change in L2, with a step and a constant for each row."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from demur.checks import check_whole
from demur.evaluation.attacks.base import Array, Attack, Attacked
from demur.evaluation.attacks.climbing import inward, lead
from demur.evaluation.attacks.foolbox_attacks import GREY
from demur.evaluation.gradients import differentiated
from demur.evaluation.norms import size
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Target

MARGIN = 0.01
"""Nats beyond the confidence asked for, so that rounding in another batch or machine does not undo a success."""
CROSSINGS = 20
"""Newton steps at most."""
STRIDE = 0.2
"""Length of the first steps, as a share of the change that is needed."""
BETAS = 0.9, 0.999
"""Decay of Adam's two averages (Kingma & Ba, 2015, arXiv:1412.6980)."""

Look = Callable[[Array], tuple[Array, Array]]
"""`x -> nats that the wrong class lacks (n,), gradient of the lead of the wrong class (n, *input_shape)`."""


class CarliniWagner(Attack):
    """The smallest change that just crosses the boundary (Carlini & Wagner, 2017, arXiv:1608.04644).

    Minimises `|change|^2 + c max(0, what the wrong class lacks)` with Adam for several constants `c`; clipping keeps
    rows within the bounds (the first of the paper's three ways). No step suits all rows: on CIFAR-10 the boundary is
    ten times nearer than on MNIST. So a few Newton steps across the boundary first measure the distance of each row;
    steps of the search are a share of that distance, and `c` begins where both terms balance at the boundary.

    Examples:
        >>> x = CarliniWagner(steps=20).run(Target(detector), X_new[:4], y_new[:4]).x
        >>> x.shape
        (4, 8, 8, 1)

    Args:
        epsilon: None: the attack looks for the smallest change.
        steps: of Adam, for each constant.
        searches: how many constants are tried.

    Raises:
        InvalidSetting: `epsilon` is given, or one of the others is not a whole number of at least 1.
    """

    name, norm, has_budget = "C&W", "L2", False
    knowledge: ClassVar[Knowledge] = "grey-box"
    model = GREY
    confidence: ClassVar[float] = 0.0
    """Nats of log-probability by which the wrong class shall lead."""

    def __init__(self, epsilon: None = None, *, steps: int = 100, searches: int = 4) -> None:
        super().__init__(epsilon)
        check_whole("steps", steps, 1)
        check_whole("searches", searches, 1)
        self.steps, self.searches = steps, searches
        self.passes = steps * searches + CROSSINGS  # type: ignore[misc]

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "confidence": self.confidence}

    def run(self, target: Target, x: Array, y: Array, *, seed: int = 0) -> Attacked:
        labels = y.astype("int32")
        step = target.once("lead", lambda: differentiated(lambda x, y: [lead(target.log_probabilities(x), y)]))

        def look(now: Array) -> tuple[Array, Array]:
            target.check_time()
            (ahead,), (gradient,) = step(now, labels)
            return self.confidence + MARGIN - ahead, gradient

        nearest = Nearest(x)
        lacking, distance = crossed(target, look, x, nearest)
        # On the boundary both terms have gradients of one length: 2 d = c g, where g is about lacking / d.
        constant = 2 * distance**2 / np.maximum(lacking, MARGIN)
        low, high = np.zeros(len(x)), np.full(len(x), np.inf)
        for _ in range(self.searches):
            distance = np.where(np.isfinite(nearest.distance), nearest.distance, 2 * distance)
            successful = searched(target, look, x, constant, distance, self.steps, nearest)
            low, high = np.where(successful, low, constant), np.where(successful, constant, high)
            constant = np.where(np.isinf(high), 10 * constant, (low + high) / 2)
        return Attacked(self.within(x, nearest.x, target))


class ConfidentCarliniWagner(CarliniWagner):
    """The smallest change after which the wrong class leads by 5 nats of log-probability."""

    name = "C&W, confident"
    confidence = 5.0


class Nearest:
    """For each row, the smallest successful change so far."""

    def __init__(self, x: Array) -> None:
        self.before, self.x, self.distance = x, x.copy(), np.full(len(x), np.inf)

    def keep(self, now: Array, successful: Array) -> None:
        """Take from `now` the successful rows that are nearer than the nearest so far."""
        distance = size(now - self.before, "L2")
        nearer = successful & (distance < self.distance)
        self.x[nearer], self.distance[nearer] = now[nearer], distance[nearer]


def crossed(target: Target, look: Look, x: Array, nearest: Nearest) -> tuple[Array, Array]:
    """Newton steps along the gradient until the wrong class leads: what it lacked at first, and the distance."""
    now, (before, gradient) = x, look(x)
    lacking = before
    nearest.keep(now, lacking <= 0)
    for _ in range(CROSSINGS):
        if (lacking <= 0).all():
            break
        gradient = inward(gradient, now, target.bounds)
        slope = np.maximum(size(gradient, "L2"), 1e-30)
        length = np.minimum(1.02 * np.maximum(lacking, 0) / slope, diagonal(target, x))
        now = target.clipped(now + by_row(length, x) * (gradient / by_row(slope, x))).astype("float32")
        lacking, gradient = look(now)
        nearest.keep(now, lacking <= 0)
    return before, np.where(np.isfinite(nearest.distance), nearest.distance, size(now - x, "L2"))


def searched(
    target: Target, look: Look, x: Array, constant: Array, distance: Array, steps: int, nearest: Nearest
) -> Array:
    """Adam from the unchanged rows, with a constant for each row; returns on which rows it succeeded."""
    # Above 0 also where a row is wrong already or the gradient is 0.
    unit = by_row(np.maximum(distance, 1e-6 * diagonal(target, x)) / np.sqrt(x[0].size), x)
    mean, square, now, successful = np.zeros_like(x), np.zeros_like(x), x, np.zeros(len(x), bool)
    for i in range(steps):
        lacking, gradient = look(now)
        nearest.keep(now, lacking <= 0)
        successful |= lacking <= 0
        # In units of the distance, so that nothing depends on the units of the rows.
        slope = (2 * (now - x) - by_row(np.where(lacking > 0, constant, 0), x) * gradient) / unit
        mean = BETAS[0] * mean + (1 - BETAS[0]) * slope
        square = BETAS[1] * square + (1 - BETAS[1]) * slope**2
        step = mean / (1 - BETAS[0] ** (i + 1)) / (np.sqrt(square / (1 - BETAS[1] ** (i + 1))) + 1e-8)
        stride = STRIDE * (0.5 * (1 + np.cos(np.pi * i / steps)) + 0.02)
        now = target.clipped(now - stride * unit * step).astype("float32")
    return successful


def diagonal(target: Target, x: Array) -> float:
    """The largest distance of two rows within the bounds."""
    low, high = target.bounds
    return float((high - low) * np.sqrt(x[0].size)) or 1.0


def by_row(values: Array, x: Array) -> Array:
    """One number for each row, in a shape to be multiplied with rows."""
    return np.asarray(values, "float32").reshape(-1, *[1] * (x.ndim - 1))
