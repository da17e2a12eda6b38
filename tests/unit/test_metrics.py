"""The figures by which scores are judged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as roc_curve_of_sklearn

from demur.calibration import metrics
from demur.calibration.metrics import auroc, cohens_d, evaluate_scores, flagged_rate, roc_curve, share, split_by_harm
from demur.errors import EmptyInput, InvalidSetting, NonFinite, WrongType

RNG = np.random.default_rng(0)
CLEAN, BAD = RNG.normal(0, 1, 400), RNG.normal(2, 1, 300)


def test_figures_are_their_definitions():
    figures = evaluate_scores(CLEAN, BAD, resamples=10)
    truth = np.repeat([0, 1], [400, 300])
    assert figures["auroc"].value == pytest.approx(roc_auc_score(truth, np.concatenate([CLEAN, BAD])))
    for rate in (1, 5, 10):
        # Every threshold there is, tried by hand.
        reached = [np.mean(t < BAD) for t in [*CLEAN, *BAD, -10] if np.mean(t < CLEAN) <= rate / 100]
        assert figures[f"tpr_at_{rate}_fpr"].value == pytest.approx(max(reached))
    needed = [np.mean(t < CLEAN) for t in [*CLEAN, *BAD, -10] if np.mean(t < BAD) >= 0.95]
    assert figures["fpr_at_95_tpr"].value == pytest.approx(min(needed))


FEW_VALUES = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=25)
ANY_VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=25)


@settings(max_examples=80)
@given(st.one_of(st.tuples(FEW_VALUES, FEW_VALUES), st.tuples(ANY_VALUES, ANY_VALUES)))
def test_areas_are_those_of_scikit_learn_with_many_ties_too(scores):
    clean, bad = map(np.array, scores)
    figures = evaluate_scores(clean, bad, resamples=1)
    truth, both = np.repeat([0, 1], [len(clean), len(bad)]), np.concatenate([clean, bad])
    assert figures["auroc"].value == pytest.approx(roc_auc_score(truth, both))
    assert auroc(clean, bad) == figures["auroc"].value
    assert figures["average_precision"].value == pytest.approx(average_precision_score(truth, both))
    false, true = roc_curve(clean, bad)
    assert auc(false, true) == pytest.approx(roc_auc_score(truth, both))
    for rates in (false, true):
        assert rates[0] == 0
        assert rates[-1] == 1
        assert (np.diff(rates) >= 0).all()
    their_false, their_true, _ = roc_curve_of_sklearn(truth, both, drop_intermediate=False)
    np.testing.assert_allclose(false, their_false)
    np.testing.assert_allclose(true, their_true)


def test_resamples_are_the_same_in_one_go_and_in_several(monkeypatch):
    at_once = evaluate_scores(CLEAN[:50], BAD[:30], resamples=40)
    monkeypatch.setattr(metrics, "MOST_AT_ONCE", 7 * 80)
    in_parts = evaluate_scores(CLEAN[:50], BAD[:30], resamples=40)
    for name, estimate in at_once.items():
        assert in_parts[name].value == estimate.value
        # Drawn in another order: other samples, and intervals that are about the same.
        assert in_parts[name].low == pytest.approx(estimate.low, abs=0.15)


def test_a_bootstrap_interval_is_that_of_samples_drawn_by_hand():
    rng, areas = np.random.default_rng(5), []
    for _ in range(2000):
        clean, bad = rng.choice(CLEAN[:40], 40), rng.choice(BAD[:40], 40)
        areas.append(np.mean(bad[:, None] > clean) + np.mean(bad[:, None] == clean) / 2)
    found = evaluate_scores(CLEAN[:40], BAD[:40], resamples=2000)["auroc"]
    np.testing.assert_allclose([found.low, found.high], np.percentile(areas, [2.5, 97.5]), atol=0.01)


@pytest.mark.parametrize(
    ("yes", "n", "low", "high"),
    # Brown, Cai & DasGupta, 2001, and scipy.stats.binomtest(...).proportion_ci(method="wilson").
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 20, 0.0089, 0.2361),
        (0, 1, 0.0, 0.7935),
    ],
)
def test_a_share_has_the_interval_of_wilson(yes, n, low, high):
    found = share(np.arange(n) < yes)
    assert found.value == yes / n
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)
    assert found.low <= found.value <= found.high


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_a_share_is_that_of_scipy(values):
    from scipy.stats import binomtest

    theirs = binomtest(sum(values), len(values)).proportion_ci(method="wilson")
    found = share(values)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(EmptyInput, match="at least one value"):
        share([])


def test_cohens_d_is_the_difference_in_pooled_deviations():
    one, other = np.array([2.0, 4.0, 6.0]), np.array([1.0, 3.0])
    pooled = np.sqrt((2 * 4 + 1 * 2) / 3)
    assert cohens_d(one, other) == pytest.approx(2 / pooled)
    assert cohens_d(other, one) == pytest.approx(-2 / pooled)
    assert cohens_d(BAD, CLEAN) == pytest.approx(2, abs=0.2)
    for nothing in ([1.0], []):
        assert cohens_d(np.array(nothing), other) is None
        assert cohens_d(other, np.array(nothing)) is None
    assert cohens_d(np.ones(3), np.ones(3)) is None
    assert cohens_d(np.full(178, 0.1), np.full(178, 0.2)) is None  # whose computed deviation is 2.8e-17


def test_intervals_hold_the_value_and_shrink_with_more_scores():
    few, many = evaluate_scores(CLEAN[:60], BAD[:60], resamples=200), evaluate_scores(CLEAN, BAD, resamples=200)
    for figures in (few, many):
        for estimate in figures.values():
            assert estimate.low <= estimate.value <= estimate.high
    assert few["auroc"].high - few["auroc"].low > many["auroc"].high - many["auroc"].low


def test_interval_covers_the_truth_about_as_often_as_it_says():
    from scipy.stats import norm

    truth, rng = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(1)
    covered = 0
    for trial in range(60):
        estimate = evaluate_scores(rng.normal(0, 1, 80), rng.normal(1, 1, 80), resamples=100, seed=trial)["auroc"]
        covered += estimate.low <= truth <= estimate.high
    assert covered >= 50  # 57 expected; below 50 with a chance of 1 in 2000


def test_seed_decides():
    assert evaluate_scores(CLEAN, BAD, resamples=20, seed=3) == evaluate_scores(CLEAN, BAD, resamples=20, seed=3)
    assert evaluate_scores(CLEAN, BAD, resamples=20, seed=3) != evaluate_scores(CLEAN, BAD, resamples=20, seed=4)


def test_infinite_scores_are_the_highest():
    assert auroc(np.array([0.0, 1.0]), np.array([np.inf, np.inf])) == 1.0
    assert evaluate_scores(np.array([0.0, 1.0]), np.array([np.inf]), resamples=5)["tpr_at_1_fpr"].value == 1.0


@pytest.mark.parametrize("function", [auroc, evaluate_scores, roc_curve])
def test_bad_scores_are_refused(function):
    with pytest.raises(EmptyInput, match="score_clean"):
        function(np.array([]), BAD)
    with pytest.raises(EmptyInput, match="score_bad"):
        function(CLEAN, np.array([]))
    with pytest.raises(NonFinite, match="score_bad"):
        function(CLEAN, np.array([1.0, np.nan]))
    with pytest.raises(WrongType, match="score_bad holds scores, numbers; got str"):
        auroc(np.ones(3), "high")
    with pytest.raises(InvalidSetting, match="resamples"):
        evaluate_scores(CLEAN, BAD, resamples=0)


def test_flagged_rate_counts_strictly_above():
    assert flagged_rate(np.array([0.0, 1.0, 1.0, 2.0]), 1.0) == 0.25
    with pytest.raises(EmptyInput):
        flagged_rate(np.array([]), 1.0)


def test_harm_is_a_right_prediction_gone_wrong():
    y, before, after = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]), np.array([0, 1, 0, 0])
    split = split_by_harm(y, before, after)
    assert split.harmful.tolist() == [False, True, False, False]
    assert split.harmless.tolist() == [True, False, False, False]
