"""Conformal thresholds and p-values, on scores alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.calibration import thresholds as calibration
from demur.calibration.thresholds import (
    Calibration,
    ScoreDistribution,
    benjamini_hochberg,
    conformal_threshold,
    instances_needed,
    percentile_threshold,
)
from demur.errors import DemurError, EmptyInput, InvalidSetting, NonFinite, TooFewInstances
from tests.scaffold.advice import advises

RATES = st.sampled_from([0.01, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9])


def test_threshold_is_the_order_statistic_of_the_definition():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))  # n = 19
    assert conformal_threshold(scores, 0.05) == 19.0  # ceil(20 * 0.95) = 19
    assert conformal_threshold(scores, 0.1) == 18.0
    assert conformal_threshold(scores, 0.5) == 10.0
    assert conformal_threshold(scores, 0.1, margin=0.5) == 18.5


@given(st.integers(1, 400), RATES)
def test_threshold_leaves_no_more_above_than_the_rate_allows(n, fpr):
    scores = np.random.default_rng(n).normal(size=n)
    if n < instances_needed(fpr):
        with pytest.raises(TooFewInstances, match=f"at least {instances_needed(fpr)} "):
            conformal_threshold(scores, fpr)
        return
    rank = int(np.sum(scores <= conformal_threshold(scores, fpr)))
    assert rank >= (n + 1) * (1 - fpr) - 1e-9  # the definition
    assert rank - 1 < (n + 1) * (1 - fpr) + 1e-9  # and no more than it asks


@pytest.mark.parametrize(("fpr", "n"), [(0.05, 19), (0.01, 99), (0.1, 9), (0.001, 999)])
def test_instances_needed_are_enough_and_one_less_is_not(fpr, n):
    assert instances_needed(fpr) == n
    conformal_threshold(np.arange(n), fpr)
    with pytest.raises(TooFewInstances, match=f"{n} instances; got {n - 1}"):
        conformal_threshold(np.arange(n - 1), fpr)


@pytest.mark.parametrize("fpr", [0, 1, -0.1, 1.5, float("nan")])
def test_a_rate_is_between_0_and_1(fpr):
    with pytest.raises(InvalidSetting, match="fpr"):
        conformal_threshold(np.arange(100.0), fpr)


def test_a_share_is_no_percentile():
    with advises(InvalidSetting, "pass threshold_perc=95"):
        percentile_threshold(np.arange(100.0), 0.95)
    assert 94 < percentile_threshold(np.arange(100.0), 95) < 96


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "use", [lambda s: conformal_threshold(s, 0.1), lambda s: percentile_threshold(s, 90), ScoreDistribution.of]
)
def test_scores_that_are_not_finite_never_calibrate(use, bad):
    scores = np.arange(100.0)
    scores[7] = bad
    with pytest.raises(NonFinite):
        use(scores)
    with pytest.raises(EmptyInput):
        use(scores[:0])


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.lists(st.integers(-1, 8), min_size=1, max_size=10))
def test_p_value_is_its_definition_ties_included(calibrating, scored):
    s = np.asarray(calibrating, "float32")
    expected = [(1 + np.sum(s >= score)) / (len(s) + 1) for score in scored]
    np.testing.assert_allclose(ScoreDistribution.of(s).p_values(np.asarray(scored, "float32")), expected)


def test_p_value_of_infinity_is_the_smallest():
    assert ScoreDistribution.of(np.arange(9.0)).p_values(np.array([np.inf]))[0] == 0.1


@given(st.integers(20, 300), RATES)
def test_flagging_by_threshold_and_by_p_value_agree(n, fpr):
    if n < instances_needed(fpr):
        return
    rng = np.random.default_rng(n)
    scores, new = rng.integers(0, 50, n).astype("float32"), rng.integers(0, 60, 100).astype("float32")
    flagged = new > np.float32(conformal_threshold(scores, fpr))
    np.testing.assert_array_equal(flagged, ScoreDistribution.of(scores).p_values(new) <= fpr + 1e-12)


@pytest.mark.parametrize("n", [10_001, 12_345, 50_000, 1_000_003])
def test_sketch_errs_upwards_and_by_less_than_it_says(n):
    rng = np.random.default_rng(n)
    scores = rng.exponential(size=n).astype("float32")
    sketch = ScoreDistribution.of(scores)
    assert len(sketch.kept) == calibration.SKETCH_SIZE
    assert sketch.n == n
    new = np.concatenate([rng.exponential(size=2000).astype("float32"), scores[:500], [0.0, 100.0]]).astype("float32")
    ordered = np.sort(scores)
    exact = (1 + n - np.searchsorted(ordered, new)) / (n + 1)
    error = sketch.p_values(new) - exact
    assert error.min() >= -1e-12
    assert error.max() < 1 / calibration.SKETCH_SIZE


def test_each_class_has_its_own_distribution():
    by_class = Calibration(
        {0: ScoreDistribution.of(np.arange(9.0)), 1: ScoreDistribution.of(np.arange(100.0, 119.0))}, np.zeros(2)
    )
    p = by_class.p_values(np.array([8.0, 8.0], "float32"), np.array([0, 1]))
    np.testing.assert_allclose(p, [2 / 10, 1.0])


@pytest.mark.parametrize("groups", [(None,), (0, 1, 2)])
def test_arrays_hold_all_of_a_calibration(groups):
    rng = np.random.default_rng(0)
    threshold = 1.5 if groups == (None,) else np.array([1.0, 2.0, 3.0])
    before = Calibration({group: ScoreDistribution.of(rng.normal(size=30)) for group in groups}, threshold, fpr=0.1)
    after = Calibration.from_arrays(before.as_arrays())
    assert after.fpr == 0.1
    np.testing.assert_array_equal(after.threshold, threshold)
    assert type(after.threshold) is type(threshold)
    assert Calibration.from_arrays(Calibration(before.distributions, threshold).as_arrays()).fpr is None
    new, predicted = rng.normal(size=50), rng.integers(0, 3, 50)
    np.testing.assert_array_equal(before.p_values(new, predicted), after.p_values(new, predicted))
    assert after.by_class == before.by_class


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=60), st.sampled_from([0.01, 0.05, 0.2]))
def test_benjamini_hochberg_is_scipys(p_values, level):
    from scipy.stats import false_discovery_control

    p = np.asarray(p_values)
    adjusted = false_discovery_control(p)
    clear = np.abs(adjusted - level) > 1e-12
    np.testing.assert_array_equal(benjamini_hochberg(p, level)[clear], (adjusted <= level)[clear])


@pytest.mark.parametrize("level", [0, 1, -1, float("nan")])
def test_level_is_between_0_and_1(level):
    with pytest.raises(DemurError, match="level"):
        benjamini_hochberg(np.array([0.1]), level)
