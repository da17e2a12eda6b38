"""What an attack is: settings in `__init__`, rows in `run`."""

import abc
from collections.abc import MutableMapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from demur.checks import explained, is_number
from demur.errors import InvalidSetting
from demur.evaluation.norms import Norm, size
from demur.evaluation.result import Knowledge
from demur.evaluation.target import Target
from demur.extensions import Registry

Array = npt.NDArray[Any]


class Attacked(NamedTuple):
    """What an attack made of rows."""

    x: Array
    """`(n, *input_shape)`, float32; unchanged where the attack found nothing."""
    late: Array | None = None
    """`(n,)`, whether the guard fell only in the last quarter of the steps: where it often did, more steps would find
    more. None where the attack cannot tell."""


class Attack(abc.ABC):
    """One way to change rows so that a guarded classifier errs. A subclass registers under its `name`.

    Examples:
        >>> sorted(name for name in Attack.registry if name.startswith("PGD"))
        ['PGD', 'PGD L2', 'PGD on both paths', 'PGD on error and score', 'PGD on the defended path']
        >>> attack = Attack.registry["PGD"](epsilon=0.1)
        >>> attack.title, attack.knowledge
        ('PGD 0.1', 'grey-box')

    Args:
        epsilon: the largest change, in the units of `norm`; None for an attack that looks for the smallest change.

    Raises:
        InvalidSetting: `epsilon` is not above 0, is missing, or is given to an attack that takes none.

    Attributes:
        for_the_curve: whether the budget differs from the budget of interest, to show how results depend on it. Such
            attacks are left out where time is short.
        for_a_check: whether a sanity check needs the attack all the same.
    """

    registry: ClassVar[MutableMapping[str, type["Attack"]]] = Registry("demur.attacks", "demur.evaluation.attacks")

    name: ClassVar[str]
    norm: ClassVar[Norm] = "Linf"
    knowledge: ClassVar[Knowledge]
    model: ClassVar[str]
    """The threat model, in a sentence."""
    has_budget: ClassVar[bool] = True
    """Whether changes are limited by `epsilon`; otherwise the attack looks for the smallest."""
    needs_gradients: ClassVar[bool] = True
    passes: ClassVar[int]
    """Roughly how often a row goes forward and back through what is attacked: the cost, until it is measured."""
    for_a_check: bool = False
    most_rows: ClassVar[int | None] = None
    """How many rows it is tried on where there is no time budget; None for all."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            Attack.registry[cls.name] = cls
        if "__init__" in cls.__dict__:
            cls.__init__ = explained(cls.__init__)  # type: ignore[method-assign]

    @explained
    def __init__(self, epsilon: float | None = None) -> None:
        if self.has_budget and not (is_number(epsilon) and epsilon is not None and epsilon > 0):
            raise InvalidSetting(f"{self.name} needs epsilon, a number above 0 in {self.norm}; got {epsilon!r}")
        if not self.has_budget and epsilon is not None:
            raise InvalidSetting(f"{self.name} looks for the smallest change and takes no epsilon; got {epsilon!r}")
        self.epsilon = None if epsilon is None else float(epsilon)
        self.for_the_curve = False

    @abc.abstractmethod
    def run(self, target: Target, x: Array, y: Array, *, seed: int = 0) -> Attacked:
        """Attack rows.

        Args:
            target: what is attacked.
            x: `(n, *input_shape)` float32, within the target's bounds.
            y: `(n,)`, the indices of the true classes, int64.
            seed: of all that the attack draws.
        """

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, for JSON."""
        return {"name": self.name, **{key: value for key, value in vars(self).items() if not key.startswith("_")}}

    @property
    def label(self) -> str:
        """The name without the budget."""
        return self.name

    @property
    def title(self) -> str:
        """Label and budget."""
        return self.label if self.epsilon is None else f"{self.label} {self.epsilon:.3g}"

    def within(self, x: Array, changed: Array, target: Target) -> Array:
        """Changed rows; a row stays as it was where the change is not finite, blank, or larger than the budget."""
        rows = changed.reshape(len(x), -1)
        bad = ~np.isfinite(rows).all(axis=1)
        if rows.shape[1] > 1:
            bad |= (rows == rows[:, :1]).all(axis=1)
        if self.epsilon is not None:
            change = np.where(np.isfinite(changed), changed, x) - x
            rounding = 1e-5 * float(np.abs(x).max(initial=0.0))
            bad |= size(change, self.norm) > self.epsilon * 1.001 + rounding
        kept = np.where(bad.reshape(-1, *[1] * (x.ndim - 1)), x, changed)
        return np.asarray(target.clipped(kept), "float32")
