"""Rows that should be held out and are not, and labels of other rows, are warned of; others are not."""

import warnings

import numpy as np
import pandas as pd
import pytest

from demur.calibration import held_out
from demur.calibration.held_out import (
    KnownRows,
    PassingRows,
    is_by_chance,
    is_like_training,
    shared_share,
    warn_if_by_chance,
    warn_if_other,
    warn_if_trained_on,
)
from demur.calibration.metrics import binomial_cdf
from demur.errors import WrongRows
from demur.rows import row_sketch
from demur.rows.rows import Rows
from tests.scaffold.advice import advises

RNG = np.random.default_rng(0)


def known(*parts):
    passing = PassingRows()
    for rows in parts:
        passing.add(Rows.unchecked(rows))
    return passing.known()


def shared(rows, trained_on):
    return shared_share(known(rows), known(trained_on))


def test_rows_of_the_training_set_are_found():
    trained, new = RNG.normal(size=(500, 3)).astype("float32"), RNG.normal(size=(200, 3)).astype("float32")
    assert shared(new, trained) == 0
    assert shared(trained[:200], trained) == 1
    assert shared(np.concatenate([trained[:50], new[:150]]), trained) == 0.25
    assert shared({"a": trained[:9], "b": trained[:9]}, {"a": trained, "b": trained}) == 1
    assert shared({"a": trained[:9], "b": trained[1:10]}, {"a": trained, "b": trained}) == 0
    with advises(WrongRows, "pass rows that are not among the rows of X_train") as caught:
        warn_if_trained_on(known(trained[:200]), {"the rows of X_train": known(trained)})
    assert "200 of the 200 rows (100%) are among the rows of X_train" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_trained_on(known(new), {"the rows of X_train": known(trained)})


def test_rows_are_the_same_in_whatever_type_and_batches_they_come():
    bytes_ = RNG.integers(0, 256, size=(300, 8, 8, 1)).astype("uint8")
    assert shared(bytes_[:100].astype("float64"), bytes_) == 1
    assert shared(bytes_[:100] / np.float32(255), bytes_) == 0
    in_parts = known(bytes_[:7], bytes_[7:200], bytes_[200:])
    np.testing.assert_array_equal(in_parts.sketch.hashes, known(bytes_).sketch.hashes)
    np.testing.assert_allclose(in_parts.ranges[0].quantiles, known(bytes_).ranges[0].quantiles)


def test_tables_are_compared_by_their_rows():
    table = pd.DataFrame({"x": RNG.normal(size=300), "kind": RNG.choice(["a", "b"], 300), "n": np.arange(300)})
    table.loc[3, "x"] = np.nan
    assert shared(table[:40], table[20:]) == 0.5
    assert shared(table[40:80], table[80:]) == 0
    other_types = table[:40].astype({"n": "float64", "kind": "category"})
    assert shared(other_types, table) == 1


def test_rows_that_are_common_anyway_say_nothing():
    for _ in range(9):
        coarse = RNG.integers(0, 3, size=(700, 4))
        assert shared(coarse[:200], coarse[200:]) == 0


def test_the_share_is_told_of_more_rows_than_are_remembered(monkeypatch):
    monkeypatch.setattr(row_sketch, "KEPT", 500)
    monkeypatch.setattr(held_out, "KEPT", 500)
    many, new = RNG.random((3000, 2)), RNG.random((2000, 2))
    trained = known(*np.split(many, 5))
    assert len(trained.sketch.hashes) == 500
    assert trained.sketch.rows == 3000
    assert shared_share(known(new), trained) == 0
    assert shared_share(known(many[-2000:]), trained) == 1
    assert shared_share(known(np.concatenate([many[:1000], new[:1000]])), trained) == pytest.approx(0.5, abs=0.1)


def test_training_that_goes_on_with_the_same_rows_remembers_them_as_before():
    first, more = RNG.random((400, 3)), RNG.random((100, 3))
    twice = known(first).and_again(known(first)).and_again(known(more))
    assert shared_share(known(first), twice) == 1
    assert shared_share(known(more), twice) == 1


def test_what_is_known_is_saved_and_read_again():
    for rows in (
        RNG.random((50, 8, 8, 3)),
        {"a": RNG.random((50, 4)), "b": RNG.random((50, 6, 2))},
        pd.DataFrame({"x": [1.0, 2, 4]}),
    ):
        before = known(rows)
        after = KnownRows.from_arrays(before.as_arrays())
        assert after.as_arrays().keys() == before.as_arrays().keys()
        for name, array in before.as_arrays().items():
            np.testing.assert_array_equal(after.as_arrays()[name], array, err_msg=name)
        assert shared_share(known(rows), after) == 1


