"""Columns and texts as numbers: missing values, ids, free text, many categories, columns that never vary."""

import datetime
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

from demur.errors import EmptyInput, InvalidSetting, NonFinite, NotFitted, ShapeMismatch, WrongType
from demur.rows import ngrams
from demur.rows.columns import BUCKETS, MOST_CATEGORIES
from demur.rows.encoder import TableEncoder
from tests.scaffold.advice import advises

N = 200


def rng():
    return np.random.default_rng(0)


def encoded(X, **names):
    encoder = TableEncoder(**names).fit(X)
    return encoder, encoder.transform(X)


def sentence(i):
    return f"passenger {i} asked whether train {i * 7} runs"


# Missing values ------------------------------------------------------------------------------------------------------


def test_a_missing_number_is_the_median_and_says_so():
    X = pd.DataFrame({"age": [1.0, np.nan, 2.0, 9.0]})
    encoder, found = encoded(X)
    assert found[:, 1].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(found[1, 0], found[2, 0])  # 2 is the median
    whole = X.dropna()
    assert encoder.transform(whole).shape == (3, 2)


def test_a_number_that_is_missing_for_the_first_time_is_the_median():
    encoder, found = encoded(np.array([[1.0], [2.0], [9.0]]))
    assert found.shape == (3, 1)
    np.testing.assert_array_equal(encoder.transform(np.array([[np.nan]])), found[1:2])


def test_a_category_that_is_missing_for_the_first_time_becomes_zeros():
    encoder, _ = encoded(pd.DataFrame({"kind": ["a", "b"]}))
    assert encoder.transform(pd.DataFrame({"kind": [None, "z"]})).tolist() == [[0, 0], [0, 0]]


def test_infinity_cannot_be_judged():
    encoder, _ = encoded(np.array([[1.0, 5.0], [2.0, 5.0], [np.nan, 5.0]]))
    found = encoder.transform(np.array([[np.inf, 5.0], [1.0, -np.inf], [1.0, 5.0]]))
    assert np.isfinite(found).all(axis=1).tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["Int64", "Float64", "float32", "object", "float64[pyarrow]", "polars", "decimal"])
def test_numbers_of_every_type_mean_the_same(kind):
    values = [4.0, None, 7.0, 8.0]
    if kind == "polars":
        X = pl.DataFrame({"x": [4, None, 7, 8]})
    elif kind == "decimal":
        X = pl.DataFrame({"x": [4, None, 7, 8]}).cast(pl.Decimal(10, 2))
    else:
        X = pd.DataFrame({"x": pd.array(values, dtype=kind) if kind != "object" else np.array(values, object)})
    _, expected = encoded(np.array([[4.0], [np.nan], [7.0], [8.0]]))
    np.testing.assert_allclose(encoded(X)[1], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["boolean", "category", "string", "object", "polars"])
def test_categories_of_every_type_mean_the_same(kind):
    values = [True, None, False] if kind == "boolean" else ["a", None, "b"]
    X = pl.DataFrame({"x": values}) if kind == "polars" else pd.DataFrame({"x": pd.Series(values, dtype=kind)})
    _, found = encoded(X)
    assert found.shape == (3, 3)
    assert found[1].tolist() == [1, 0, 0]


def test_what_earlier_versions_saved_stays_as_it_was():
    old = [{"name": "0", "mean": 2.0, "scale": 4.0}, {"name": "1", "categories": ["a", "b"]}]
    encoder = TableEncoder(json.loads(json.dumps(old)))
    assert not encoder.imputes
    found = encoder.transform(pd.DataFrame({"0": [4.0, np.nan], "1": ["b", None]}))
    assert found[0].tolist() == [0.5, 0.0, 1.0]
    assert np.isnan(found[1]).all()
    assert encoder.settings()[0].items() >= old[0].items()


# Columns that never vary, and numbers that are too coarse -----------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1e-30, 3.3e7, 1e200, -7.0])
def test_a_column_that_never_varies_becomes_zeros(value):
    X = np.full((178, 1), value)
    encoder, found = encoded(np.c_[X, rng().normal(size=178)])
    assert (found[:, 0] == 0).all()
    other = (
        encoder.transform(np.c_[X.astype("float32").astype("float64"), np.zeros(178)]) if abs(value) < 1e30 else found
    )
    assert (other[:, 0] == 0).all()


