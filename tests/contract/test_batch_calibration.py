"""Dask collections calibrate a detector, and are tested for drift, as the same rows in memory do."""

import keras
import numpy as np
import pytest

from demur import ModelDistillation, drift
from demur.batch import answers
from demur.detectors import Detector
from demur.errors import NonFinite, NotFitted, RowsFailed, ShapeMismatch, WrongType
from tests.scaffold import guards
from tests.scaffold.advice import advises

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
bag = pytest.importorskip("dask.bag")

KINDS = [name for name, kind in Detector.registry.items() if kind.__module__.startswith("demur.")]


@pytest.fixture(autouse=True)
def _in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def again(kind, **settings):
    """A detector like the guard, whose threshold may be changed."""
    before = guards.guard(kind)
    if kind == "ModelDistillation":
        return ModelDistillation(
            model=before.model, distilled_model=before.distilled_model, temperature=0.5, score_type="kld", **settings
        )
    return type(before)(model=before.model, ae=before.ae, temperature=0.5, score_type="kld", **settings)


def collection():
    return da.from_array(guards.data().held_out.x, chunks=(70, 4, -1, -1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "asked", [{"fpr": 0.05}, {"threshold_perc": 90.0, "margin": 0.1}, {"fpr": 0.2, "labels": True}]
)
def test_a_collection_calibrates_as_the_same_rows_in_memory_do(kind, asked):
    x, y = guards.data().held_out
    labels = {"labels": y} if "labels" in asked else {}
    whole = again(kind).infer_threshold(x, **{**asked, **labels})
    parts = again(kind).infer_threshold(collection(), **{**asked, **labels})
    assert parts.threshold == pytest.approx(whole.threshold, rel=1e-5, abs=1e-6)
    ours, theirs = (detector.calibration.distributions[None] for detector in (parts, whole))
    assert ours.n == theirs.n
    np.testing.assert_allclose(ours.kept, theirs.kept, rtol=1e-5, atol=1e-6)  # float32, batches of other sizes
    ours, theirs = (detector.calibration.ordinary[None] for detector in (parts, whole))
    assert ours.n == theirs.n == len(x)
    assert (parts.calibration.whole is None) == ("labels" not in asked)
    np.testing.assert_allclose(ours.kept, theirs.kept, rtol=1e-5, atol=1e-6)  # float32, batches of other sizes
    assert parts.calibration.fpr == whole.calibration.fpr


def test_each_predicted_class_and_labels_in_chunks():
    x, y = guards.data().held_out
    whole = again("ModelDistillation").infer_threshold(x, fpr=0.2, groups="predicted", labels=y)
    labels = da.from_array(y, chunks=70)
    parts = again("ModelDistillation").infer_threshold(collection(), fpr=0.2, groups="predicted", labels=labels)
    np.testing.assert_allclose(parts.threshold, whole.threshold, rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeMismatch, match="chunks of X"):
        again("ModelDistillation").infer_threshold(collection(), fpr=0.2, labels=labels.rechunk(50))
    with pytest.raises(WrongType, match="labels of a DataFrame or a bag"):
        again("ModelDistillation").infer_threshold(bag.from_sequence(list(x[:30])), fpr=0.2, labels=y[:30])


@pytest.mark.parametrize("kind", KINDS)
def test_drift_in_a_collection_is_that_in_its_rows(kind):
    detector = guards.guard(kind)
    x = guards.data().test.x[:120]
    x = np.clip(x + np.random.default_rng(0).normal(0, 0.5, x.shape), 0, 1).astype("float32")
    parts = da.from_array(x, chunks=(50, -1, -1, -1))
    found, whole = (drift.test(detector, rows)["data"] for rows in (parts, x))
    assert found == pytest.approx(whole, rel=1e-5)
    ours, theirs = (drift.Monitor(detector).update(rows) for rows in (parts, x))
    assert (ours.count, ours.alarm) == (theirs.count, theirs.alarm) == (120, True)
    assert [alarm.at for alarm in ours.alarms] == [alarm.at for alarm in theirs.alarms]


def test_rows_that_cannot_be_judged_calibrate_nothing():
    x = guards.data().held_out.x.copy()
    x[100] = np.nan
    with pytest.raises(RowsFailed, match="100: it holds NaN"):
        again("ModelDistillation").infer_threshold(da.from_array(x, chunks=(70, -1, -1, -1)))
    with advises(NonFinite, "1 of 70 rows of a part cannot be judged; remove them"):
        again("ModelDistillation", on_invalid="flag").infer_threshold(da.from_array(x, chunks=(70, -1, -1, -1)))
    x = np.delete(x, 100, axis=0)
    again("ModelDistillation", on_invalid="flag").infer_threshold(da.from_array(x, chunks=(70, -1, -1, -1)))


def test_a_detector_that_does_not_know_its_rows_yet_says_so():
    detector = ModelDistillation(model=lambda x: np.full((len(x), 2), 0.5))
    with pytest.raises(NotFitted, match=r"call fit\(X\)"):
        detector.infer_threshold(da.zeros((10, 3)))


def test_rows_that_a_detector_does_not_know_yet_are_learned_or_scored():
    def detector():
        student = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        classify = lambda rows: np.full((len(rows), 2), 0.5)  # noqa: E731
        return ModelDistillation(model=classify, distilled_model=student)

    X = np.random.default_rng(0).random((10, 3)).astype("float32")
    with advises(NotFitted, "has not seen rows yet: call fit(X) or, if its student has learned already, score(X)"):
        answers(detector(), X)
    fitted, scored = detector(), detector()
    fitted.fit(X, epochs=1, verbose=False)
    scored.score(X[:2])
    for ready in (fitted, scored):
        assert np.isfinite(answers(ready, X).columns["instance_score"]).all()
