"""Batches tested and streams watched: by scores alone, without a network."""

import datetime
import itertools
import json
import math
import re

import numpy as np
import pytest
from scipy.stats import ks_2samp, mannwhitneyu, rankdata

from demur import drift
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.drift import Alarm, Monitor
from demur.drift import test as drift_test
from demur.errors import (
    CorruptMonitor,
    DependentRows,
    EmptyInput,
    InvalidSetting,
    NonFinite,
    NotCalibrated,
    ShapeMismatch,
    WrongDetector,
    WrongType,
)
from demur.guards.decision import calibration_of, grouped


def scores(n, seed=0, bad=0.0):
    """Exponential ones, of which a share is larger by 5."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=n) + 5 * (rng.random(n) < bad)


def calibrated(n=500, seed=100):
    return Calibration({None: ScoreDistribution.of(scores(n, seed))}, 3.0, 0.05)


def by_class(n=300):
    """Of class 1, scores are ten times as large."""
    parts = {k: ScoreDistribution.of(10**k * scores(n, 50 + k)) for k in (0, 1)}
    return Calibration(parts, np.array([3.0, 30.0]), 0.05)


# Batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_is_compared_as_scipy_does():
    calibration, batch = calibrated(), scores(80, 1, bad=0.2)
    kept = calibration.distributions[None].kept.astype("float64")
    batch32 = batch.astype("float32").astype("float64")
    found = drift_test(calibration, scores=batch)["data"]
    expected = mannwhitneyu(batch32, kept, alternative="greater")
    assert (found["statistic"], found["p_value"]) == (expected.statistic, expected.pvalue)
    assert found["is_drift"] is True
    assert found["n"] == 80
    assert found["mean_score"] == pytest.approx(batch.mean(), rel=1e-6)
    assert found["reference_mean"] == pytest.approx(kept.mean())
    assert found["effect_size"] == pytest.approx(2 * expected.statistic / (80 * 500) - 1)
    assert "invalid" not in found
    other = drift_test(calibration, scores=batch, method="ks")["data"]
    expected = ks_2samp(batch32, kept, alternative="less")
    assert (other["statistic"], other["p_value"]) == (expected.statistic, expected.pvalue)
    means = [drift_test(calibration, scores=batch, method="permutation", seed=seed)["data"] for seed in (1, 1, 2)]
    assert means[0] == means[1]
    assert means[0]["statistic"] == pytest.approx(batch32.mean() - kept.mean())
    assert means[0]["p_value"] == pytest.approx(means[2]["p_value"], abs=0.01)


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_equal_scores_count_as_scipy_counts_them(levels):
    """Many rows, so that the normal approximation decides: its variance is smaller where scores are equal."""
    draws = np.random.default_rng(levels)
    kept, batch = draws.integers(0, levels, 600), draws.integers(0, levels, 500)
    calibration = Calibration({None: ScoreDistribution.of(kept.astype("float32"))}, 3.0, 0.05)
    found = drift_test(calibration, scores=batch)["data"]
    expected = mannwhitneyu(batch, kept, alternative="greater", method="asymptotic")
    assert found["statistic"] == expected.statistic
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("method", ["mann-whitney", "ks", "permutation"])
def test_only_larger_scores_are_drift(method):
    calibration = calibrated()
    assert drift_test(calibration, scores=0.2 * scores(100, 2), method=method)["data"]["p_value"] > 0.9
    assert drift_test(calibration, scores=2 * scores(100, 2), method=method)["data"]["p_value"] < 0.01


@pytest.mark.parametrize("method", ["mann-whitney", "ks"])
def test_false_alarms_of_batches_are_as_rare_as_said(method):
    alarms = [
        drift_test(calibrated(300, 1000 + i), scores=scores(40, 5000 + i), alpha=0.1, method=method)["data"]["is_drift"]
        for i in range(400)
    ]
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.045)


def test_ties_and_single_scores():
    constant = Calibration({None: ScoreDistribution.of(np.zeros(50))}, 0.0, 0.05)
    assert drift_test(constant, scores=np.zeros(20))["data"]["effect_size"] == 0
    assert not drift_test(constant, scores=np.zeros(20))["data"]["is_drift"]
    assert drift_test(constant, scores=np.ones(20))["data"]["effect_size"] == 1
    one = drift_test(calibrated(), scores=100.0)["data"]
    assert one["n"] == 1
    assert one["p_value"] < 0.01


def test_classes_with_calibration_scores_of_their_own_are_put_together():
    found = drift_test(by_class(), scores=scores(50))["data"]
    assert found["reference_mean"] == pytest.approx(5.5, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scores": []}, EmptyInput, "no scores"),
        ({"scores": [1.0, np.nan]}, NonFinite, "1 of 2 scores are not finite: 1"),
        ({"scores": [[1.0]]}, ShapeMismatch, "of shape"),
        ({"scores": ["a"]}, ShapeMismatch, "must be numbers"),
        ({"scores": [1.0, [2.0, 3.0]]}, ShapeMismatch, "lists of one length each"),
        ({}, InvalidSetting, "pass rows, X, or scores="),
        ({"X": np.zeros((2, 2)), "scores": [1.0]}, InvalidSetting, "and not both"),
        ({"X": np.zeros((2, 2))}, WrongType, "nothing to score rows with"),
        ({"scores": [1.0], "alpha": 0}, InvalidSetting, "alpha is the chance"),
        ({"scores": [1.0], "alpha": True}, InvalidSetting, "alpha is the chance"),
        ({"scores": [1.0], "method": "t"}, InvalidSetting, "method is one of 'mann-whitney', 'ks', 'permutation'"),
        ({"scores": [1.0], "seed": -1}, InvalidSetting, "seed"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        drift_test(calibrated(), **arguments)


def test_what_is_no_detector_is_refused():
    with pytest.raises(WrongType, match="or its calibration; got str"):
        drift_test("detector", scores=[1.0])


# Streams ------------------------------------------------------------------------------------------------------------


def alarmed(method, n, *, bad=0.0, alpha=0.1, seed=0, size=200, **settings):
    monitor = Monitor(calibrated(size, 10_000 + seed), alpha=alpha, method=method, **settings)
    return monitor.update(scores=scores(n, 20_000 + seed, bad)).alarm


@pytest.mark.parametrize(("method", "settings"), [("martingale", {}), ("window", {"window": 50})])
def test_false_alarms_are_rare_for_ever(method, settings):
    """Each stream has a calibration set of its own."""
    assert np.mean([alarmed(method, 5000, seed=seed, **settings) for seed in range(200)]) <= 0.1


def test_p_values_that_ignore_the_draw_of_the_calibration_set_would_not_do():
    """What the bounds are for: bets on ordinary conformal p-values raise false alarms on most long streams."""
    from demur.drift.evidence import Martingale, Observed

    alarms = []
    for seed in range(40):
        distribution = calibrated(200, 10_000 + seed).distributions[None]
        p = distribution.p_values(scores(20_000, 20_000 + seed))
        martingale = Martingale(0.1, 1 / 201)
        alarms.append((martingale.add(Observed(p, p, 200, None)) >= martingale.limit).any())
    assert np.mean(alarms) > 0.3


@pytest.mark.parametrize(
    ("method", "settings"), [("martingale", {}), ("cusum", {"run_length": 10_000}), ("window", {"window": 50})]
)
def test_drift_is_found(method, settings):
    assert np.mean([alarmed(method, 600, bad=0.5, alpha=0.01, seed=seed, **settings) for seed in range(20)]) == 1


def test_what_is_tolerated_raises_no_alarm():
    for seed in range(10):
        assert not alarmed("martingale", 3000, bad=0.05, seed=seed, size=5000, tolerance=0.1)
    assert alarmed("martingale", 3000, bad=0.3, size=5000, tolerance=0.1)
    assert alarmed("martingale", 3000, bad=0.05, size=5000)


@pytest.mark.parametrize("method", ["martingale", "cusum", "window"])
def test_how_a_stream_is_cut_does_not_matter(method, monkeypatch):
    stream = np.concatenate([scores(700, 1), scores(300, 2, bad=0.5)])
    settings = {"method": method, "window": 64, "run_length": 1000, "cooldown": 50, "alpha": 0.05}
    whole = Monitor(calibrated(), **settings).update(scores=stream)
    single = Monitor(calibrated(), **settings)
    for score in stream:
        single.update(scores=score)
    monkeypatch.setattr(drift.monitor, "CHUNK", 37)
    chunked = Monitor(calibrated(), **settings).update(scores=stream)
    assert whole.alarm_count > 0
    for other in (single, chunked):
        assert other.count == whole.count == 1000
        assert [alarm.at for alarm in other.alarms] == [alarm.at for alarm in whole.alarms]
        assert other.alarm == whole.alarm
        assert other.log_evidence == pytest.approx(whole.log_evidence, abs=1e-6)


def test_an_alarm_is_raised_by_the_score_that_is_enough_and_stays():
    called = []
    monitor = Monitor(calibrated(), on_alarm=[called.append, lambda alarm: called.append(alarm.at)])
    monitor.update(scores=scores(100))
    assert not monitor.alarm
    assert monitor.evidence < monitor.limit == pytest.approx(200)
    monitor.update(scores=np.full(100, 50.0))
    (alarm,) = monitor.alarms
    assert monitor.alarm
    assert called == [alarm, alarm.at]
    assert 100 < alarm.at < 115
    assert alarm.time is None
    assert alarm.log_evidence >= math.log(200)
    assert monitor.count == 200
    monitor.update(scores=np.zeros(1000))
    assert monitor.alarm
    assert monitor.alarm_count == 1
    assert not monitor.reset().alarm
    assert monitor.evidence == 1
    assert monitor.update(scores=np.full(30, 50.0)).alarm_count == 2
    assert "alarm" in repr(monitor)


def test_after_an_alarm_it_rests_for_so_many_scores():
    monitor = Monitor(calibrated(), cooldown=100)
    monitor.update(scores=np.full(50, 50.0))
    first = monitor.alarms[0].at
    assert monitor.alarm
    monitor.update(scores=np.full(first + 99 - 50, 50.0))
    assert monitor.alarm
    monitor.update(scores=[0.1])
    assert not monitor.alarm
    monitor.update(scores=np.full(20, 50.0))
    assert [alarm.at for alarm in monitor.alarms] == [first, first + 100 + first]


def test_after_an_alarm_it_rests_for_so_long():
    noon = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    monitor = Monitor(calibrated(), cooldown="1h")
    monitor.update(scores=np.full(20, 50.0), time=noon)
    assert monitor.alarm
    assert monitor.alarms[0].time == noon.timestamp()
    monitor.update(scores=np.full(20, 50.0), time=noon + datetime.timedelta(minutes=59))
    assert monitor.alarm
    monitor.update(scores=[0.1], time=noon + datetime.timedelta(minutes=61))
    assert not monitor.alarm
    assert monitor.alarm_count == 1
    monitor.update(scores=np.full(20, 50.0), time=np.datetime64("2026-01-01T14:00"))
    assert monitor.alarm_count == 2


def test_alarms_that_are_kept_are_bounded():
    monitor = Monitor(calibrated(), cooldown=1)
    monitor.update(scores=np.full(3000, 50.0))
    assert monitor.alarm_count > 100
    assert len(monitor.alarms) == 100
    assert monitor.alarms[-1].at > monitor.alarms[0].at
    size = len(json.dumps(monitor.state()))
    assert len(json.dumps(monitor.update(scores=scores(20_000)).state())) < size + 200


def test_classes_are_compared_with_their_own():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 2000)
    stream = 10**classes * scores(2000)
    monitor = Monitor(by_class())
    assert not monitor.update(scores=stream, predicted=classes).alarm
    assert Monitor(by_class()).update(scores=stream, predicted=np.zeros(2000, int)).alarm
    with pytest.raises(InvalidSetting, match="pass predicted="):
        monitor.update(scores=[1.0])
    with pytest.raises(InvalidSetting, match="of classes \\[0, 1\\]; got 7"):
        monitor.update(scores=[1.0], predicted=[7])
    with pytest.raises(ShapeMismatch, match="one whole number"):
        monitor.update(scores=[1.0], predicted=[0.5])
    assert monitor.count == 2000


def test_calibrations_that_are_sketches_do():
    calibration = calibrated(50_000)
    assert len(calibration.distributions[None].kept) == 10_000
    monitor = Monitor(calibration)
    assert not monitor.update(scores=scores(20_000, 3)).alarm
    assert monitor.update(scores=scores(3000, 4, bad=0.1)).alarm


# Keeping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["martingale", "cusum", "window"])
@pytest.mark.parametrize("cooldown", [None, 40, "90s"])
def test_a_monitor_goes_on_exactly_where_it_was(method, cooldown, tmp_path):
    rng = np.random.default_rng(9)
    calibration = calibrated()
    monitor = Monitor(calibration, method=method, window="2min", cooldown=cooldown, tolerance=0.01, run_length=500)
    now = 0.0
    for step in range(12):
        again = None
        if step:
            monitor.save(tmp_path / "monitor.json")
            again = Monitor.load(tmp_path / "monitor.json", detector=calibration)
            assert again.state() == monitor.state()
        part = scores(int(rng.integers(1, 80)), step, bad=0.5 * (step in (4, 5, 8)))
        times = now + np.arange(len(part))
        now = times[-1]
        monitor.update(scores=part, time=times)
        if again is not None:
            assert again.update(scores=part, time=times).state() == monitor.state()
    assert monitor.alarm_count > 0
    assert Monitor.load(tmp_path / "monitor.json", detector=calibration).alarms[0] == monitor.alarms[0]
    assert isinstance(monitor.alarms[0], Alarm)


def test_a_state_is_checked(tmp_path):
    file, calibration = tmp_path / "monitor.json", calibrated()
    monitor = Monitor(calibration).update(scores=scores(10))
    monitor.save(file)
    with pytest.raises(WrongDetector, match="of another detector, or of the same one calibrated on other rows"):
        Monitor.load(file, detector=calibrated(seed=1))
    with pytest.raises(FileNotFoundError):
        Monitor.load(tmp_path / "none.json", detector=calibration)
    document = json.loads(file.read_text())
    for change, message in [
        ({"format": 2}, "has format 2, and this demur"),
        ({"count": "many"}, "is not the state of a monitor"),
        ({"settings": {}, "evidence": {}}, "is not the state of a monitor"),
        ({"settings": {"alpha": 7}}, "alpha is the chance"),
    ]:
        file.write_text(json.dumps(document | change))
        with pytest.raises(CorruptMonitor, match=message):
            Monitor.load(file, detector=calibration)
    for text in ("", "[]", "{}", "\x00"):
        file.write_text(text)
        with pytest.raises(CorruptMonitor, match="is not the state of a monitor"):
            Monitor.load(file, detector=calibration)
    with pytest.raises(FileNotFoundError, match="make it first"):
        monitor.save(tmp_path / "nowhere" / "monitor.json")
    with pytest.raises(WrongType):
        Monitor.load(file, detector=None)


DAMAGED = {
    "martingale": [("evidence", "count"), ("evidence", "wealth")],
    "cusum": [("evidence", "sums")],
    "window": [("evidence", "places"), ("evidence", "done"), ("evidence", "count")],
}
SHARED = [(name,) for name in ("count", "invalid", "alarms", "alarm_count", "is_alarmed", "evidence")]
MEASURED = [("autocorrelation", name) for name in ("waiting", "count", "sums", "worst", "segments", "largest")]


@pytest.mark.parametrize("method", DAMAGED)
@pytest.mark.parametrize("value", [None, [None], "many", "missing"])
def test_a_damaged_state_is_told(method, value, tmp_path):
    file, calibration = tmp_path / "monitor.json", calibrated()
    state = json.dumps(Monitor(calibration, method=method).update(scores=scores(300)).state())
    for *where, name in [*SHARED, ("settings", "alpha"), ("settings", "window"), *MEASURED, *DAMAGED[method]]:
        document = json.loads(state)
        part = document[where[0]] if where else document
        part[name] = value
        if value == "missing":
            del part[name]
            if where == ["settings"]:  # earlier versions had fewer settings
                continue
        file.write_text(json.dumps(document))
        with pytest.raises(CorruptMonitor, match="is not the state of a monitor"):
            Monitor.load(file, detector=calibration)


def test_a_rest_without_a_cooldown_is_told(tmp_path):
    file, calibration = tmp_path / "monitor.json", calibrated()
    file.write_text(json.dumps({**Monitor(calibration).state(), "resting": 300}))
    with pytest.raises(CorruptMonitor, match="no cooldown to rest for"):
        Monitor.load(file, detector=calibration)


# Bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1}, "alpha is the chance"),
        ({"method": "adwin"}, "method is one of 'martingale', 'cusum', 'window'; got 'adwin'"),
        ({"method": ["cusum"]}, "method is one of"),
        ({"tolerance": 1}, "tolerance is a share"),
        ({"every": 0}, "every"),
        ({"every": 1.5}, "every"),
        ({"run_length": 1}, "run_length"),
        ({"window": 0}, "window"),
        ({"window": "soon"}, "window is a time such as"),
        ({"cooldown": -1}, "cooldown"),
        ({"cooldown": "0s"}, "cooldown is a time such as"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        Monitor(calibrated(), **settings)


def test_what_is_called_can_be_called():
    with pytest.raises(WrongType, match="on_alarm is a function"):
        Monitor(calibrated(), on_alarm="call me")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scores": []}, EmptyInput, "no scores"),
        ({"scores": [np.nan]}, NonFinite, "not finite"),
        ({"scores": [1.0, 2.0], "time": [2.0, 1.0]}, InvalidSetting, "time goes backwards, to 1 after 2"),
        ({"scores": [1.0], "time": 0.5}, InvalidSetting, "time goes backwards, to 0.5 after 1"),
        ({"scores": [1.0, 2.0], "time": [2.0, 3.0, 4.0]}, InvalidSetting, "one for each of the 2 scores; got 3"),
        ({"scores": [1.0], "time": "now"}, InvalidSetting, "time is a number of seconds or a datetime"),
        ({"scores": [1.0], "time": np.inf}, InvalidSetting, "time is a number|must be finite"),
    ],
)
def test_what_makes_no_sense_changes_nothing(arguments, error, message):
    monitor = Monitor(calibrated()).update(scores=[1.0, 2.0], time=[0.0, 1.0])
    before = monitor.state()
    with pytest.raises(error, match=message):
        monitor.update(**arguments)
    assert monitor.state() == before


def test_lengths_in_time_need_times():
    for settings in ({"method": "window", "window": 60.0}, {"cooldown": "1min"}):
        with pytest.raises(InvalidSetting, match="needs to know when"):
            Monitor(calibrated(), **settings).update(scores=[1.0])


def test_a_detector_without_calibration_is_refused():
    class Uncalibrated:
        calibration = None

    with pytest.raises(WrongType, match="got Uncalibrated"):
        Monitor(Uncalibrated())
    assert issubclass(NotCalibrated, ValueError)


# Classes of many sizes, labels, equal scores ------------------------------------------------------------------------


def rare(rng, n, shift):
    """A class of 2 % whose scores are shifted."""
    classes = (rng.random(n) < 0.02).astype(int)
    return (np.abs(rng.normal(size=n)) + shift * classes).astype("float32"), classes


@pytest.mark.parametrize("shift", [1.0, -0.5])
def test_each_class_weighs_as_many_rows_as_it_had(shift):
    """Each class keeps 10,000 scores at most, however many rows it had."""
    rng = np.random.default_rng(8)
    scored, classes = rare(rng, 200_000, shift)
    calibration = calibration_of(grouped(scored, classes, None, 2), fpr=0.05, threshold_perc=99.0, margin=0.0)
    alarms = 0
    for _ in range(30):
        batch, of = rare(rng, 1000, shift)
        for predicted in (None, of):
            alarms += drift_test(calibration, scores=batch, predicted=predicted, alpha=0.01)["data"]["is_drift"]
    assert alarms <= 4  # of 60, at 1 %: more with a chance of 4 in 10,000
    found = drift_test(calibration, scores=scored[:1000])["data"]
    assert found["reference_mean"] == pytest.approx(scored.mean(), rel=2e-3)
    batch, of = rare(rng, 1000, shift)
    batch[:150] += 1.5
    for predicted in (None, of):
        assert drift_test(calibration, scores=batch, predicted=predicted)["data"]["is_drift"]


def test_pooled_groups_are_the_scores_of_all_rows():
    rng = np.random.default_rng(3)
    parts = [rng.exponential(size=n).astype("float32") for n in (90_000, 700, 1)]
    pooled = ScoreDistribution.pooled([ScoreDistribution.of(part) for part in parts])
    exact = np.sort(np.concatenate(parts))
    assert pooled.n == len(exact)
    assert pooled.counts.sum() == len(exact)
    place = np.searchsorted(exact, pooled.kept, side="right") / len(exact)
    np.testing.assert_allclose(place, np.arange(1, 10_001) / 10_000, atol=3e-4)
    few = ScoreDistribution.pooled([ScoreDistribution.of(part[:500]) for part in parts])
    np.testing.assert_array_equal(few.kept, np.sort(np.concatenate([part[:500] for part in parts])))


@pytest.mark.parametrize("method", ["mann-whitney", "ks", "permutation"])
def test_another_mixture_of_classes_alone_is_no_drift(method):
    rng = np.random.default_rng(2)
    calibration = by_class(200)
    found = []
    for shift in (0.0, 1.0):
        classes = (rng.random(60) < 0.8).astype(int)
        batch = 10**classes * (rng.exponential(size=60) + shift)
        found.append(drift_test(calibration, scores=batch, predicted=classes, method=method)["data"])
        assert found[-1]["reference_mean"] == pytest.approx(1 + 9 * classes.mean(), rel=0.2)
    assert found[0]["p_value"] > 0.05
    assert found[1]["p_value"] < 0.01
    assert found[1]["effect_size"] > 0.3
    with pytest.raises(InvalidSetting, match="of classes \\[0, 1\\]; got 7"):
        drift_test(calibration, scores=[1.0], predicted=[7])


def labelled(n, seed):
    """Scores of a classifier that is wrong on 12 % of the rows, where they are larger; and where it is wrong."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < 0.12
    return np.exp(rng.normal(size=n) + 1.5 * wrong).astype("float32"), wrong.astype(int)


