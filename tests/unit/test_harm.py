"""What scores say about the classifier's errors: accuracy from changes, and the chance that a row is wrong."""

import numpy as np
import pytest

from demur.calibration.harm import PRIOR, HarmCalibration, Limits, features, learned, learned_weights, shares_of_errors


def said(rng, n, harm=0.0, doubt=0.0):
    """Scores, distributions over two classes, and errors, of which `harm` makes more and `doubt` none."""
    wrong = rng.random(n) < 0.1 + harm
    score = rng.exponential(size=n) * np.where(wrong, 10, 1)
    confidence = np.clip(rng.beta(8, 1 + 2 * wrong) - doubt * rng.random(n), 0.5, 1)
    return score, np.stack([confidence, 1 - confidence], axis=1), wrong


def calibration(rng, n=2000):
    score, p, wrong = said(rng, n)
    limits = Limits(float(np.quantile(score, 0.9)), 0.5)
    origin = features(score, p, limits)
    batches = [
        (name, said(rng, 1000, harm * size, doubt * size))
        for name, harm, doubt in (("a", 0.1, 0), ("b", 0, 0.1), ("c", 0.1, 0.1), ("d", 0.05, 0.1), ("e", 0, 0.05))
        for size in (1, 2, 3, 4, 5)
    ]
    changes = np.array([features(s, q, limits).mean(axis=0) for _, (s, q, _) in batches]) - origin.mean(axis=0)
    falls = np.array([wrong.mean() - e.mean() for _, (_, _, e) in batches])
    found = learned(changes, falls, np.array([name for name, _ in batches]), 1000)
    accuracy = 1 - wrong.mean()
    return HarmCalibration(
        score_limit=limits.score,
        entropy_limit=limits.entropy,
        weights=found.weights,
        origin=origin.mean(axis=0),
        anchor=accuracy,
        accuracy=accuracy,
        n=n,
        noise=float((origin @ found.weights).std()),
        spread=0.0,
        spread_by_change=found.spread,
        reached=np.abs(changes).max(axis=0),
        scores=np.array([0.0, 1.0]),
        wrong=np.array([0.0, 1.0]),
    )


def test_rows_that_have_not_drifted_get_the_accuracy_on_the_labelled_rows():
    rng = np.random.default_rng(0)
    off, harms, covered = [], [], []
    for _ in range(60):
        harm = calibration(rng)
        score, p, wrong = said(rng, 1000)
        change = harm.change_of(score, p)
        off.append((harm.accuracy_at(change) - harm.accuracy) / (harm.noise * np.sqrt(1 / 1000 + 1 / 2000)))
        harms.append(harm.harm_at(change, 1000))
        low, high = harm.interval(change, 1000)
        assert high - low < 0.1
        covered.append(low <= 1 - wrong.mean() <= high)
        assert harm.is_known(change, 1000)
    assert np.std(off) < 1.3  # of a standard error
    assert np.mean(np.array(harms) > 0) <= 0.15  # 5 % are promised, and 9 of 60 are 0.3 % likely then
    assert np.mean(covered) >= 0.85


def test_the_labelled_rows_themselves_are_without_harm():
    rng = np.random.default_rng(1)
    score, p, _ = said(np.random.default_rng(1), 2000)
    harm = calibration(rng)
    change = harm.change_of(score, p)
    np.testing.assert_allclose(change, 0, atol=1e-12)
    assert harm.accuracy_at(change) == pytest.approx(harm.accuracy)
    assert harm.harm_at(change, 2000) == 0


def test_harm_is_told_from_what_does_none():
    rng = np.random.default_rng(2)
    harm = calibration(rng)
    for more, doubt in ((0.0, 0.2), (0.2, 0.0), (0.2, 0.2), (0.3, 0.1)):
        score, p, wrong = said(rng, 2000, more, doubt)
        change = harm.change_of(score, p)
        assert harm.accuracy_at(change) == pytest.approx(1 - wrong.mean(), abs=0.03)
        assert harm.harm_at(change, 2000) == pytest.approx(more, abs=0.04)
    assert harm.is_known(change, 2000)
    score, p, _ = said(rng, 2000, 0.8)
    assert not harm.is_known(harm.change_of(score, p), 2000)


