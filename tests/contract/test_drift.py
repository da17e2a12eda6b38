"""Drift in rows, through every detector, on every backend."""

import contract_guards as guards
import numpy as np
import pytest

from demur import ModelDistillation
from demur.detectors import Detector
from demur.drift import Monitor
from demur.drift import test as drift_test
from demur.errors import EmptyInput, NonFinite, NotCalibrated, ShapeMismatch

KINDS = [name for name, kind in Detector.registry.items() if kind.__module__.startswith("demur.")]


def noisy(n=150):
    x = guards.data().test.x[:n]
    return np.clip(x + np.random.default_rng(0).normal(0, 0.5, x.shape), 0, 1).astype("float32")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_scored(kind):
    detector, clean = guards.guard(kind), guards.data().test.x[:150]
    assert not drift_test(detector, clean, alpha=0.01)["data"]["is_drift"]
    found = drift_test(detector, noisy())
    assert found["data"]["is_drift"]
    assert found["data"]["n"] == 150
    assert found["data"]["mean_score"] == pytest.approx(detector.score(noisy()).mean(), rel=1e-5)
    assert found["meta"]["name"] == kind
    assert found["meta"]["detector_type"] == "drift"
    assert drift_test(detector, scores=detector.score(noisy())) == found
    monitor = Monitor(detector)
    assert not monitor.update(clean).alarm
    assert monitor.update(noisy()).alarm
    same = Monitor(detector.calibration)
    same.update(scores=detector.score(clean)).update(scores=detector.score(noisy()))
    assert [alarm.at for alarm in same.alarms] == [alarm.at for alarm in monitor.alarms]


def again(**settings):
    """A guard like the distilled one."""
    before = guards.guard("ModelDistillation")
    detector = ModelDistillation(model=before.model, distilled_model=before.distilled_model, **settings)
    return detector.infer_threshold(guards.data().held_out.x, fpr=0.1)


def test_rows_that_cannot_be_judged_are_counted_apart():
    rows = guards.data().test.x[:40].copy()
    rows[[3, 7]] = np.nan
    with pytest.raises(NonFinite):
        Monitor(again()).update(rows)
    detector = again(on_invalid="flag")
    monitor = Monitor(detector).update(rows)
    assert (monitor.count, monitor.invalid) == (38, 2)
    without = Monitor(detector).update(np.delete(rows, [3, 7], axis=0))
    assert without.log_evidence == pytest.approx(monitor.log_evidence)
    found = drift_test(detector, rows)["data"]
    assert (found["n"], found["invalid"]) == (38, 2)
    assert Monitor(detector).update(rows[[3, 7]]).count == 0
    with pytest.raises(EmptyInput, match="none of the 2 rows can be judged"):
        drift_test(detector, rows[[3, 7]])
    assert drift_test(detector, rows[:2])["data"]["invalid"] == 0


def test_each_class_is_compared_with_its_own():
    detector = again()
    detector.infer_threshold(guards.data().held_out.x, fpr=0.2, groups="predicted")
    x = guards.data().test.x[:100]
    predicted = detector.correct(x)["data"]["no_defense"]
    monitor = Monitor(detector).update(x)
    given = Monitor(detector.calibration).update(scores=detector.score(x), predicted=predicted)
    assert given.log_evidence == monitor.log_evidence


def test_what_is_wrong_with_detectors_and_rows_is_said():
    before = guards.guard("ModelDistillation")
    uncalibrated = ModelDistillation(model=before.model, distilled_model=before.distilled_model, threshold=1.0)
    for call in (lambda: Monitor(uncalibrated), lambda: drift_test(uncalibrated, noisy())):
        with pytest.raises(NotCalibrated, match="infer_threshold"):
            call()
    monitor = Monitor(guards.guard("ModelDistillation"))
    with pytest.raises(EmptyInput):
        monitor.update(noisy()[:0])
    with pytest.raises(ShapeMismatch):
        monitor.update(np.zeros((3, 5), "float32"))
    assert monitor.count == 0