@pytest.mark.parametrize("classes", [None, 1])
def test_rows_that_the_classifier_gets_wrong_are_ordinary_rows_too(classes, tmp_path):
    scored, wrong = labelled(2000, 1)
    right = np.zeros(2000, int)
    calibration = calibration_of(grouped(scored, right, wrong, classes), fpr=0.05, threshold_perc=99.0, margin=0.0)
    limit = float(np.atleast_1d(calibration.threshold)[0])
    assert np.mean(scored[wrong == 0] > limit) == pytest.approx(0.05, abs=0.002)
    assert np.mean(scored > limit) > 0.08
    saved = Calibration.from_arrays(calibration.as_arrays())
    assert calibration.whole is not None
    for one in (calibration, saved):
        assert sum(part.n for part in one.ordinary.values()) == 2000
        assert sum(part.n for part in one.distributions.values()) == 2000 - wrong.sum()
        batches = [labelled(500, 100 + seed)[0] for seed in range(30)]
        assert sum(drift_test(one, scores=batch, alpha=0.01)["data"]["is_drift"] for batch in batches) <= 3
    monitor = Monitor(saved, alpha=0.05)
    assert not monitor.update(scores=labelled(5000, 7)[0], predicted=np.zeros(5000, int)).alarm
    monitor.save(tmp_path / "monitor.json")
    assert Monitor.load(tmp_path / "monitor.json", detector=calibration).count == 5000


