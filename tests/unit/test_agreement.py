"""The agreement of a companion with its classifier, and which rows are held out to measure it."""

import warnings

import numpy as np
import pytest

from demur.calibration.agreement import FEWEST, MOST, Agreement, split, warn_if_poor
from demur.errors import InvalidSetting
from tests.scaffold.advice import advises


def test_kappa_is_cohens():
    reference, opinion = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    found = Agreement.of(reference, opinion, held_out=True)
    chance = (3 * 3 + 2 * 3 + 1 * 0) / 36
    assert found.share == pytest.approx(4 / 6)
    assert found.beyond_chance == pytest.approx((4 / 6 - chance) / (1 - chance))


def test_a_constant_opinion_on_a_rare_class_agrees_by_chance_alone():
    reference = (np.arange(1000) % 20 == 0).astype(int)
    found = Agreement.of(reference, np.zeros(1000, int), held_out=True)
    assert found.share == 0.95
    assert found.beyond_chance == pytest.approx(0)
    assert found.is_poor


def test_few_rows_and_one_class_are_no_reason_to_warn():
    assert not Agreement.of(np.array([0, 1, 0, 1]), np.array([1, 1, 0, 0]), held_out=True).is_poor
    assert not Agreement.of(np.zeros(500, int), np.zeros(500, int), held_out=True).is_poor
    assert Agreement.of(np.zeros(500, int), np.zeros(500, int), held_out=True).beyond_chance is None


def test_good_agreement_is_silent_and_poor_agreement_says_what_to_do():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 10, 500)
    for share, poor in ((0.9, False), (0.7, False), (0.3, True), (0.1, True)):
        opinion = np.where(rng.random(500) < share, reference, rng.integers(0, 10, 500))
        found = Agreement.of(reference, opinion, held_out=True)
        assert found.is_poor == poor
        if poor:
            with pytest.warns(UserWarning, match=r"the student agrees .* of 500 held-out rows.*epochs=.*student_net="):
                warn_if_poor(found, "student", "student_net")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warn_if_poor(found, "student", "student_net")


def test_rows_are_held_out_by_seed_and_none_is_lost():
    for n, share, expected in (
        (FEWEST - 1, None, 0),
        (FEWEST, None, 5),
        (400, None, 40),
        (10**6, None, MOST),
        (40, 0.5, 20),
    ):
        kept, aside = split(n, share, 0)
        assert len(aside) == expected
        np.testing.assert_array_equal(np.sort(np.concatenate([kept, aside])), np.arange(n))
    first, again, other = (split(400, None, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(split(400, 0, 0)[1]) == 0


@pytest.mark.parametrize("share", [1, 1.5, -0.1, "0.1", float("nan")])
def test_a_share_outside_what_it_can_mean_is_refused(share):
    with pytest.raises(InvalidSetting, match="validation_split"):
        split(400, share, 0)


def test_something_must_be_left_to_train_on():
    with advises(InvalidSetting, "leaves none to train on: pass a smaller share"):
        split(2, 0.9, 0)
    assert [len(rows) for rows in split(2, 0.5, 0)] == [1, 1]
