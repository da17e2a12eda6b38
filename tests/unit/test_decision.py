"""Decisions of a batch, and what is said where they cannot find anything; without a network."""

import re

import numpy as np
import pytest

from demur.errors import DependentRows, NoPower
from demur.guards.decision import Groups, calibrate, calibration_of, decide, grouped
from demur.guards.results import Scored
from tests.scaffold.advice import advises


def scored(scores, predicted=None):
    classes = np.zeros(len(scores), "int64") if predicted is None else np.asarray(predicted)
    return Scored(np.asarray(scores, "float32"), classes, classes, np.zeros(0, "int64"))


def calibrated(n, seed=0, **settings):
    """Of exponential scores."""
    rows = scored(np.random.default_rng(seed).exponential(size=n), settings.pop("predicted", None))
    return calibrate(
        rows, **{"fpr": 0.1, "threshold_perc": 99.0, "margin": 0.0, "labels": None, "classes": None} | settings
    )


def batch(m, bad, seed=1):
    scores = np.random.default_rng(seed).exponential(size=m)
    scores[:bad] += 40
    return scored(scores)


@pytest.mark.parametrize(("m", "bad", "n"), [(1000, 10, 300), (100, 1, 300), (20, 1, 150)])
def test_too_few_calibration_rows_for_the_batch_are_warned_of_and_the_advice_works(m, bad, n):
    few = calibrated(n)
    with advises(NoPower, "or decide by the threshold") as caught:
        found = decide(batch(m, bad), None, few, "fdr", 0.05)
    assert not found["is_adversarial"].any()
    needed = int(re.search(r"infer_threshold on at least ([\d,]+) rows", str(caught[0].message))[1].replace(",", ""))
    found = decide(batch(m, bad), None, calibrated(needed), "fdr", 0.05)  # a warning would be an error here
    assert found["is_adversarial"][:bad].all()
    assert found["is_adversarial"][bad:].sum() <= 2
    assert decide(batch(m, bad), few.threshold, few, None, 0.05)["is_adversarial"][:bad].all()


def test_what_is_found_or_could_be_is_not_warned_of():
    assert decide(batch(1000, 300), None, calibrated(300), "fdr", 0.05)["is_adversarial"].any()
    assert not decide(batch(1000, 0), None, calibrated(5000), "fdr", 0.05)["is_adversarial"].any()
    decide(batch(1000, 0), 1.0, calibrated(50), None, 0.05)


def test_the_class_that_has_too_few_is_named():
    predicted = np.repeat([0, 1], [4000, 50])
    calibration = calibrated(4050, predicted=predicted, classes=2)
    rows = scored(np.full(200, 0.5), np.arange(200) % 2)
    with pytest.warns(NoPower, match="with 50 calibration rows of class 1 .* at least 4,000 rows of each class"):
        decide(rows, None, calibration, "fdr", 0.05)
    decide(scored(np.full(200, 0.5)), None, calibration, "fdr", 0.05)  # of class 0 alone there are enough


def test_parts_of_the_rows_merge_to_what_the_whole_is():
    rng = np.random.default_rng(2)
    scores, predicted, labels = rng.exponential(size=900), rng.integers(0, 3, 900), rng.integers(0, 3, 900)
    settings = {"fpr": 0.1, "threshold_perc": 99.0, "margin": 0.0}
    for true in (None, labels):
        whole = calibration_of(grouped(scores, predicted, true, 3), **settings)
        parts = [slice(0, 100), slice(100, 900)]
        merged = Groups.merged([grouped(scores[p], predicted[p], None if true is None else true[p], 3) for p in parts])
        after = calibration_of(merged, **settings)
        for name, array in whole.as_arrays().items():
            np.testing.assert_array_equal(after.as_arrays()[name], array)
        assert (after.whole is None) == (true is None)
    assert calibration_of(grouped(scores, predicted, predicted, 3), **settings).whole is None


def test_calibration_rows_that_depend_are_warned_of_and_the_advice_works():
    scores = np.repeat(np.random.default_rng(3).exponential(size=2000), 4)

    def calibrate_on(some):
        return calibrate(scored(some), fpr=0.1, threshold_perc=99.0, margin=0.0, labels=None, classes=None)

    with advises(DependentRows, "if they are only sorted, shuffle them") as caught:
        assert calibrate_on(scores).fpr == 0.1
    every = int(re.search(r"infer_threshold\(X\[::(\d+)\]\)", str(caught[0].message))[1])
    assert calibrate_on(scores[::every]).ordinary[None].n == -(-len(scores) // every)
    calibrate_on(np.random.default_rng(4).permutation(scores))
