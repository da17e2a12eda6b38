"""Drift in rows, through every detector, on every backend."""

import copy
import pickle
import warnings

import numpy as np
import pytest

from demur import ModelDistillation, evaluate, load_detector
from demur.detectors import Detector
from demur.drift import Monitor, calibrate_accuracy, estimate_accuracy
from demur.drift import test as drift_test
from demur.errors import (
    EmptyInput,
    InvalidSetting,
    NonFinite,
    NotCalibrated,
    ShapeMismatch,
    TooFewInstances,
    WrongRows,
    WrongType,
)
from tests.scaffold import guards
from tests.scaffold.advice import advises

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


# Accuracy without labels ----------------------------------------------------------------------------------------------


def noise(X, severity, seed):
    return np.clip(X + np.random.default_rng(seed).normal(0, 0.1 * severity, X.shape), 0, 1).astype("float32")


def labelled(**settings):
    """A guard that has learned from labelled rows."""
    detector = again(**settings)
    calibrate_accuracy(detector, *guards.data().held_out, corruptions={"noise": noise}, rows=200)
    return detector


def test_accuracy_is_estimated_and_the_harm_of_each_row():
    detector, (x, y) = labelled(), guards.data().test
    wrong = detector.correct(x)["data"]["no_defense"] != y
    held_out_wrong = detector.correct(guards.data().held_out.x)["data"]["no_defense"] != guards.data().held_out.y
    assert detector.harm.accuracy == 1 - held_out_wrong.mean()
    assert detector.harm.n == len(held_out_wrong)
    held_out = estimate_accuracy(detector, guards.data().held_out.x)["data"]
    assert held_out["accuracy"] == pytest.approx(detector.harm.accuracy, abs=1e-6)
    assert held_out["harmful_fraction"] == 0
    assert not held_out["extrapolated"]
    found = estimate_accuracy(detector, x)
    assert found["meta"]["detector_type"] == "drift"
    assert found["data"]["accuracy"] == pytest.approx(1 - wrong.mean(), abs=0.05)
    low, high = found["data"]["accuracy_interval"]
    assert 0 <= low < found["data"]["accuracy"] < high <= 1
    bad = noise(x, 4, 9)
    truth = np.mean(detector.correct(bad)["data"]["no_defense"] == y)
    estimated = estimate_accuracy(detector, bad)["data"]
    assert estimated["accuracy"] < found["data"]["accuracy"] - 0.1
    low, high = estimated["accuracy_interval"]
    assert low - 0.03 <= truth <= high + 0.03  # it holds nine times in ten
    assert estimated["harmful_fraction"] == pytest.approx(detector.harm.accuracy - estimated["accuracy"])
    reference = detector.harm.accuracy
    assert estimated["harmful_interval"] == pytest.approx((max(0, reference - high), reference - low))

    data = detector.predict(bad)["data"]
    harm = data["harm_probability"]
    assert harm.shape == (len(bad),)
    assert ((harm >= 0) & (harm <= 1)).all()
    order = np.argsort(data["instance_score"])
    assert (np.diff(harm[order]) >= 0).all()
    assert harm.mean() > detector.predict(x)["data"]["harm_probability"].mean()
    assert "harm_probability" not in again().predict(bad)["data"]


def test_harm_probability_is_for_ordinary_rows_or_for_the_share_that_is_said():
    detector, (x, y) = again(), guards.data().held_out
    calibrate_accuracy(detector, x, y, corruptions={"noise": noise}, rows=200)
    ordinary = detector.predict(x)["data"]["harm_probability"].mean()
    assert ordinary == pytest.approx(1 - detector.harm.accuracy, abs=0.02)
    bad = np.concatenate([noise(x[:200], severity, 0) for severity in range(1, 6)])
    wrong = np.mean(detector.correct(bad)["data"]["no_defense"] != np.tile(y[:200], 5))
    calibrate_accuracy(detector, x, y, corruptions={"noise": noise}, rows=200, corrupted_share=1)
    assert detector.predict(bad)["data"]["harm_probability"].mean() == pytest.approx(wrong, abs=0.05)
    assert detector.predict(x)["data"]["harm_probability"].mean() > ordinary
    with pytest.raises(InvalidSetting, match="corrupted_share is a share of rows, 0 to 1; got 2"):
        calibrate_accuracy(detector, x, y, corruptions={"noise": noise}, corrupted_share=2)


