"""Laws that hold for any input, tried on inputs that hypothesis picks."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops

from demur.backends.divergence import cross_entropy, kl, log_probabilities, log_softmax, sharpen
from demur.calibration.thresholds import percentile_threshold
from demur.errors import NonFinite
from demur.rows.rows import Rows, check_array

relaxed = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHAPE = (5, 6)  # one shape, so that nothing is compiled twice
TEMPERATURES = st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0, 100.0])


def logits(largest):
    return arrays("float32", SHAPE, elements=st.floats(-largest, largest, width=32))


def numpy(tensor):
    return ops.convert_to_numpy(tensor).astype("float64")


def exact_log_softmax(z):
    z = np.asarray(z, "float64")
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@relaxed
@given(logits(1e4), TEMPERATURES)
def test_sharpening_keeps_the_order_and_sums_to_1(z, temperature):
    log_p = numpy(sharpen(log_softmax(z), temperature))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1, atol=1e-5)
    top = z.argmax(axis=-1)
    np.testing.assert_array_equal(log_p[np.arange(len(z)), top], log_p.max(axis=-1))


@relaxed
@given(logits(30), TEMPERATURES)
def test_sharpening_is_the_published_formula(z, temperature):
    p = np.exp(exact_log_softmax(z)) ** (1 / temperature)
    if p.sum(axis=-1).min() < 1e-200:  # the formula itself underflows there
        return
    np.testing.assert_allclose(
        np.exp(numpy(sharpen(log_softmax(z), temperature))), p / p.sum(axis=-1, keepdims=True), atol=1e-4
    )


@relaxed
@given(logits(1e4))
def test_a_temperature_of_1_changes_nothing(z):
    np.testing.assert_allclose(numpy(sharpen(log_softmax(z), 1.0)), numpy(log_softmax(z)), rtol=1e-5, atol=1e-6)


@relaxed
@given(logits(1e4), logits(1e4), TEMPERATURES)
def test_divergence_is_finite_and_never_negative(z, other, temperature):
    score = numpy(kl(sharpen(log_softmax(z), temperature), log_softmax(other)))
    assert np.isfinite(score).all()
    assert (score >= 0).all()


@relaxed
@given(logits(1e4))
def test_divergence_from_oneself_is_0(z):
    np.testing.assert_array_equal(numpy(kl(log_softmax(z), log_softmax(z))), 0)


@relaxed
@given(logits(50), logits(50))
def test_divergence_is_its_definition(z, other):
    a, b = exact_log_softmax(z), exact_log_softmax(other)
    expected = (np.exp(a) * (a - b)).sum(axis=-1)
    np.testing.assert_allclose(numpy(kl(log_softmax(z), log_softmax(other))), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        numpy(cross_entropy(log_softmax(z), log_softmax(other))), -(np.exp(a) * b).sum(axis=-1), rtol=1e-4, atol=1e-5
    )


@relaxed
@given(logits(1.0), st.floats(0.01, 1.0), st.floats(0, 60))
def test_small_divergences_keep_their_precision(direction, size, confidence):
    """Where the classifier is sure, the divergence is far below 1e-7, and still right to a few per cent."""
    z = np.zeros(SHAPE, "float32")
    z[:, 0] = confidence
    other = (z + size * direction).astype("float32")
    d = exact_log_softmax(other) - exact_log_softmax(z)
    expected = (np.exp(exact_log_softmax(z)) * (np.expm1(d) - d)).sum(axis=-1)
    clear = expected > 1e-4 * np.exp(-confidence)
    score = numpy(kl(log_softmax(z), log_softmax(other)))
    np.testing.assert_allclose(score[clear], expected[clear], rtol=0.05)


@relaxed
@given(arrays("float32", SHAPE, elements=st.sampled_from([0.0, 1e-30, 1e-7, 0.5, 1.0])))
def test_probabilities_of_0_and_1_give_finite_scores(p):
    log_p = log_probabilities(p)
    for temperature in (0.01, 1.0, 100.0):
        assert np.isfinite(numpy(kl(sharpen(log_p, temperature), log_p))).all()


def test_a_logit_of_minus_infinity_is_a_probability_of_0():
    z = np.array([[0.0, 1.0, -np.inf]], "float32")
    log_p = log_softmax(z)
    np.testing.assert_allclose(np.exp(numpy(log_p)), [[0.26894, 0.73106, 0]], atol=1e-5)
    assert np.isfinite(numpy(kl(sharpen(log_p, 0.01), log_p))).all()


def test_nan_is_passed_on_and_not_hidden():
    z = np.array([[0.0, np.nan, 1.0]], "float32")
    assert np.isnan(numpy(kl(log_softmax(z), log_softmax(np.zeros((1, 3), "float32"))))).all()


PERCENTAGES = st.just(0.0) | st.floats(1, 100)  # below 1, a share was meant


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), PERCENTAGES, PERCENTAGES)
def test_threshold_grows_with_its_percentile_and_margin(scores, low, high):
    low, high = sorted([low, high])
    scores = np.asarray(scores)
    slack = 1e-9 * (1 + scores.max())
    assert percentile_threshold(scores, low) <= percentile_threshold(scores, high) + slack
    assert percentile_threshold(scores, low, margin=1.5) == pytest.approx(percentile_threshold(scores, low) + 1.5)
    assert scores.min() - slack <= percentile_threshold(scores, low) <= scores.max() + slack


@given(st.integers(1, 60), st.integers(1, 30))
def test_batches_are_the_rows_and_padding_only_repeats_the_last(n, batch_size):
    rows = np.arange(n)[:, None]
    parts = list(Rows.unchecked(rows).batches(batch_size))
    np.testing.assert_array_equal(Rows.joined(parts).raw, rows)
    for part, full in ((batch.raw, batch.padded(batch_size).raw) for batch in parts):
        assert len(part) <= len(full) <= batch_size
        assert len(full) == batch_size or len(full) & (len(full) - 1) == 0
        np.testing.assert_array_equal(full[: len(part)], part)
        assert (full[len(part) :] == part[-1]).all()


@given(st.integers(1, 9000), st.data())
@settings(max_examples=15, deadline=None)
def test_bad_rows_are_named_and_no_others(n, data):
    bad = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=5)))
    rows = np.zeros((n, 3), data.draw(st.sampled_from(["float32", "float64", "float16"])))
    values = [np.nan, np.inf, -np.inf] + ([1e300] if rows.dtype == "float64" else [])
    for row in bad:
        rows[row, data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(values))
    with pytest.raises(NonFinite, match=f"in {len(bad)} of {n} rows: {', '.join(map(str, bad))};"):
        check_array(rows, (3,))
