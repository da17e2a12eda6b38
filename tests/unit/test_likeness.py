"""Made-up rows that tell a classifier from another."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from demur.classifiers.likeness import Probe
from demur.rows.arrays import is_table
from demur.rows.layout import flat
from demur.rows.rows import Rows

RNG = np.random.default_rng(0)
FRAME = {
    "a": RNG.normal(size=50),
    "whole": RNG.integers(0, 3, 50),
    "kind": ["low", "high"] * 25,
    "is": [True, False] * 25,
}
ROWS = {
    "table": RNG.normal(5, 2, (50, 4)).astype("float32"),
    "images": RNG.integers(0, 256, (20, 8, 8, 1), dtype="uint8"),
    "tokens": RNG.integers(0, 100, (20, 6)),
    "several": (RNG.normal(size=(20, 3)), RNG.integers(0, 9, (20, 2))),
    "named": {"ids": RNG.integers(0, 9, (20, 2)), "mask": np.ones((20, 2), bool)},
    "pandas": pd.DataFrame(FRAME).astype({"kind": "category"}),
    "pandas with text": pd.DataFrame(FRAME).assign(note=[f"note {i}" for i in range(50)]),
    "pandas with numbers for names": pd.DataFrame(RNG.normal(size=(9, 2))),
    "pandas that lacks values": pd.DataFrame({"a": [1.5, np.nan, 3.0] * 5, "b": ["x", None, "y"] * 5}),
    "polars": pl.DataFrame(FRAME),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=list(ROWS))
def test_made_up_rows_are_such_rows_and_are_kept(rows):
    probe = Probe.like(Rows.unchecked(rows))
    probe.answers = RNG.random((32, 3)).astype("float32")
    again = Probe.from_arrays(probe.as_arrays())
    assert type(again.rows) is type(rows)
    for kept, made, given in zip(_parts(again.rows), _parts(probe.rows), _parts(rows), strict=True):
        assert kept.dtype == made.dtype == given.dtype
        assert (np.asarray(kept) == np.asarray(made)).all()
        if np.asarray(given).dtype.kind in "iuf":
            assert np.nanmin(np.asarray(given)) <= np.min(np.asarray(made))
            assert np.max(np.asarray(made)) <= np.nanmax(np.asarray(given))
    assert not again.differs(probe.answers + 1e-6)
    assert again.differs(probe.answers + 1e-3)
    assert again.differs(probe.answers[:, :2])


def _parts(rows):
    return [rows[name] for name in rows.columns] if is_table(rows) else flat(rows)


def test_numbers_are_not_those_of_a_row():
    rows = RNG.normal(size=(50, 4))
    assert not np.isin(Probe.like(Rows.unchecked(rows)).rows[1:-1], rows).any(axis=1).all()


def test_what_cannot_be_made_up_is_not():
    assert Probe.like(Rows.unchecked(np.array(["some text", "more of it"]))) is None
    assert Probe.like(Rows.unchecked(np.zeros((2, 1024, 1024, 3)))) is None
    assert Probe.like(Rows.unchecked(pd.DataFrame({"when": pd.date_range("2026-01-01", periods=4)}))) is None
