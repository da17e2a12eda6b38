"""The figures by which scores are judged."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from demur.errors import EmptyInput, InvalidSetting, NonFinite
from demur.metrics import auroc, evaluate_scores, flagged_rate, split_by_harm

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


@pytest.mark.parametrize("function", [auroc, evaluate_scores])
def test_bad_scores_are_refused(function):
    with pytest.raises(EmptyInput, match="score_clean"):
        function(np.array([]), BAD)
    with pytest.raises(EmptyInput, match="score_bad"):
        function(CLEAN, np.array([]))
    with pytest.raises(NonFinite, match="score_bad"):
        function(CLEAN, np.array([1.0, np.nan]))
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
