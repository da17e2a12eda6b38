"""Tests of two scores, or two answers, on the same rows: how often they find a difference, and that they find one."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from demur.calibration.metrics import Pair, auroc, holm, lead, mcnemar
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (9, 1), (40, 61), (5000, 5000), (3, 20_000), (7000, 6800)]
)
def test_mcnemar_is_the_exact_binomial_test(better, worse):
    n = better + worse
    expected = binomtest(better, n).pvalue if n else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert mcnemar(worse, better) == mcnemar(better, worse)


@pytest.mark.parametrize("counts", [(-1, 2), (2, 1.5), (True, 1)])
def test_mcnemar_counts_rows(counts):
    with pytest.raises(InvalidSetting, match="is a whole number of at least 0"):
        mcnemar(*counts)


def test_holm_finds_a_false_difference_among_all_as_seldom_as_asked_however_they_depend():
    rng = np.random.default_rng(0)
    for rho in (0.0, 0.95):
        common = rng.random((2000, 1))
        p = np.where(rng.random((2000, 20)) < rho, common, rng.random((2000, 20)))
        assert np.mean([any(holm(row.tolist())) for row in p]) < 0.065
    assert holm([]) == []


def test_holm_is_what_its_definition_says():
    """A hypothesis is rejected if Bonferroni's test rejects each set of hypotheses that it is one of: a closed test."""
    rng = np.random.default_rng(1)
    for p in rng.random((50, 5)) ** 3:
        closed = [
            all(
                min(p[list(some)]) * len(some) <= 0.05
                for size in range(1, 6)
                for some in itertools.combinations(range(5), size)
                if i in some
            )
            for i in range(5)
        ]
        assert holm(p.tolist()) == closed


@pytest.mark.parametrize("p", [[float("nan")], [0.01, float("nan")], [1.5], [-0.1]])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(InvalidSetting, match="p_values are numbers from 0 to 1"):
        holm(p)
    with pytest.raises(WrongType, match="p_values"):
        holm(["small"])


def pairs(rng, n, m, threats, shape):
    """Two scores that are as good as each other, on the same rows, under several threats."""
    common, rows = rng.normal(size=n), rng.permutation(n)[:m]
    first, second = (common + rng.normal(size=n) for _ in range(2))
    change = rng.normal(1, 0.5, (threats, m))
    return [
        Pair(
            (shape(first), shape(second)), (shape(first[rows] + one), shape(second[rows] + rng.permutation(one))), rows
        )
        for one in change
    ]


@pytest.mark.parametrize(
    ("n", "m", "threats", "shape"),
    [
        (300, 50, 1, lambda x: x),
        (300, 50, 8, lambda x: x),  # the same rows under each: as dependent as can be
        (300, 50, 1, np.round),
        (300, 8, 1, lambda x: np.exp(8 * x)),
        (40, 5, 4, np.round),
    ],
    ids=["plain", "several threats", "ties", "rare and huge", "tiny"],
)
def test_scores_that_are_as_good_are_seldom_called_different(n, m, threats, shape):
    rng = np.random.default_rng(2)
    p = np.array([lead(pairs(rng, n, m, threats, shape)).p for _ in range(300)])
    assert np.mean(p < 0.05) < 0.085
    assert np.mean(p < 0.01) < 0.03


def test_the_lead_is_the_difference_of_areas_and_a_real_one_is_found():
    rng = np.random.default_rng(3)
    clean = rng.normal(size=(2, 400))
    bad = rng.normal(size=(2, 80)) + np.array([[0.3], [1.5]])
    found = lead([Pair((clean[0], clean[1]), (bad[0], bad[1]), np.arange(80))])
    assert found.value == pytest.approx(auroc(clean[1], bad[1]) - auroc(clean[0], bad[0]))
    assert found.low < found.value < found.high
    assert found.p < 1e-4


def test_what_cannot_be_compared_is_refused():
    some, rows = np.arange(5.0), np.arange(3)
    with pytest.raises(EmptyInput, match="got no pairs"):
        lead([])
    for pair in (
        Pair((some, some[:4]), (some[:3], some[:3]), rows),
        Pair((some, some), (some[:3], some[:2]), rows),
        Pair((some, some), (some[:3], some[:3]), rows + 3),
    ):
        with pytest.raises(ShapeMismatch, match="of the same rows"):
            lead([pair])
    with pytest.raises(NonFinite, match="NaN"):
        lead([Pair((some * np.nan, some), (some[:3], some[:3]), rows)])
    with pytest.raises(EmptyInput):
        lead([Pair((some[:0], some[:0]), (some[:0], some[:0]), rows[:0])])
