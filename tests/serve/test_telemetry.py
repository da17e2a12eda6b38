"""What Prometheus reads, parsed by its own parser."""

import dataclasses

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.serve.watching.telemetry import OTHER, Telemetry, quantiles, score_bounds
from tests.scaffold.serve_fakes import FakeGuard


@pytest.fixture
def guard():
    return FakeGuard()


@pytest.fixture
def telemetry(guard):
    one = Telemetry()
    one.model("digits", guard)
    return one


def samples(telemetry):
    body, content_type = telemetry.exposition()
    assert content_type.startswith("text/plain")
    families = text_families(body.decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def value(telemetry, name, **labels):
    return samples(telemetry)[name, *sorted(labels.items())]


def test_requests_batches_and_the_queue_are_counted(telemetry):
    for status, seconds in ((200, 0.004), (200, 0.02), (503, 0.1)):
        telemetry.request("digits", "http", status, seconds)
    telemetry.request("digits", "grpc", 0, 0.5)
    telemetry.batch("digits", 32, 0.006)
    telemetry.queue("digits", 7)
    found = samples(telemetry)
    assert found["demur_requests_total", ("model", "digits"), ("protocol", "http"), ("status", "200")] == 2
    assert found["demur_requests_total", ("model", "digits"), ("protocol", "http"), ("status", "503")] == 1
    assert value(telemetry, "demur_request_seconds_bucket", model="digits", protocol="http", le="0.005") == 1
    assert value(telemetry, "demur_request_seconds_sum", model="digits", protocol="http") == pytest.approx(0.124)
    assert value(telemetry, "demur_request_seconds_count", model="digits", protocol="grpc") == 1
    assert value(telemetry, "demur_batch_size_bucket", model="digits", le="32.0") == 1
    assert value(telemetry, "demur_batch_size_bucket", model="digits", le="16.0") == 0
    assert value(telemetry, "demur_batch_seconds_count", model="digits") == 1
    assert value(telemetry, "demur_queue_length", model="digits") == 7


def test_names_that_are_not_served_share_one_label(telemetry):
    for i in range(50):
        telemetry.request(f"guess-{i}", "http", 404, 0.001)
    assert value(telemetry, "demur_requests_total", model=OTHER, protocol="http", status="404") == 50
    assert b"guess" not in telemetry.exposition()[0]


def test_the_score_histogram_counts_what_is_at_most_a_bound(telemetry, guard):
    threshold = guard.threshold
    scores = np.concatenate([np.random.default_rng(0).random(500) * 3 * threshold, [threshold, threshold]])
    flagged = scores > threshold
    for part in np.array_split(np.arange(len(scores)), 7):
        telemetry.judged("digits", scores[part], flagged[part])
    found = samples(telemetry)
    buckets = {float(dict(key[1:])["le"]): count for key, count in found.items() if key[0] == "demur_score_bucket"}
    assert len(buckets) > 10
    assert buckets == {bound: np.count_nonzero(scores <= bound) for bound in buckets}
    assert buckets[threshold] == np.count_nonzero(~flagged)
    assert value(telemetry, "demur_score_count", model="digits") == len(scores)
    assert value(telemetry, "demur_score_sum", model="digits") == pytest.approx(scores.sum())
    assert value(telemetry, "demur_inputs_total", model="digits") == len(scores)
    assert value(telemetry, "demur_flagged_total", model="digits") == np.count_nonzero(flagged)


def test_what_cannot_be_judged_is_counted_apart(telemetry):
    telemetry.judged("digits", np.array([np.inf, 1.0, np.nan]), np.array([True, False, True]))
    assert value(telemetry, "demur_invalid_inputs_total", model="digits") == 2
    assert value(telemetry, "demur_inputs_total", model="digits") == 1
    assert value(telemetry, "demur_flagged_total", model="digits") == 0
    assert value(telemetry, "demur_score_count", model="digits") == 1
    assert value(telemetry, "demur_score_sum", model="digits") == 1


def test_another_calibration_begins_the_histogram_anew_and_the_same_one_does_not(telemetry, guard):
    telemetry.judged("digits", np.array([1.0]), np.array([False]))
    telemetry.model("digits", guard, "2")
    assert value(telemetry, "demur_score_count", model="digits") == 1
    telemetry.model("digits", FakeGuard(seed=5), "3")
    assert value(telemetry, "demur_score_count", model="digits") == 0
    assert value(telemetry, "demur_inputs_total", model="digits") == 1
    told = [dict(key[1:]) for key in samples(telemetry) if key[0] == "demur_model_info"]
    assert [(one["model"], one["version"]) for one in told] == [("digits", "3")]


def test_drift_alarms_and_deliveries_are_told(telemetry):
    telemetry.drift("digits", 1.5, 5.3, alarm=False)
    assert value(telemetry, "demur_drift_alarm", model="digits") == 0
    assert value(telemetry, "demur_drift_alarms_total", model="digits") == 0
    telemetry.drift("digits", 6.5, 5.3, alarm=True)
    telemetry.drift_alarm("digits")
    telemetry.delivery("digits", "failed")
    assert value(telemetry, "demur_drift_log_evidence", model="digits") == 6.5
    assert value(telemetry, "demur_drift_limit", model="digits") == 5.3
    assert value(telemetry, "demur_drift_alarm", model="digits") == 1
    assert value(telemetry, "demur_drift_alarms_total", model="digits") == 1
    assert value(telemetry, "demur_webhook_deliveries_total", model="digits", outcome="failed") == 1


def test_the_process_is_there_and_openmetrics_for_those_who_ask(telemetry):
    assert value(telemetry, "process_resident_memory_bytes") > 1e6
    telemetry.judged("digits", np.array([1.0]), np.array([False]))
    body, content_type = telemetry.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert "demur_score" in {family.name for family in openmetrics_families(body.decode())}


def test_servers_of_one_process_do_not_share_figures(telemetry, guard):
    other = Telemetry()
    other.model("digits", guard)
    telemetry.judged("digits", np.array([1.0]), np.array([True]))
    assert value(other, "demur_inputs_total", model="digits") == 0


def test_what_is_not_handed_in_yet_is_asked_for_first(telemetry):
    telemetry.before_exposition(lambda: telemetry.queue("digits", 3))
    assert value(telemetry, "demur_queue_length", model="digits") == 3


def test_times_are_those_of_the_last_requests_answered(telemetry):
    assert telemetry.times("digits") == {"p50": None, "p99": None}
    for _ in range(2000):
        telemetry.request("digits", "http", 200, 9.0)
    for i in range(1024):
        telemetry.request("digits", "http", 200, 0.001 * (i % 100 + 1))
    telemetry.request("digits", "http", 503, 5.0)
    times = telemetry.times("digits")
    assert times["p50"] == pytest.approx(0.05, abs=0.002)
    assert times["p99"] == pytest.approx(0.099, abs=0.002)
    assert telemetry.times("unknown") == {"p50": None, "p99": None}


def test_bounds_hold_every_threshold_and_rise(guard):
    bounds = score_bounds(guard.calibration, np.array([0.5, 2.0]))
    assert {0.5, 2.0} <= set(bounds)
    assert (np.diff(bounds) > 0).all()
    assert bounds[-1] > 10 * guard.calibration.distributions[None].kept[-1]
    assert len(score_bounds(None, None)) > 5
    assert (score_bounds(None, np.inf) > 0).all()


def test_quantiles_weigh_each_class_by_how_many_rows_it_had():
    few, many = np.arange(10, dtype="float32"), 100 + np.arange(90, dtype="float32")
    calibration = Calibration({0: ScoreDistribution.of(few), 1: ScoreDistribution.of(many)}, np.zeros(2))
    assert quantiles(calibration, (0.1, 1.0)).tolist() == [9.0, 189.0]
    sketch = dataclasses.replace(calibration.distributions[0], n=9 * 90)
    weighted = Calibration({0: sketch, 1: calibration.distributions[1]}, np.zeros(2))
    assert quantiles(weighted, (0.9, 1.0)).tolist() == [9.0, 189.0]