def test_rows_on_another_scale_are_told_with_what_to_do():
    images = RNG.random((100, 8, 8, 1)).astype("float32")
    trained = known(images[:50]).ranges
    with advises(WrongRows, "pass rows that were made (scaled, standardised, ordered) as those of fit were") as caught:
        warn_if_other(known(images[50:] * 255).ranges, trained)
    assert "the numbers lie between 0 and 255, and those of the rows of fit between 0 and 1" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_other(known(images[50:]).ranges, trained)


def test_labels_of_other_rows_are_told_and_those_of_weak_classifiers_are_not():
    def told(n, shares, skill):
        """How often it is told of a classifier that knows the class of a share of the rows, and guesses the others."""
        found = []
        for _ in range(50):
            y = RNG.choice(len(shares), n, p=shares)
            guess = RNG.choice(len(shares), n, p=shares)
            found.append(is_by_chance(np.where(RNG.random(n) < skill, y, guess), y))
        return np.mean(found)

    ten, two, rare = [0.1] * 10, [0.5, 0.5], [0.98, 0.02]
    assert told(500, ten, 0) > 0.9
    assert told(1000, two, 0) > 0.9
    assert told(500, ten, 0.25) == 0
    assert told(1000, two, 0.25) == 0
    assert told(200, two, 0.25) <= 0.02
    assert told(20, ten, 0.9) == 0
    assert told(200, rare, 0.9) == 0
    for n in (200, 5000):  # right on all of a rare class, and on 95 % of the other; rows of one class
        y = np.arange(n) < n // 200
        assert not any(is_by_chance(np.where(y, True, RNG.random(n) < 0.05), y) for _ in range(50))
        assert not any(is_by_chance(RNG.random(n) < 0.05, np.zeros(n, bool)) for _ in range(50))


def test_labels_of_other_rows_are_told_with_what_to_do():
    y = RNG.integers(0, 10, 500)
    with advises(WrongRows, "Pass each row's own label; detector.classes says") as caught:
        warn_if_by_chance(y, RNG.permutation(y))
    assert " of the 500 rows, and on 10" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_by_chance(y, y)


def test_accuracies_like_those_of_training_rows_are_told():
    def errors(n, share):
        return RNG.random(n) < share

    told = {
        "a forest, trained on": [is_like_training(errors(1000, 0), errors(3000, 0)) for _ in range(100)],
        "boosted trees, trained on": [is_like_training(errors(2000, 0.005), errors(3000, 0.005)) for _ in range(100)],
        "a forest, held out": [is_like_training(errors(1000, 0.03), errors(3000, 0)) for _ in range(100)],
        "a network, held out": [is_like_training(errors(1000, 0.02), errors(3000, 0.005)) for _ in range(100)],
        "a linear model, held out": [is_like_training(errors(1000, 0.15), errors(3000, 0.15)) for _ in range(100)],
        "few rows": [is_like_training(errors(100, 0), errors(3000, 0)) for _ in range(100)],
    }
    assert {name: np.mean(found) for name, found in told.items()} == {
        "a forest, trained on": 1,
        "boosted trees, trained on": pytest.approx(0.8, abs=0.2),
        "a forest, held out": 0,
        "a network, held out": pytest.approx(0, abs=0.03),
        "a linear model, held out": 0,
        "few rows": 0,
    }
    rows, others = RNG.normal(size=(1000, 2)), RNG.normal(size=(9, 2))
    rows, trained_on = known(rows), {"the rows of X_train": known(others)}
    with advises(WrongRows, "pass rows that the classifier was not trained on") as caught:
        warn_if_trained_on(rows, trained_on, errors(1000, 0), errors(3000, 0))
    assert "right on 100.0% of X_train and on 100.0% of the 1,000 other rows" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_trained_on(rows, trained_on, errors(1000, 0.03), errors(3000, 0))


@pytest.mark.parametrize(("k", "n", "p", "expected"), [(0, 10, 0.1, 0.9**10), (10, 10, 0.3, 1), (-1, 5, 0.2, 0)])
def test_binomial_probabilities(k, n, p, expected):
    assert binomial_cdf(k, n, p) == pytest.approx(expected)
