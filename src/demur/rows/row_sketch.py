"""Hashes of rows: which rows are the same, and how many of some rows are among others. NumPy only."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.rows.layout import Field
from demur.rows.rows import CHECK_ROWS, Rows
from demur.rows.texts import is_missing

KEPT = 2**16
"""Distinct hashes that a sketch keeps: half a megabyte."""
LARGEST = 2**64 - 1
NUMBERS = 2**14
"""Of a row, so many numbers at most are hashed, spread evenly over it."""
FLOATS = 3e38
"""The largest number that float32 holds, about."""

Hashes = npt.NDArray[np.uint64]


def row_keys(rows: Rows) -> list[bytes]:
    """What tells one row from another, whatever rows are around it: 20 bytes each."""
    if rows.is_table:
        table = rows.raw
        names = repr([str(name) for name in table.columns]).encode()
        records = table.itertuples(index=False, name=None) if hasattr(table, "itertuples") else table.iter_rows()
        return [hashlib.blake2b(names + repr(tuple(map(_plain, r))).encode(), digest_size=20).digest() for r in records]
    # Objects, such as texts, by what they are: an array of them holds nothing but their addresses.
    arrays = [
        np.array([repr(_plain(value)).encode() for value in array], object)
        if array.dtype.kind == "O"
        else np.ascontiguousarray(array)
        for array in rows.arrays
    ]
    start = hashlib.blake2b(repr([(str(a.dtype), a.shape[1:]) for a in arrays]).encode(), digest_size=20)
    keys = []
    for i in range(len(arrays[0])):
        digest = start.copy()
        for array in arrays:
            digest.update(array[i] if array.dtype.kind == "O" else array[i].tobytes())
        keys.append(digest.digest())
    return keys


def row_hashes(rows: Rows) -> Hashes:
    """A hash of each row, `(n,)`: the same whatever type its numbers have, as long as they are the same in float32."""
    keys = [key[:8] for batch in rows.batches(CHECK_ROWS) for key in row_keys(_canonical(batch))]
    return np.frombuffer(b"".join(keys), "<u8").astype("uint64")


def _canonical(rows: Rows) -> Rows:
    """Rows as arrays that are equal where the rows are."""
    if rows.is_table:
        columns = [_codes(np.asarray(rows.raw[name])) for name in rows.raw.columns]
        codes = np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), "uint64")
        return Rows(codes, Field(codes.shape[1:], None))
    return rows.mapped(lambda array: _numbers(np.asarray(array)) if array.dtype.kind in "buif" else array)


def _numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    array = array.reshape(len(array), -1)
    if array.shape[1] > NUMBERS:
        array = array[:, :: -(-array.shape[1] // NUMBERS)]
    with np.errstate(over="ignore"):
        found = array.astype("float32") + np.float32(0)  # of the two zeros there are, the positive one
    found[np.isnan(found)] = np.nan
    return found


def _codes(column: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A table's column as numbers that are equal where its values are: `(n,)`."""
    if column.dtype.kind in "buif":
        return _numbers(column).view("uint32")[:, 0].astype("uint64")
    known: dict[Any, int] = {}
    return np.array([_code(value, known) for value in column.tolist()], "uint64")


def _code(value: Any, known: dict[Any, int]) -> int:
    if is_missing(value):
        value = np.nan
    if isinstance(value, int | float) and not abs(value) > FLOATS:  # one of a column that lacks values, perhaps
        return int(np.float32(value).view("uint32"))
    text = str(value)
    if text not in known:
        known[text] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    return known[text]


def _plain(value: Any) -> Any:
    """A value as Python writes it, whether NumPy or Python holds it."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class RowSketch:
    """The smallest hashes of rows, at most 65,536: a bottom-k sketch (Cohen & Kaplan, 2007).

    They are those of a sample of the distinct rows, so the share of some rows that is among others can be told from
    the two sketches, however many rows there were. No row can be read off them; whoever has a row can tell whether it
    was there.

    Examples:
        >>> known, new = RowSketch.of(Rows.unchecked(X_train)), RowSketch.of(Rows.unchecked(X_new))
        >>> known.shared_with(RowSketch.of(Rows.unchecked(X_train[:20]))), known.shared_with(new)
        ((20, 20), (0, 40))

    Attributes:
        hashes: `(m,)`, ascending.
        counts: `(m,)`, how many rows have each.
        rows: how many rows there were.
    """

    hashes: Hashes
    counts: npt.NDArray[np.int64]
    rows: int

    @classmethod
    def of(cls, rows: Rows) -> "RowSketch":
        """The sketch of rows."""
        return cls.of_hashes(row_hashes(rows))

    @classmethod
    def of_hashes(cls, hashes: Hashes) -> "RowSketch":
        """The sketch of rows with these hashes."""
        found, counts = np.unique(hashes, return_counts=True)
        return cls(found[:KEPT], counts[:KEPT].astype("int64"), len(hashes))

    @property
    def limit(self) -> int:
        """Of the rows whose hashes are no larger, all are known."""
        return LARGEST if len(self.hashes) < KEPT else int(self.hashes[-1])

    @property
    def repeated(self) -> float:
        """The share of the rows that equal another one of them."""
        counts = self.counts
        return float(counts[counts > 1].sum() / max(1, counts.sum()))

    def and_others(self, other: "RowSketch") -> "RowSketch":
        """The sketch of these rows and of others: a row that is in both has come twice."""
        return self._joined(other, np.add, self.rows + other.rows)

    def and_again(self, other: "RowSketch") -> "RowSketch":
        """The sketch of rows that may be the same in both, as when training goes on with them."""
        return self._joined(other, np.maximum, max(self.rows, other.rows))

    def distinct(self) -> "RowSketch":
        """The sketch of these rows without repetitions."""
        return RowSketch(self.hashes, np.ones_like(self.counts), self.rows)

    def shared_with(self, other: "RowSketch") -> tuple[int, int]:
        """How many rows of the other sketch are among these rows, and of how many that is known."""
        known = other.hashes <= np.uint64(min(self.limit, other.limit))
        shared = known & np.isin(other.hashes, self.hashes)
        return int(other.counts[shared].sum()), int(other.counts[known].sum())

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays, for saving; no row is counted more often than 255 times."""
        counts = np.minimum(self.counts, 255).astype("uint8")
        return {"hashes": self.hashes, "counts": counts, "rows": np.asarray(self.rows)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "RowSketch":
        """The sketch that `as_arrays` described."""
        return cls(arrays["hashes"], arrays["counts"].astype("int64"), int(arrays["rows"]))

    def _joined(self, other: "RowSketch", count: np.ufunc, rows: int) -> "RowSketch":
        hashes, place = np.unique(np.concatenate([self.hashes, other.hashes]), return_inverse=True)
        counts = np.zeros((2, len(hashes)), "int64")
        counts[0, place[: len(self.hashes)]] = self.counts
        counts[1, place[len(self.hashes) :]] = other.counts
        few = min(KEPT, int(np.searchsorted(hashes, np.uint64(min(self.limit, other.limit)), side="right")))
        return RowSketch(hashes[:few], count(*counts)[:few], rows)