def test_rows_that_the_classifier_was_trained_on_are_warned_of():
    detector, data = again(), guards.data()
    train, held_out = data.train, data.held_out
    known = {"X_train": train.x, "y_train": train.y}
    with pytest.warns(WrongRows, match=r"200 of the 200 rows \(100%\) are among the rows of X_train.*: pass rows that"):
        detector.infer_threshold(train.x[:200], fpr=0.1, X_train=train.x)
    with pytest.warns(UserWarning, match="among the rows of X_train"):
        calibrate_accuracy(detector, train.x[:200], train.y[:200], corruptions={"noise": noise}, rows=50, **known)
    with pytest.warns(UserWarning, match="among the rows of X_train"):
        evaluate(
            detector, train.x[:60], train.y[:60], attacks=None, corruptions=None, baselines=None, verbose=False, **known
        )
    with warnings.catch_warnings():  # the advice, followed
        warnings.simplefilter("error", UserWarning)
        detector.infer_threshold(held_out.x, fpr=0.1, labels=held_out.y, **known)
        calibrate_accuracy(detector, *held_out, corruptions={"noise": noise}, rows=50, **known)
    with advises(InvalidSetting, "y_train are the true classes of X_train: pass X_train too"):
        detector.infer_threshold(held_out.x, fpr=0.1, y_train=train.y)
    detector.infer_threshold(held_out.x, fpr=0.1, **known)
    with pytest.warns(WrongRows, match="among the rows of X_train"):
        detector.infer_threshold(iter([train.x[:100], train.x[100:200]]), fpr=0.1, X_train=train.x)
    chunks = pytest.importorskip("dask.array").from_array(held_out.x, chunks=(200, 8, 8, 1))
    with advises(InvalidSetting, "pass X as arrays, a table or a stream, or no X_train"):
        detector.infer_threshold(chunks, fpr=0.1, X_train=train.x)
    detector.infer_threshold(held_out.x, fpr=0.1, X_train=train.x)
    detector.infer_threshold(chunks, fpr=0.1)


def test_rows_without_an_error_teach_nothing_about_errors():
    detector, (x, y) = again(), guards.data().held_out
    right = detector.correct(x)["data"]["no_defense"] == y
    with advises(UserWarning, "pass more rows, that the classifier was not trained on") as caught:
        calibrate_accuracy(detector, x[right], y[right], corruptions={"noise": noise}, rows=50)
    said = f"right on all {right.sum()} labelled rows, so nothing can be learned"
    assert any(said in str(warning.message) for warning in caught)
    assert estimate_accuracy(detector, x[right])["data"]["accuracy"] == 1
    calibrate_accuracy(detector, x, y, corruptions={"noise": noise}, rows=50)  # a warning would be an error here
    assert estimate_accuracy(detector, x[right])["data"]["accuracy"] < 1


@pytest.mark.slow
def test_what_was_learned_is_kept(tmp_path):
    detector, x = labelled(), guards.data().test.x[:30]
    detector.save(tmp_path / "guard")
    expected = detector.predict(x)["data"]["harm_probability"]
    for other in (load_detector(tmp_path / "guard"), pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        np.testing.assert_allclose(other.predict(x)["data"]["harm_probability"], expected, atol=1e-5)
        found, wanted = (estimate_accuracy(one, x)["data"]["accuracy_interval"] for one in (other, detector))
        assert found == pytest.approx(wanted, abs=1e-5)
    other.fit(guards.data().train.x[:64], epochs=1, verbose=False)
    assert other.harm is None


def test_images_have_corruptions_of_their_own():
    detector = again()
    x, y = guards.data().held_out
    calibrate_accuracy(detector, x[:80], y[:80], corruptions=["gaussian noise", "contrast"], rows=50)
    assert 0 < detector.harm.spread_by_change < 10
    assert (np.diff(detector.harm.scores) > 0).all()
    assert detector.harm.wrong[-1] > detector.harm.wrong[0]


def test_what_makes_no_sense_is_refused():
    detector, (x, y) = again(), guards.data().held_out
    with pytest.raises(NotCalibrated, match="calibrate_accuracy"):
        estimate_accuracy(detector, x)
    with pytest.raises(ShapeMismatch, match="one whole number"):
        calibrate_accuracy(detector, x, y[:5])
    with pytest.raises(TooFewInstances, match="at least 50 labelled rows are needed; got 10"):
        calibrate_accuracy(detector, x[:10], y[:10])
    with pytest.raises(InvalidSetting, match="rows"):
        calibrate_accuracy(detector, x, y, rows=3)
    with pytest.raises(InvalidSetting, match="a corruption is one of"):
        calibrate_accuracy(detector, x, y, corruptions=["rain"])
    with pytest.raises(InvalidSetting, match="nothing is known that could happen"):
        calibrate_accuracy(detector, x, y, corruptions={})
    assert detector.harm is None
    for call in (lambda: calibrate_accuracy("guard", x, y), lambda: estimate_accuracy("guard", x)):
        with pytest.raises(WrongType, match="got str"):
            call()
    flagging = labelled(on_invalid="flag")
    rows = x[:20].copy()
    rows[4] = np.nan
    found = estimate_accuracy(flagging, rows)["data"]
    assert (found["n"], found["invalid"]) == (19, 1)
    with pytest.raises(EmptyInput, match="none of the 1 rows"):
        estimate_accuracy(flagging, rows[4:5])
