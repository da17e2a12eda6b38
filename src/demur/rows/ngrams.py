"""Texts as numbers without a vocabulary: hashed n-grams of characters (Weinberger et al., 2009, arXiv:0902.2206).

NumPy only, nothing to download, and the same in every process: Python's own `hash` of strings is not.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

SIZES = (2, 3, 4)
"""Characters in an n-gram: words need no boundaries, and a wrong letter leaves most n-grams of a word as they are."""
AT_ONCE = 500_000
"""Characters that are hashed together, of at most so many texts, so that memory stays small."""
TEXTS_AT_ONCE = 256
LENGTH = 8.0
"""Euclidean length of each text's numbers."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio of 2^64, as in Fibonacci hashing


def counts(texts: Sequence[str], width: int) -> npt.NDArray[np.float32]:
    """How often each hashed n-gram is in each text: `(n, width)`. Letter case and runs of white space do not count."""
    found = np.zeros((len(texts), width), "float32")
    start = 0
    for part in _parts(texts):
        found[start : start + len(part)] = _counted(part, width)
        start += len(part)
    return found


def rarity(texts: Sequence[str], width: int) -> npt.NDArray[np.float64]:
    """The weight of each n-gram, `(width,)`: the smoothed inverse of the share of the texts that have it."""
    frequency = np.zeros(width, "int64")
    for part in _parts(texts):
        frequency += (_counted(part, width) > 0).sum(axis=0)
    return np.asarray(np.log((1 + len(texts)) / (1 + frequency)) + 1)


def weighted(counted: npt.NDArray[np.float32], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Counts as a network takes them: damped, weighted, and of one length for texts of any length."""
    scaled = np.log1p(counted) * weights.astype("float32")
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(LENGTH * scaled / np.where(lengths > 0, lengths, 1), "float32")


def _parts(texts: Sequence[str]) -> Iterable[list[str]]:
    """The texts, tidied, a few at a time."""
    part: list[str] = []
    size = 0
    for text in texts:
        words = text.lower().split()
        tidied = f" {' '.join(words)} " if words else ""
        if part and (size + len(tidied) > AT_ONCE or len(part) == TEXTS_AT_ONCE):
            yield part
            part, size = [], 0
        part.append(tidied)
        size += len(tidied)
    if part:
        yield part


def _counted(part: list[str], width: int) -> npt.NDArray[np.int64]:
    letters = np.frombuffer("".join(part).encode("utf-32-le", "surrogatepass"), "<u4").astype("uint64")
    row = np.repeat(np.arange(len(part)), [len(text) for text in part])
    found = np.zeros(len(part) * width, "int64")
    for size in SIZES:
        hashed = np.zeros(max(0, len(letters) - size + 1), "uint64")
        for place in range(size):
            hashed = (hashed ^ letters[place : place + len(hashed)]) * _FACTOR
            hashed ^= hashed >> np.uint64(29)
        within = row[: len(hashed)] == row[size - 1 :]  # and not from one text into the next
        places = row[: len(hashed)] * width + (hashed % np.uint64(width)).astype("int64")
        found += np.bincount(places[within], minlength=len(found))
    return found.reshape(len(part), width)
