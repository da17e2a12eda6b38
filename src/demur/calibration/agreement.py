"""How well a companion agrees with its classifier on normal rows. NumPy only."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from demur import checks
from demur.checks import is_number
from demur.errors import InvalidSetting

SHARE = 0.1
"""Of the rows, held out by default."""
MOST = 1000
"""Rows held out by default, at most: they tell the agreement to about three hundredths."""
FEWEST = 50
"""With fewer rows than this, `fit` trains on all rows."""
POOR = 0.5
"""Agreement beyond chance below which `fit` warns; docs/calibration.md says what it costs."""


@dataclass(frozen=True)
class Agreement:
    """On how many rows the companion predicts the class of the classifier.

    Examples:
        >>> print(Agreement.of(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]), held_out=True))
        agreement 0.750 on 4 held-out rows

    Attributes:
        share: of the rows, from 0 to 1.
        rows: how many rows were looked at.
        beyond_chance: Cohen's kappa (Cohen, 1960): 1 for full agreement, 0 for the agreement of random predictions that
            have each class as often. None where both always predict one and the same class.
        held_out: whether the companion was not trained on the rows.
    """

    share: float
    rows: int
    beyond_chance: float | None
    held_out: bool

    @classmethod
    def of(cls, reference: npt.NDArray[Any], opinion: npt.NDArray[Any], *, held_out: bool) -> Self:
        """The agreement of classes, `(n,)` each."""
        share = float(np.mean(reference == opinion))
        chance = chance_of(reference, opinion)
        beyond = (share - chance) / (1 - chance) if chance < 1 else None
        return cls(share, len(reference), beyond, held_out)

    def __str__(self) -> str:
        return f"agreement {self.share:.3f} on {self.rows} {'held-out' if self.held_out else 'training'} rows"

    @property
    def is_poor(self) -> bool:
        """Whether agreement beyond chance is below `POOR` by more than two standard errors, as far as is known."""
        if self.beyond_chance is None:
            return False
        unchanced = (1 - self.share) / max(1 - self.beyond_chance, 1e-9)  # 1 - what chance agrees on
        error = math.sqrt(self.share * (1 - self.share) / self.rows) / max(unchanced, 1e-9)
        return self.beyond_chance + 2 * error < POOR


def chance_of(predicted: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """On which share of the rows classes `(n,)` agree, on average, if the rows of one of both are shuffled."""
    return sum(float(np.mean(predicted == c)) * float(np.mean(labels == c)) for c in np.unique(labels))


def warn_if_poor(agreement: Agreement, companion: str, argument: str | None) -> None:
    """Warn if companion and classifier disagree on so many normal rows that no threshold can tell attacks from them."""
    if not agreement.is_poor:
        return
    where = "held-out" if agreement.held_out else "training"
    larger = f"a larger {companion} as {argument}=" if argument else f"a larger {companion}"
    checks.warn(
        f"the {companion} agrees with the classifier on only {agreement.share:.1%} of {agreement.rows} {where} rows, "
        f"{agreement.beyond_chance:.2f} beyond chance: a threshold would lie among ordinary disagreements, where "
        f"attacks are not seen. Call fit again with more epochs=, on more rows, or pass {larger}",
    )


def split(n: int, share: float | None, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the rows to train on and of the rows to hold out, each ascending, of n rows.

    The share to hold out is from 0 to below 1; None for a tenth, at most `MOST` rows, and none of fewer than `FEWEST`.
    InvalidSetting is raised for other shares, and if nothing is left to train on.
    """
    if share is None:
        count = min(MOST, round(SHARE * n)) if n >= FEWEST else 0
    else:
        if not (is_number(share) and 0 <= share < 1):
            raise InvalidSetting(f"validation_split is a share of the rows, from 0 to below 1; got {share!r}")
        count = round(share * n)
    if count >= n:
        raise InvalidSetting(f"validation_split={share} of {n} rows leaves none to train on: pass a smaller share")
    is_aside = np.zeros(n, bool)
    is_aside[np.random.default_rng([seed, n]).permutation(n)[:count]] = True
    return np.flatnonzero(~is_aside), np.flatnonzero(is_aside)
