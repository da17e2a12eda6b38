"""P-values that hold given the calibration scores, and what is made of them, against slow and obvious ways."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from demur.drift.conditional import conditional_p_values
from demur.drift.evidence import SHARES, Bets, Cusum, Martingale, Observed, Windows


def observed(p, place=None, size=100, time=None):
    p = np.asarray(p, "float64")
    return Observed(p, np.full(len(p), 0.5) if place is None else np.asarray(place), size, time)


# P-values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "delta"), [(1, 0.1), (2, 0.3), (50, 0.05), (400, 0.2)])
def test_all_bounds_hold_at_once_as_often_as_said(n, delta):
    table = conditional_p_values(n, delta)
    uniform = np.sort(np.random.default_rng(0).random((20_000, n)), axis=1)
    holds = (uniform <= table[:n]).all(axis=1).mean()
    assert holds == pytest.approx(1 - delta, abs=0.01)


def test_bounds_are_p_values_with_something_on_top():
    table = conditional_p_values(300, 0.01)
    assert table.shape == (301,)
    assert (np.diff(table) >= 0).all()
    assert table[-1] == 1
    assert (table[:-1] > np.arange(1, 301) / 301).all()
    assert (conditional_p_values(300, 0.001) >= table).all()
    larger = conditional_p_values(3000, 0.01)
    assert (larger[9:2500:10] < table[:250]).all(), "more calibration scores tell more"


def test_one_calibration_score_and_two():
    assert conditional_p_values(1, 0.1) == pytest.approx([0.9, 1], abs=1e-4)
    # Of two, at one level g: b_1 = 1 - sqrt(g), b_2 = sqrt(1 - g), and P(U_1 <= b_1, U_2 <= b_2) = 2 b_1 b_2 - b_1^2.
    first, second, _ = conditional_p_values(2, 0.1)
    assert 2 * first * second - first**2 == pytest.approx(0.9, abs=1e-3)
    assert (1 - first) ** 2 == pytest.approx(1 - second**2, rel=1e-6)


# Bets ---------------------------------------------------------------------------------------------------------------


SMALLEST = 0.01
BETS = Bets(SMALLEST)


def test_bets_pay_one_on_average_and_more_for_smaller_p_values():
    assert sorted(set(BETS.thresholds)) == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32])
    assert len(BETS) == 6 * len(SHARES)
    uniform = (np.arange(100_000) + 0.5) / 100_000
    pays = BETS.log_pays(uniform)
    np.testing.assert_allclose(np.exp(pays).mean(axis=1), 1, atol=1e-3)
    assert (np.diff(pays, axis=1) <= 0).all()
    assert (pays[:, 0] > pays[:, -1]).all()
    for smallest in (0.5, 0.9, 1.0):  # of a calibration set too small to tell anything
        pays = Bets(smallest).log_pays(np.array([smallest, 1.0]))
        assert (smallest * np.exp(pays[:, 0]) + (1 - smallest) * np.exp(pays[:, 1]) <= 1 + 1e-9).all()


def wealth_by_hand(p):
    """The mixture over when betting starts, one start and one bet at a time."""
    reserve = 1 / np.log2(np.arange(len(p) + 1) + 2)
    pays = np.exp(BETS.log_pays(p))
    return np.array(
        [
            reserve[t]
            + np.mean([sum((reserve[j] - reserve[j + 1]) * bet[j:t].prod() for j in range(t)) for bet in pays])
            for t in range(1, len(p) + 1)
        ]
    )


def test_wealth_is_that_of_all_starts_together():
    p = np.random.default_rng(1).beta(0.7, 1, 40)
    martingale = Martingale(0.01, SMALLEST)
    found = np.concatenate([martingale.add(observed(part)) for part in np.split(p, [1, 2, 17])])
    np.testing.assert_allclose(np.exp(found), wealth_by_hand(p), rtol=1e-9)
    assert martingale.limit == pytest.approx(np.log(200))


def test_wealth_stays_what_it_was_on_average():
    """Of uniform p-values, stopped at the limit: rare riches beyond would make the mean hard to see."""
    rng = np.random.default_rng(2)
    ends = []
    for _ in range(2000):
        found = np.exp(Martingale(0.1, SMALLEST).add(observed(rng.random(200))))
        over = np.flatnonzero(found >= 20)
        ends.append(found[over[0]] if len(over) else found[-1])
    assert np.mean(ends) == pytest.approx(1, abs=0.15)
    assert np.mean(np.array(ends) >= 20) <= 0.05


def test_sums_start_anew_at_zero():
    p = np.random.default_rng(3).beta(0.8, 1, 300)
    sums, found = np.zeros(len(BETS)), []
    for pays in BETS.log_pays(p).T:
        sums = np.maximum(sums, 0) + pays
        found.append(np.log(np.mean(np.exp(sums))))
    cusum = Cusum(1000, SMALLEST)
    added = np.concatenate([cusum.add(observed(part)) for part in np.split(p, [1, 30, 150])])
    np.testing.assert_allclose(added, found, rtol=1e-9, atol=1e-12)
    assert cusum.limit == pytest.approx(np.log(1000))


def test_runs_between_false_alarms_are_as_long_as_said():
    rng, lengths = np.random.default_rng(4), []
    for _ in range(300):
        cusum, length = Cusum(50, SMALLEST), 0
        while True:
            enough = np.flatnonzero(cusum.add(observed(rng.random(100))) >= cusum.limit)
            length += int(enough[0]) + 1 if len(enough) else 100
            if len(enough):
                break
        lengths.append(length)
    assert np.mean(lengths) > 50


def test_a_window_is_tested_by_mann_and_whitney():
    rng = np.random.default_rng(5)
    reference, batch = np.sort(rng.normal(size=200)), rng.normal(0.5, size=60)
    place = np.searchsorted(reference, batch) / 200
    windows = Windows(0.05, 30)
    found = windows.add(observed(np.ones(60), place, 200))
    expected = [
        mannwhitneyu(part, reference, alternative="greater", method="asymptotic").pvalue
        for part in (batch[:30], batch[30:])
    ]
    spent = 6 / np.pi**2
    assert (found[:29] == -np.inf).all()
    np.testing.assert_allclose(found[29:59], np.log(spent / expected[0]), rtol=1e-6)
    assert found[59] == pytest.approx(np.log(spent / 4 / expected[1]), rel=1e-6)
    assert sum(6 / (np.pi * np.arange(1, 10_000)) ** 2) < 1


def test_windows_of_a_length_in_time_close_when_the_next_begins():
    times = np.array([0.0, 1, 9, 10, 11, 35, 36])
    windows = Windows(0.05, 10.0)
    found = windows.add(observed(np.ones(7), np.full(7, 0.9), 50, times))
    assert (found[:3] == -np.inf).all()
    assert np.isfinite(found[3])
    assert found[3] == found[4]
    assert found[5] != found[4]
    assert windows.done == 2  # of the empty windows in between nothing is said
    assert windows.needs_time
    assert not Windows(0.05, 10).needs_time


@pytest.mark.parametrize(
    "make", [lambda: Martingale(0.01, SMALLEST), lambda: Cusum(100, SMALLEST), lambda: Windows(0.01, 7)]
)
def test_a_state_is_all_there_is(make):
    rng = np.random.default_rng(6)
    parts = [observed(rng.random(n), rng.random(n)) for n in (0, 5, 1, 20)]
    one, other = make(), make()
    for part in parts:
        expected = one.add(part)
        other.resume(one.state()) if part is parts[1] else None
        found = other.add(part) if part is not parts[1] else expected
        np.testing.assert_array_equal(found, expected)
    assert one.state() == other.state()
