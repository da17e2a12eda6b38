"""Random numbers for rows; each row has its own generator. NumPy only."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from demur.checks import check_whole, chosen
from demur.errors import InvalidSetting

Numbers = npt.NDArray[np.float32]

SEVERITIES = (1, 2, 3, 4, 5)


class Draws:
    """Random numbers that depend on the name of the corruption, the seed and the number of a row.

    They do not depend on the batch, nor on the severity: a higher severity does more of the same to a row.
    """

    def __init__(self, name: str, seed: int, start: int, rows: int) -> None:
        self.key, self.start, self.rows = (seed, crc32(name.encode())), start, rows

    @cached_property
    def generators(self) -> list[np.random.Generator]:
        """A generator for each row."""
        return [np.random.default_rng((*self.key, self.start + row)) for row in range(self.rows)]

    @cached_property
    def shared(self) -> np.random.Generator:
        """A generator for what is the same in all rows."""
        return np.random.default_rng(self.key)

    def normal(self, *shape: int) -> Numbers:
        """Standard normal: `(rows, *shape)`."""
        return np.stack([rng.standard_normal(shape, "float32") for rng in self.generators])

    def uniform(self, *shape: int, low: float = 0, high: float = 1) -> Numbers:
        """Between `low` and `high`: `(rows, *shape)`."""
        share = np.stack([rng.random(shape, "float32") for rng in self.generators])
        return np.asarray(low + (high - low) * share, "float32")

    def poisson(self, mean: Numbers) -> Numbers:
        """Counts about a mean, `(rows, ...)`."""
        pairs = zip(self.generators, mean, strict=True)
        return np.stack([rng.poisson(row).astype("float32") for rng, row in pairs])


def check_asked(name: str, known: Mapping[str, Any], severity: int, seed: int, start: int) -> str:
    """The name of the corruption as it is known; InvalidSetting where an argument is out of range."""
    if not isinstance(severity, int | np.integer) or isinstance(severity, bool) or severity not in SEVERITIES:
        raise InvalidSetting(f"severity is a whole number from 1 to 5; got {severity!r}")
    check_whole("seed", seed, 0)
    check_whole("start", start, 0)
    return chosen(name, known, "a corruption")