def test_rounding_alone_is_no_spread():
    tenths = 0.1 * (1 + 1e-15 * rng().normal(size=(N, 1)))  # as sums of shares are
    assert (encoded(np.c_[tenths, np.arange(N) % 7])[1][:, 0] == 0).all()


def test_a_category_on_its_own_becomes_zeros():
    encoder, found = encoded(pd.DataFrame({"site": ["a"] * 9, "x": np.arange(9.0)}))
    assert (found[:, 0] == 0).all()
    assert encoder.transform(pd.DataFrame({"site": ["b"], "x": [1.0]}))[0, 0] == 0


def test_small_differences_of_large_numbers_are_seen():
    times = 1.7e9 + rng().normal(size=N) * 30  # seconds since 1970, within a minute
    encoder, found = encoded(np.c_[times, np.zeros(N)])
    np.testing.assert_allclose(found[:, 0].std(), 1, atol=1e-3)
    with advises(WrongType, ": pass the column as float64") as caught:
        encoder.transform(np.c_[times, np.zeros(N)].astype("float32"))
    assert "'0' held numbers near 1.7e+09 that vary by " in str(caught.value)
    np.testing.assert_array_equal(encoder.transform(np.c_[times, np.zeros(N)].astype("float64")), found)


def test_a_column_of_infinity_alone_gets_nan_or_numbers():
    X = np.c_[np.full(N, np.inf), np.arange(N) % 7]
    with advises(NonFinite, "column '0' holds infinity and no finite number: put NaN or numbers in its place"):
        encoded(X)
    for instead in (np.nan, 9.0):
        assert np.isfinite(encoded(np.where(np.isinf(X), instead, X))[1]).all()


def test_float32_rows_are_as_good_where_float32_is_fine_enough():
    X = rng().normal(size=(N, 3)) * [1, 1e-6, 1e6] + [0, 1e-3, 1e5]
    encoder, found = encoded(X)
    np.testing.assert_allclose(encoder.transform(X.astype("float32")), found, atol=1e-3)


# Many categories, ids and texts ---------------------------------------------------------------------------------------


def test_many_categories_share_a_few_numbers():
    zips = rng().integers(0, 90, 1000).astype(str)
    encoder, found = encoded(pd.DataFrame({"zip": [*zips, None]}))
    assert found.shape == (1001, MOST_CATEGORIES + BUCKETS)
    assert (found.sum(axis=1) == 1).all()
    new = encoder.transform(pd.DataFrame({"zip": ["never seen"]}))
    assert new[0, :MOST_CATEGORIES].sum() == 0
    assert new.sum() == 1


def test_an_id_is_left_out_and_named_once():
    X = pd.DataFrame(
        {
            "id": [f"C{i:06}" for i in range(N)],
            "row": rng().permutation(N),
            "amount": rng().normal(size=N),
            "remark": [sentence(i) for i in range(N)],
        }
    )
    with pytest.warns(UserWarning, match="'id', 'row' looks like an id") as caught:
        _, found = encoded(X)
    assert len(caught) == 1
    assert "'remark' looks like free text" in str(caught[0].message)
    assert found.shape == (N, 1 + 1024)
    with warnings.catch_warnings():  # what the warning recommends
        warnings.simplefilter("error")
        assert encoded(X, drop=["id", "row"], text=["remark"])[1].shape == (N, 1 + 1024)
        assert encoded(X, drop=["id", "row", "remark"])[1].shape == (N, 1)
        kept = encoded(X, keep=["id", "row"], drop=["remark"])[1]
    assert kept.shape == (N, MOST_CATEGORIES + BUCKETS + 1 + 1)


def test_numbers_that_happen_never_to_repeat_are_no_ids():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded(np.c_[rng().integers(0, 10**7, N), rng().normal(size=N)])


def test_an_encoder_says_what_it_makes_of_a_table():
    assert repr(TableEncoder(drop=["id"])) == "TableEncoder(drop=['id'], not fitted)"
    fitted, _ = encoded(pd.DataFrame({"id": range(N), "size": rng().normal(size=N)}), drop=["id"])
    assert repr(fitted) == "TableEncoder(drop=['id'], 2 columns as 1 numbers)"


