"""Calibration rows that the classifier was trained on are warned of, and others are not."""

import warnings

import numpy as np
import pandas as pd
import pytest

from advice import advises
from demur.held_out import binomial_cdf, is_like_training, shared_rows, warn_if_trained_on

RNG = np.random.default_rng(0)


def test_rows_of_the_training_set_are_found():
    trained, new = RNG.normal(size=(500, 3)).astype("float32"), RNG.normal(size=(200, 3)).astype("float32")
    assert shared_rows(new, trained) == 0
    assert shared_rows(trained[:200], trained) == 200
    assert shared_rows(np.concatenate([trained[:50], new[:150]]), trained) == 50
    assert shared_rows({"a": trained[:9], "b": trained[:9]}, {"a": trained, "b": trained}) == 9
    assert shared_rows({"a": trained[:9], "b": trained[1:10]}, {"a": trained, "b": trained}) == 0
    with advises(UserWarning, "pass rows that are not in X_train") as caught:
        warn_if_trained_on(trained[:200], trained)
    assert "200 of the 200 rows are among the rows of X_train" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_trained_on(new, trained)


def test_tables_are_compared_by_their_rows():
    table = pd.DataFrame({"x": RNG.normal(size=300), "kind": RNG.choice(["a", "b"], 300)})
    table.loc[3, "x"] = np.nan
    assert shared_rows(table[:40], table[20:]) == 20
    assert shared_rows(table[40:80], table[80:]) == 0


def test_rows_that_are_common_anyway_say_nothing():
    for _ in range(20):
        coarse = RNG.integers(0, 3, size=(700, 4))
        assert shared_rows(coarse[:200], coarse[200:]) == 0


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
    with advises(UserWarning, "pass rows that the classifier was not trained on") as caught:
        warn_if_trained_on(rows, others, errors(1000, 0), errors(3000, 0))
    assert "right on 100.0% of X_train and on 100.0% of the 1,000 other rows" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_trained_on(rows, others, errors(1000, 0.03), errors(3000, 0))


@pytest.mark.parametrize(("k", "n", "p", "expected"), [(0, 10, 0.1, 0.9**10), (10, 10, 0.3, 1), (-1, 5, 0.2, 0)])
def test_binomial_probabilities(k, n, p, expected):
    assert binomial_cdf(k, n, p) == pytest.approx(expected)