def test_without_corruptions_accuracy_falls_half_as_far_as_confidence():
    np.testing.assert_array_equal(learned_weights(np.zeros((0, 3)), np.zeros(0), 0.01), PRIOR)


def test_what_teaches_nothing_about_another_corruption_is_not_learned():
    rng = np.random.default_rng(4)
    changes = -rng.uniform(0, 0.3, (40, 3))
    names = np.repeat(np.arange(8), 5)
    alike = changes @ [0.5, 0.3, 0.8] + rng.normal(0, 0.002, 40)
    np.testing.assert_allclose(learned(changes, alike, names, 1000).weights, [0.5, 0.3, 0.8], atol=0.1)
    each = np.repeat(rng.normal(size=(8, 3)), 5, axis=0)  # every corruption has its own weights
    apart = learned(changes, (changes * (each + PRIOR)).sum(axis=1), names, 1000)
    np.testing.assert_allclose(apart.weights, PRIOR, atol=0.2)
    alone = learned(changes[:5], alike[:5], names[:5], 1000)  # one corruption is tried on its severities
    assert np.abs(changes[:5] @ alone.weights - alike[:5]).max() < 0.02
    np.testing.assert_allclose(learned(changes[:1], alike[:1], names[:1], 1000).weights, PRIOR, atol=1e-4)


def test_accuracy_never_rises_because_confidence_falls():
    rng = np.random.default_rng(5)
    changes = -rng.uniform(0, 0.3, (40, 3))
    found = learned(changes, changes @ [0.5, -0.2, -2], np.repeat(np.arange(8), 5), 1000)
    assert (found.weights >= 0).all()


def test_what_an_earlier_version_has_written_answers_as_it_did():
    old = {
        "score_limit": 1.0,
        "entropy_limit": 0.5,
        "weights": [0.1, 0.3, 0.5],
        "accuracy": 0.9,
        "n": 400,
        "spread": 0.06,
        "scores": [0.0, 1.0],
        "wrong": [0.1, 0.7],
    }
    harm = HarmCalibration.from_arrays({name: np.asarray(value) for name, value in old.items()})
    p = np.array([[0.99, 0.01]] * 3 + [[0.5, 0.5]])
    change = harm.change_of(np.array([0.5, 2, 2, 2]), p)
    estimate = 0.1 + 0.3 * 0.25 + 0.5 * 0.75
    assert harm.accuracy_at(change) == pytest.approx(estimate)
    reach = np.hypot(0.06, 1.645 * np.sqrt(estimate * (1 - estimate) * (1 / 4 + 1 / 400)))
    assert harm.interval(change, 4) == pytest.approx((estimate - reach, min(1, estimate + reach)))
    assert harm.harm_at(change, 4) == pytest.approx(0.9 - estimate)
    assert harm.is_known(change, 4)
    np.testing.assert_allclose(harm.probability(np.array([0.5])), [0.4])
    again = HarmCalibration.from_arrays(harm.as_arrays())
    assert again.accuracy_at(change) == harm.accuracy_at(change)


def test_shares_of_errors_keep_the_mean_and_ties_together():
    rng = np.random.default_rng(3)
    scores, wrong = np.round(rng.exponential(size=1000), 1), rng.random(1000) < 0.3
    knots, shares, total = shares_of_errors(scores, wrong, np.full(1000, 1 / 1000))
    assert (np.diff(knots) > 0).all()
    assert total.sum() == pytest.approx(1)
    assert (shares * total).sum() == pytest.approx(wrong.mean())
    assert (total > 10 / 1000).all()
    one = shares_of_errors(np.zeros(30), np.arange(30) < 3, np.ones(30))
    assert (one[0].tolist(), one[1].tolist()) == ([0.0], [0.1])