def test_columns_that_are_not_there_cannot_be_named():
    with pytest.raises(InvalidSetting, match="columns that are not there: y; the rows have x"):
        TableEncoder(drop=["y"]).fit(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(InvalidSetting, match="drop is a list of names of columns; got 'x'"):
        TableEncoder(drop="x")


def test_an_id_on_its_own_is_kept_by_name():
    X = pd.DataFrame({"id": [f"C{i:06}" for i in range(N)]})
    with advises(WrongType, "name one in companion_preprocess=demur.TableEncoder(keep=[...])"):
        TableEncoder().fit(X)
    assert encoded(X, keep=["id"])[1].any()


@pytest.mark.parametrize("when", [pd.Timestamp("2026-01-01", tz="UTC"), datetime.date(2026, 1, 1), np.timedelta64(1)])
def test_dates_can_be_left_out_as_the_message_says(when):
    X = pd.DataFrame({"when": [when] * 3, "x": [1.0, 2.0, 3.0]})
    with advises(WrongType, "leave it out with companion_preprocess=demur.TableEncoder(drop=['when'])"):
        TableEncoder().fit(X)
    assert encoded(X, drop=["when"])[1].shape == (3, 1)


def test_an_encoder_is_made_again_with_all_kinds_of_columns():
    X = pd.DataFrame({"x": [1.0, None] * 50, "kind": ["a", "b"] * 50, "t": [sentence(i) for i in range(100)], "id": 0})
    encoder, found = encoded(X, text=["t"], drop=["id"])
    again = TableEncoder(json.loads(json.dumps(encoder.settings())))
    np.testing.assert_array_equal(again.transform(X), found)
    with pytest.raises(ShapeMismatch, match="these were learned: x, kind, t, id"):
        again.transform(X[["x"]])


# Texts ---------------------------------------------------------------------------------------------------------------


def test_texts_alone_are_read_as_texts_however_short():
    _, found = encoded(np.array(["good", "bad", None, "good"], object))
    assert found.shape == (4, 4096)
    assert (found[0] == found[3]).all()
    assert not found[2].any()
    np.testing.assert_allclose(np.linalg.norm(found[[0, 1]], axis=1), 8, rtol=1e-5)


def test_texts_are_read_one_by_one_as_together():
    texts = [sentence(i) * (i % 5) for i in range(600)]  # some are empty, and there are several parts
    whole = ngrams.counts(texts, 256)
    np.testing.assert_array_equal(
        whole[[0, 7, 599]], np.concatenate([ngrams.counts([texts[i]], 256) for i in (0, 7, 599)])
    )
    assert ngrams.counts(["a", "", "\ud800 \U0001f600"], 64).shape == (3, 64)


def test_a_wrong_letter_changes_little_and_case_and_space_nothing():
    one, other, loud = ngrams.counts(
        [sentence(3), sentence(3).replace("asked", "aksed"), sentence(3).upper() + "  "], 4096
    )
    assert (one == loud).all()
    assert np.minimum(one, other).sum() > 0.8 * one.sum()


def test_hashes_are_the_same_in_every_process():
    script = (
        "import numpy as np; from demur.rows import ngrams; from demur.rows.encoder import TableEncoder\n"
        "X = np.array([[str(i % 90)] for i in range(500)])\n"
        "t = TableEncoder().fit(X).transform(X) * np.arange(80)\n"
        "print(int((ngrams.counts(['to demur'], 4096) * np.arange(4096)).sum()), int(t.sum()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ("one text", WrongType, "rows must be a table"),
        (None, WrongType, "got NoneType"),
        (np.zeros((3, 2, 2)), WrongType, "(3, 2, 2)"),
        (np.zeros((0, 3)), EmptyInput, "pass at least one"),
    ],
)
def test_what_is_neither_a_table_nor_an_array_teaches_nothing(rows, error, words):
    encoder = TableEncoder()
    with advises(error, words):
        encoder.fit(rows)
    with advises(NotFitted, "call fit(rows) first"):
        encoder.transform(np.zeros((3, 2)))
    encoder.fit(np.arange(6.0).reshape(3, 2))
    assert encoder.transform(np.zeros((3, 2))).shape == (3, 2)
