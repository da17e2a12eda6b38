"""The value that rows become at the door: length, slices, batches, casting, padding, whatever they came as."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from demur.errors import NonFinite, ShapeMismatch, WrongType
from demur.rows.layout import Columns, Field
from demur.rows.rows import Rows
from demur.rows.texts import Text

X = np.arange(33, dtype="float64").reshape(11, 3)
FRAME = {"a": range(11), "b": [f"row {i}" for i in range(11)]}
KINDS = {
    "array": (X, Field((3,))),
    "whole numbers": (X.astype("int64"), Field((3,))),
    "a tuple": ((X, X[:, 0]), (Field((3,)), Field((), "float64"))),
    "a dict": ({"x": X, "y": X[:, :2]}, {"x": Field((3,)), "y": Field((2,), None)}),
    "pandas": (pd.DataFrame(FRAME), Columns(("a", "b"))),
    "polars": (pl.DataFrame(FRAME), Columns(("a", "b"))),
    "sparse": (scipy.sparse.csr_matrix(X), Field((3,))),
    "texts": ([f"text {i}" for i in range(11)], Text("list")),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind):
    X, layout = KINDS[kind]
    return Rows.of(X, layout)


def numbers(rows):
    """The number of each row, however it is held."""
    if rows.is_table:
        return np.asarray(rows.raw["a"]).tolist()
    first = rows.arrays[0]
    first = np.asarray(first)
    return [int(text.split()[1]) for text in first] if first.dtype.kind == "O" else (first[:, 0] // 3).tolist()


@each_kind
@pytest.mark.parametrize(
    "chosen",
    [slice(0, 4), slice(7, None), slice(0, 11), slice(None), np.array([5, 2, 2]), np.arange(11) % 2 == 1],
    ids=["first", "last", "all", "unbounded", "by number", "by mask"],
)
def test_what_is_chosen_is_what_numpy_would_choose(kind, chosen):
    rows = made(kind)
    found = rows[chosen]
    assert numbers(found) == np.arange(11)[chosen].tolist()
    assert len(found) == len(np.arange(11)[chosen])
    assert found.layout is rows.layout


@each_kind
def test_batches_are_all_rows_in_order_and_can_be_joined(kind):
    rows = made(kind)
    parts = list(rows.batches(4))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert numbers(Rows.joined(parts)) == list(range(11))
    assert numbers(rows.some(3)) == [0, 5, 10]
    assert numbers(rows.copied()) == list(range(11))


def test_what_is_taken_of_a_sparse_matrix_is_dense():
    assert isinstance(made("sparse")[:].raw, np.ndarray)
    assert not isinstance(made("sparse").raw, np.ndarray)


def test_cast_gives_the_types_of_the_layout_and_copies_only_what_differs():
    rows = made("a dict")
    found = rows.cast().raw
    assert found["x"].dtype == "float32"
    assert found["y"] is rows.raw["y"]
    assert made("whole numbers").cast().raw.dtype == "float32"
    assert made("pandas").cast().raw is KINDS["pandas"][0]
    right = Rows.of(X.astype("float32"), Field((3,)))
    assert right.cast().raw is right.raw


def test_padding_repeats_the_last_row_up_to_a_power_of_two_or_the_batch_size():
    rows = made("a tuple")
    assert [len(rows[:n].padded(8)) for n in (1, 3, 5, 8, 11)] == [1, 4, 8, 8, 11]
    assert [len(rows[:n].padded(6)) for n in (5, 6)] == [6, 6]
    wide, narrow = rows[:3].padded(8).raw
    np.testing.assert_array_equal(wide[3], X[2])
    assert narrow[3] == X[2, 0]


def test_rows_are_finite_if_all_their_numbers_are_as_float32():
    wide, narrow = X.copy(), X[:, 0].copy()
    wide[2, 1], narrow[5], wide[7, 0] = np.nan, np.inf, 1e39
    found = Rows.of((wide, narrow), KINDS["a tuple"][1], finite=False).are_finite()
    assert np.flatnonzero(~found).tolist() == [2, 5, 7]
    assert made("whole numbers").are_finite().all()
    with pytest.raises(NonFinite, match="2, 7"):
        Rows.of(wide, Field((3,)))


def test_rows_can_be_checked_again_and_for_another_layout():
    rows = made("array")
    assert Rows.of(rows, Field((3,))).raw is rows.raw
    with pytest.raises(ShapeMismatch, match=r"must have shape \(n, 4\)"):
        Rows.of(rows, Field((4,)))
    with pytest.raises(WrongType, match="must be a table"):
        Rows.of(rows, Columns(("a",)))


@each_kind
def test_the_layout_can_be_seen(kind):
    X, layout = KINDS[kind]
    seen = Rows.unchecked(X)
    assert type(seen.layout) is type(layout)
    assert len(seen) == 11
