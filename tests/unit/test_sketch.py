"""Sketches of scores: exact while small, rounded up within the error they state when not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demur.calibration.sketch import ScoreSketch
from demur.calibration.thresholds import ScoreDistribution, conformal_threshold, percentile_threshold
from demur.errors import EmptyInput, NonFinite, TooFewInstances

scores = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=200).map(lambda x: np.array(x, "float32"))


def split(values, parts):
    return [ScoreSketch.of(part) for part in np.array_split(values, parts)]


@given(scores, st.integers(1, 9))
def test_a_merged_sketch_of_few_scores_is_that_of_all_of_them(values, parts):
    found, whole = ScoreSketch.merged(split(values, parts)), ScoreSketch.of(values)
    np.testing.assert_array_equal(found.values, whole.values)
    assert found.error == 0
    np.testing.assert_array_equal(found.distribution().kept, ScoreDistribution.of(values).kept)
    assert found.percentile_threshold(90.0) == percentile_threshold(whole.values, 90.0)


@settings(max_examples=200)
@given(scores, st.integers(1, 9), st.integers(2, 40), st.data())
def test_a_score_read_off_is_never_too_low_and_too_high_by_no_more_ranks_than_stated(values, parts, keep, data):
    sketches = split(values, parts)
    middle = data.draw(st.integers(1, len(sketches)))
    merged = [ScoreSketch.merged(sketches[:middle], keep)]
    if middle < len(sketches):
        merged.append(ScoreSketch.merged(sketches[middle:], keep))
    found = ScoreSketch.merged(merged, keep)
    n, ordered = len(values), np.sort(values)
    assert found.n == n
    assert len(found.values) <= keep
    ranks = np.arange(1, n + 1)
    read = found.at(ranks)
    assert (read >= ordered).all()
    assert (read <= ordered[np.minimum(ranks + found.error, n) - 1]).all()


@given(scores, st.integers(2, 40))
def test_what_a_threshold_promises_survives_rounding(values, keep):
    found = ScoreSketch.merged(split(values, 4), keep)
    exact = conformal_threshold(values, 0.5) if len(values) > 1 else None
    if exact is not None:
        assert found.conformal_threshold(0.5) >= exact
    p, sharp = found.distribution().p_values(values), ScoreDistribution.of(values).p_values(values)
    assert (p >= sharp).all()


def test_a_million_scores_are_kept_to_within_the_stated_error():
    rng = np.random.default_rng(0)
    values = rng.gamma(1, 1, 1_200_000).astype("float32")
    found = ScoreSketch.merged(split(values, 7), keep=100_000)
    assert 0 < found.error <= 7 * 12
    exact = np.sort(values)
    rank = found.n + 1 - int((found.n + 1) * 0.05)
    assert exact[rank - 1] <= found.conformal_threshold(0.05) <= exact[rank - 1 + found.error]
    place = (found.n - 1) * 0.99
    assert exact[int(place)] <= found.percentile_threshold(99.0) <= exact[int(place) + 1 + found.error]


def test_two_million_scores_in_parts_are_rounded_by_less_than_ten_ranks():
    values = np.random.default_rng(0).gamma(1, 1, 2_000_000).astype("float32")
    sketches = split(values, 20)
    found = ScoreSketch.merged([ScoreSketch.merged(sketches[:16]), ScoreSketch.merged(sketches[16:])])
    assert len(found.values) <= 1_000_000
    assert 0 < found.error < 10


def test_what_cannot_calibrate_says_so():
    assert ScoreSketch.of(np.zeros(0, "float32")).n == 0
    with pytest.raises(NonFinite):
        ScoreSketch.of(np.array([0.0, np.inf]))
    with pytest.raises(TooFewInstances, match="at least 99"):
        ScoreSketch.merged(split(np.arange(50.0), 5), keep=10).conformal_threshold(0.01)
    with pytest.raises(EmptyInput, match="no sketch to merge"):
        ScoreSketch.merged([])
    with pytest.raises(EmptyInput):
        ScoreSketch.of(np.zeros(0)).percentile_threshold(50.0)