def test_calibrations_of_all_rows_are_stored_as_before():
    calibration = by_class()
    assert calibration.whole is None
    assert calibration.ordinary is calibration.distributions
    assert set(calibration.as_arrays()) == {"threshold", "fpr"} | {
        f"class_{k}_{what}" for k in (0, 1) for what in ("scores", "n")
    }


def test_equal_scores_in_small_batches_are_tested_exactly():
    """Against all ways to draw the batch, one by one."""
    rng = np.random.default_rng(4)
    for m, n, values in [(3, 5, 3), (4, 4, 2), (6, 3, 2), (2, 8, 4), (5, 5, 1)]:
        batch, reference = (rng.integers(0, values, k).astype(float) for k in (m, n))
        ranks = rankdata(np.concatenate([batch, reference]))
        sums = np.array([ranks[list(drawn)].sum() for drawn in itertools.combinations(range(m + n), m)])
        calibration = Calibration({None: ScoreDistribution.of(reference)}, 1.0)
        found = drift_test(calibration, scores=batch)["data"]
        assert found["p_value"] == pytest.approx(np.mean(sums >= ranks[:m].sum() - 1e-9), abs=1e-9)


def test_equal_scores_raise_no_more_false_alarms_than_said():
    """Of ten scores among a thousand of which 1 % are not 0: the normal approximation says 1 % of 10 %."""
    rng = np.random.default_rng(5)
    reference = np.where(rng.random(1000) < 0.99, 0, rng.exponential(size=1000))
    calibration = Calibration({None: ScoreDistribution.of(reference)}, 1.0)
    one = np.append(np.zeros(9), 0.5)
    p = drift_test(calibration, scores=one)["data"]["p_value"]
    assert p > 0.05
    assert mannwhitneyu(one, reference, alternative="greater", method="asymptotic").pvalue < 0.02
    two = drift_test(calibration, scores=np.append(np.zeros(8), [0.5, 0.6]))["data"]["p_value"]
    assert two < 0.02


