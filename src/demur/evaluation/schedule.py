"""How many rows each threat is tried on, so that an evaluation ends in time: pure functions of what rows cost."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FEWEST = 50
"""Rows that a threat is tried on at least; without time for them it is left out."""
WORTHWHILE = 1.5
"""By what factor the rows of a threat must grow at least when it is taken up again."""
TINY = 1e-12


class Price(NamedTuple):
    """What it costs to try a threat."""

    most: int
    """Rows that it can be tried on."""
    a_row: float
    """Seconds."""
    start: float = 0.0
    """Seconds before the first row, such as compilation."""
    tried: int = 0
    """Rows that it has been tried on already: neither they nor the start cost anything more."""
    kind: str = ""
    """Threats of one kind are tried on the same rows."""
    weight: float = 1.0
    """How much the figures of the threat matter."""
    for_the_curve: bool = False
    """See `demur.evaluation.result.Threat`."""

    @property
    def fewest(self) -> int:
        """Rows below which the threat is left out."""
        return min(FEWEST, self.most)

    def of(self, rows: int) -> float:
        """Seconds until the threat has been tried on so many rows."""
        return 0.0 if rows <= self.tried else (rows - self.tried) * self.a_row + (0.0 if self.tried else self.start)


def in_order(prices: Sequence[Price]) -> list[int]:
    """The numbers of the threats in the order in which they are tried: cheap for their weight first, curves last."""
    rank = [(price.for_the_curve, price.of(price.fewest) / price.weight) for price in prices]
    return sorted(range(len(prices)), key=rank.__getitem__)


def scheduled(prices: Sequence[Price], seconds: float) -> list[int]:
    """How many rows each threat is tried on within some time: none, or at least `FEWEST` (or all, of fewer).

    1. In their order, threats get `FEWEST` rows, if the time that is left suffices; otherwise they are left out.
    2. The rest of the time goes into more rows, the same for all threats of a kind: in proportion to the square root of
       the kind's weight over what a row costs in all its threats. Of all ways to spend the time, this one makes the
       weighted sum of the figures' variances smallest (Cochran, 1977, *Sampling Techniques*, 5.5).
    3. Threats for a curve get time only if everything else is tried on all rows.

    Examples:
        >>> cheap, dear = Price(400, a_row=0.01, kind="cheap"), Price(400, a_row=0.16, start=2, kind="dear")
        >>> scheduled([dear, cheap], 20), scheduled([dear, cheap], 5)
        ([90, 360], [0, 400])

    Args:
        prices: of each threat.
        seconds: that are left.

    Returns:
        For each threat the rows, those tried already included.
    """
    rows = [price.tried for price in prices]
    order = in_order(prices)
    for for_the_curve in (False, True):
        group = [i for i in order if prices[i].for_the_curve is for_the_curve]
        for i in group:
            cost = prices[i].of(prices[i].fewest)
            if rows[i] < prices[i].fewest and cost <= seconds:
                rows[i], seconds = prices[i].fewest, seconds - cost
        kept = [i for i in group if rows[i]]
        more = _more([prices[i] for i in kept], [rows[i] for i in kept], seconds)
        seconds -= sum((found - rows[i]) * prices[i].a_row for i, found in zip(kept, more, strict=True))
        for i, found in zip(kept, more, strict=True):
            rows[i] = found
        if any(rows[i] < prices[i].most for i in group):
            break
    return rows


def is_worthwhile(price: Price, rows: int) -> bool:
    """Whether to try a threat on so many rows: at all, on all of them, or on notably more than before."""
    return rows > price.tried and (rows == price.most or rows >= WORTHWHILE * price.tried)


def _more(prices: Sequence[Price], rows: Sequence[int], seconds: float) -> list[int]:
    """At least these rows, and as many more as so many seconds allow."""
    if not prices:
        return []
    least, most = np.array(rows, "float64"), np.array([price.most for price in prices], "float64")
    a_row = np.array([price.a_row for price in prices])
    weight = np.array([price.weight for price in prices])
    kinds = np.array([price.kind for price in prices])
    # Of a kind, the threats count that can be tried on more rows.
    same = (kinds[:, None] == kinds) & (least < most)
    share = np.where(same.any(axis=1), np.sqrt((same @ weight) / np.maximum(same @ a_row, TINY)), 1.0)

    def at(level: float) -> npt.NDArray[np.float64]:
        return np.asarray(np.floor(np.clip(level * share, least, most)))

    low, high = 0.0, 1.01 * float((most / share).max())
    for _ in range(50):
        middle = (low + high) / 2
        fits = ((at(middle) - least) * a_row).sum() <= seconds
        low, high = (middle, high) if fits else (low, middle)
    return [int(found) for found in at(low)]
