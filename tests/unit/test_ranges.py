"""Rows on another scale or in another order are told from rows that are like those before, or have drifted."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from demur.evaluation.corruptions import TABLE_CORRUPTIONS, corrupt_table
from demur.rows.layout import Field
from demur.rows.ranges import difference, ranges_of
from demur.rows.rows import Rows

UNITS = ("unit change", "column swap")
"""Corruptions that are a change of scale."""


def ranges(X, **options):
    return ranges_of(Rows.unchecked(X), **options)


def halves(load):
    X = load(return_X_y=True)[0]
    order = np.random.default_rng(0).permutation(len(X))
    return X[order[::2]], X[order[1::2]]


def images(n=400, seed=0):
    """Smooth pictures in colour, bluer than they are red, with dark and bright places; in [0, 1]."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.linspace(0, 3, 12)[:, None] * rng.normal(0, 2, (n, 1, 1)) + np.linspace(0, 3, 12))
    light = rng.normal(0.5, 0.15, (n, 1, 1, 3)) + np.array([-0.1, 0, 0.1])
    return np.clip(light + 0.45 * waves[..., None] + rng.normal(0, 0.05, (n, 12, 12, 3)), 0, 1).astype("float32")


def standardised(x):
    return (x - 0.5) / 0.3


SCALES = {
    "0 to 1": lambda x: x,
    "0 to 255": lambda x: np.round(255 * x).astype("uint8"),
    "-1 to 1": lambda x: 2 * x - 1,
    "standardised": standardised,
}
UNTOLD = {("-1 to 1", "standardised")}
"""They differ by less than rows that have drifted."""


@pytest.mark.parametrize("before", SCALES)
def test_images_on_another_scale_are_told(before):
    known = ranges(SCALES[before](images()))
    for now, scaled in SCALES.items():
        said = difference(known, ranges(scaled(images(60, seed=1))))
        assert (said is None) == (before == now or (before, now) in UNTOLD), (now, said)


def test_images_that_have_drifted_are_not_told():
    known, new = ranges(images()), images(60, seed=1)
    drifted = {
        "dark": 0.3 * new,
        "bright": np.clip(new + 0.4, 0, 1),
        "pale": 0.5 + 0.15 * (new - 0.5),
        "noisy": new + np.random.default_rng(0).normal(0, 0.3, new.shape),
        "red": np.clip(new + np.array([0.3, 0, 0]), 0, 1),
        "grey": np.repeat(new.mean(axis=-1, keepdims=True), 3, axis=-1),
    }
    assert {name: difference(known, ranges(rows)) for name, rows in drifted.items()} == dict.fromkeys(drifted)


def test_channels_in_another_order_are_told():
    known, new = ranges(images()), images(200, seed=1)
    said = difference(known, ranges(new[..., ::-1]))
    assert said.startswith("the channels are in another order than those of the rows of fit, as RGB and BGR are")
    assert difference(known, ranges(new)) is None
    first = np.moveaxis(new, -1, 1)
    known = ranges(np.moveaxis(images(), -1, 1), channels_first=True)
    assert difference(known, ranges(first, channels_first=True)) is None
    assert "another order" in difference(known, ranges(first[:, ::-1], channels_first=True))


@pytest.mark.parametrize("load", [load_wine, load_digits, load_breast_cancer])
def test_standardised_tables_are_told_from_raw_ones(load):
    before, now = halves(load)
    mean, deviation = before.mean(axis=0), np.where(before.std(axis=0) > 0, before.std(axis=0), 1)
    assert difference(ranges(before), ranges(now)) is None
    assert "less than" in difference(ranges(before), ranges((now - mean) / deviation)) or load is load_breast_cancer
    assert difference(ranges((before - mean) / deviation), ranges(now)) is not None


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_a_column_in_another_unit_is_told_and_named(load):
    before, now = halves(load)
    for factor in (25.4, 1000, 1 / 60):
        other = now.copy()
        other[:, 3] *= factor
        said = difference(ranges(before), ranges(other))
        assert said.startswith("column 3 varies"), said
        table = pd.DataFrame(other).rename(columns=lambda i: f"c{i}").assign(kind="a")
        known = ranges(pd.DataFrame(before).rename(columns=lambda i: f"c{i}").assign(kind="b"))
        assert difference(known, ranges(table)).startswith("column 'c3' varies")


def test_a_table_that_has_drifted_is_not_told():
    before, now = halves(load_breast_cancer)
    for name in sorted(set(TABLE_CORRUPTIONS) - {*UNITS, "category shift"}):
        rows = np.asarray(corrupt_table(now, name=name, severity=5, reference=before))
        assert difference(ranges(before), ranges(rows)) is None, name


def test_few_rows_and_columns_that_hardly_ever_vary_say_nothing():
    rng = np.random.default_rng(0)
    rows = np.stack([rng.random(4000) < 0.01, rng.standard_cauchy(4000), np.full(4000, 7.0)], axis=1)
    known = ranges(rows[:2000])
    for n in (1, 5, 50, 2000):
        assert difference(known, ranges(rows[2000 : 2000 + n])) is None
    assert difference(known, ranges(rows[:10] * 1000)) is None


def test_rows_of_several_arrays_are_told_by_the_array():
    rng = np.random.default_rng(0)
    layout = {"image": Field((8, 8, 1)), "about": Field((2,))}
    rows = {"image": rng.random((300, 8, 8, 1)), "about": rng.normal(size=(300, 2))}
    known = ranges_of(Rows(rows, layout))
    assert difference(known, ranges_of(Rows(rows, layout))) is None
    said = difference(known, ranges_of(Rows({**rows, "image": 255 * rows["image"]}, layout)))
    assert said.startswith("the numbers of 'image' lie between 0 and 255")
    assert "column 1 of 'about'" in difference(
        known, ranges_of(Rows({**rows, "about": rows["about"] * [1, 100]}, layout))
    )


def test_batches_of_one_kind_are_not_on_another_scale():
    """What is judged comes from one hour, or one camera: it varies less, and its colours are others."""
    before, now = halves(load_breast_cancer)
    known = ranges(before)
    batches = [now[np.argsort(now[:, column])][start : start + 64] for column in range(30) for start in (0, 100, 200)]
    assert any(difference(known, ranges(rows)) for rows in batches)
    assert not any(difference(known, ranges(rows), may_be_alike=True) for rows in batches)
    pictures = images(1000, seed=1)
    reddest = pictures[np.argsort((pictures[..., 2] - pictures[..., 0]).mean(axis=(1, 2)))[:64]]
    assert difference(ranges(images()), ranges(reddest), may_be_alike=True) is None
    assert "between 0 and 255" in difference(ranges(images()), ranges(255 * reddest), may_be_alike=True)
    assert "as much as" in difference(known, ranges(1000 * batches[0]), may_be_alike=True)
    grey, divided = (ranges(rows) for rows in (0.5 + (pictures - 0.5) / 20, pictures / 20))
    assert difference(ranges(images()), grey, may_be_alike=True) is None
    assert "20 times less" in difference(ranges(images()), divided, may_be_alike=True)


def test_texts_and_categories_have_no_scale():
    assert ranges_of(Rows.unchecked(pd.DataFrame({"kind": ["a", "b"]}))) == []
    assert ranges_of(Rows.unchecked(np.array(["a", "b"], object))) == []