def test_few_scores_against_many_are_tested_at_once():
    """SciPy's exact test of five scores against 10,000 takes a minute."""
    found = drift_test(calibrated(10_000), scores=[4.0, 5.0, 6.0, 0.1, 3.0])["data"]
    expected = mannwhitneyu([4.0, 5.0, 6.0, 0.1, 3.0], scores(10_000, 100), alternative="greater", method="asymptotic")
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=0.5)


@pytest.mark.parametrize("few", [3, 20, 100])
def test_windows_know_how_few_calibration_scores_a_class_has(few):
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, few])
        parts = {0: rng.exponential(size=2000), 1: rng.exponential(size=few)}
        calibration = Calibration({k: ScoreDistribution.of(part) for k, part in parts.items()}, np.zeros(2))
        classes = (rng.random(1000) < 0.9).astype(int)
        monitor = Monitor(calibration, method="window", window=250, alpha=0.05)
        alarms += monitor.update(scores=rng.exponential(size=1000), predicted=classes).alarm
    assert alarms <= 9  # of 60, at 5 %: more with a chance of 2 in 1,000


def test_windows_tolerate_what_is_tolerated():
    settings = {"method": "window", "window": 200, "alpha": 0.05, "size": 5000}
    alarms = [alarmed(n=2000, bad=0.1, tolerance=0.1, seed=seed, **settings) for seed in range(20)]
    assert sum(alarms) <= 4
    assert alarmed(n=2000, bad=0.1, seed=0, **settings)
    assert alarmed(n=2000, bad=0.5, tolerance=0.1, seed=0, **settings)


def test_states_of_windows_without_counts_of_groups_go_on():
    windows = Monitor(by_class(), method="window", window=50)
    windows.update(scores=scores(30), predicted=np.zeros(30, int))
    state = windows.state()
    old = {key: value for key, value in state["evidence"].items() if key != "counts"}
    windows._evidence.resume(old)
    windows.update(scores=scores(20, 1), predicted=np.zeros(20, int))
    assert math.isfinite(windows.log_evidence)


# Dependent rows -----------------------------------------------------------------------------------------------------


def dependent(n, rho, seed):
    """The exponential of an autoregression."""
    steps = np.random.default_rng(seed).normal(size=n) * np.sqrt(1 - rho**2)
    for i in range(1, n):
        steps[i] += rho * steps[i - 1]
    return np.exp(steps)


def lognormal(n, seed):
    return np.exp(np.random.default_rng(seed).normal(size=n))


def of_lognormal(n=1000, seed=5):
    return Calibration({None: ScoreDistribution.of(lognormal(n, seed))}, 1.0)


@pytest.mark.parametrize(
    ("longer", "every"), [(np.repeat(lognormal(8000, 1), 5), (5, 15)), (dependent(60_000, 0.9, 2), (20, 60))]
)
def test_dependent_rows_are_warned_of_and_the_advice_works(longer, every):
    monitor = Monitor(of_lognormal())
    with pytest.warns(DependentRows, match=r"Look at every \d+th score alone") as caught:
        monitor.update(scores=longer[:5000])
    assert len(caught) == 1
    assert monitor.is_dependent
    advised = int(re.search(r"Monitor\(..., every=(\d+)\)", str(caught[0].message))[1])
    assert every[0] <= advised <= every[1]
    again = Monitor(of_lognormal(), every=advised).update(scores=longer)  # a warning would be an error here
    assert (again.count, again.passed) == (-(-len(longer) // advised), len(longer) - again.count)
    assert again.count > 1024
    assert not again.is_dependent
    assert not monitor.reset().is_dependent


def test_the_remedy_keeps_the_promise_of_windows():
    """Windows break it most: with every row, four in five of these streams raise an alarm."""
    alarms = {1: 0, 25: 0}
    for seed in range(20):
        stream = dependent(10_000, 0.9, 1000 + seed)
        for every in alarms:
            monitor = Monitor(of_lognormal(2000, seed), method="window", window=50, alpha=0.05, every=every)
            monitor.warns = False
            alarms[every] += monitor.update(scores=stream).alarm
    assert alarms[1] >= 10
    assert alarms[25] <= 4


@pytest.mark.parametrize("draw", [lognormal, lambda n, seed: np.maximum(lognormal(n, seed) - 8, 0)])
def test_independent_rows_are_not_warned_of(draw):
    """Nor are those of which hardly any score is above 0, nor those of which a level shifts once."""
    for seed in range(10):
        shifted = np.concatenate([draw(1000, seed), 3 * draw(2000, 50 + seed)])
        monitor = Monitor(Calibration({None: ScoreDistribution.of(draw(1000, 99))}, 1.0), every=1)
        assert not monitor.update(scores=shifted).is_dependent
        drift_test(monitor._reference.calibration, scores=draw(1000, 70 + seed))


def test_batches_of_dependent_rows_are_warned_of_and_the_advice_works():
    batch = np.repeat(lognormal(300, 3), 5)
    with pytest.warns(DependentRows, match="row alone") as caught:
        drift_test(of_lognormal(), scores=batch)
    every = int(re.search(r"X\[::(\d+)\]", str(caught[0].message))[1])
    assert 5 <= every <= 15
    assert drift_test(of_lognormal(), scores=batch[::every])["data"]["n"] >= 100


def test_a_thinned_stream_goes_on_exactly_where_it_was(tmp_path):
    stream = np.repeat(lognormal(4000, 6), 3)
    settings = {"every": 7, "method": "window", "window": 40, "alpha": 0.5, "cooldown": 30}
    whole = Monitor(of_lognormal(), **settings).update(scores=stream)
    parts = Monitor(of_lognormal(), **settings)
    for part in np.split(stream, [1, 2, 100, 1003, 5000, 5001]):
        parts.update(scores=part)
        parts.save(tmp_path / "monitor.json")
        parts = Monitor.load(tmp_path / "monitor.json", detector=of_lognormal())
        parts.warns = False
    assert parts.state() == whole.state()
    assert whole.count + whole.passed == len(stream)


def test_states_from_before_dependence_was_measured_go_on(tmp_path):
    monitor = Monitor(calibrated()).update(scores=scores(3000))
    document = monitor.state()
    for name in ("passed", "autocorrelation", "is_dependent"):
        del document[name]
    del document["settings"]["every"]
    (tmp_path / "monitor.json").write_text(json.dumps(document))
    again = Monitor.load(tmp_path / "monitor.json", detector=calibrated())
    assert (again.count, again.passed, again.every) == (3000, 0, 1)
    assert again.log_evidence == monitor.log_evidence
    assert again.update(scores=scores(500, 9)).log_evidence == monitor.update(scores=scores(500, 9)).log_evidence
