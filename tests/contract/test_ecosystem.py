"""Detectors as scikit-learn's and PyOD's, and copies of them."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from pyod.models.base import BaseDetector
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from demur import AdversarialAE, ModelDistillation
from demur.errors import InvalidSetting, ThresholdNotSet, WrongType
from demur.integrations.pyod import DemurDetector
from demur.integrations.sklearn import DemurOutlierDetector
from tests.scaffold import models, sources

BACKEND = keras.backend.backend()
QUICK = {"epochs": 2, "batch_size": 16}

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return sources.wine()[0][:60]


def distillation(**settings):
    return ModelDistillation(model=sources.function, **settings)


def watching(detector=None, **settings):
    return DemurOutlierDetector(detector or distillation(), fit_arguments=QUICK, **settings)


def any_width(rows):
    """A classifier of rows with any number of columns, as scikit-learn's checks have them."""
    rows = np.asarray(rows, "float64")
    z = np.clip(rows[:, 0] - rows.mean(axis=1), -20, 20)
    return 1 / (1 + np.exp(-z))


ROUNDING = "a row's score is float32: where the row lies among others, and in memory, changes its last bits"
EXCEPTIONS = {
    "check_methods_subset_invariance": f"{ROUNDING}, and the check wants float64's",
    "check_classifier_data_not_an_array": f"{ROUNDING}, which decides between two equal rows at the threshold",
}


many_fits = pytest.mark.skipif(
    BACKEND != "torch", reason="adapters are the same on every backend, and PyTorch compiles nothing for a new detector"
)


@many_fits
def test_scikit_learn_finds_nothing_to_object_to_but_rounding():
    estimator = watching(ModelDistillation(model=any_width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that SciPy's settings skip
        found = check_estimator(estimator, expected_failed_checks=EXCEPTIONS)
    assert len(found) > 40
    assert {result["check_name"] for result in found if result["status"] == "skipped"} <= {"check_array_api_input"}


@pytest.mark.slow
def test_signs_are_those_of_scikit_learn(X):
    outliers = watching(contamination=0.2).fit(X)
    scores = outliers.detector_.score(X)
    np.testing.assert_allclose(outliers.score_samples(X), -scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(outliers.decision_function(X), -scores - outliers.offset_, rtol=1e-4, atol=1e-6)
    assert ((outliers.predict(X) == -1) == (outliers.decision_function(X) < 0)).all()
    assert (outliers.predict(X) == -1).sum() == 12
    assert set(outliers.predict(X)) == {-1, 1}
    np.testing.assert_array_equal(watching(contamination=0.2).fit_predict(X), outliers.predict(X))
    assert outliers.n_features_in_ == 13


def test_the_detector_that_was_passed_is_never_changed(X):
    detector = distillation()
    outliers = watching(detector).fit(X)
    assert not detector.is_fitted
    assert detector.distilled_model is None
    assert outliers.detector_.is_fitted
    assert outliers.detector_.model is detector.model


def test_a_fitted_detector_is_used_as_it_is(X):
    detector = distillation().fit(X[:30], verbose=False, **QUICK).infer_threshold(X[30:], fpr=0.1)
    before = detector.score(X)
    outliers = watching(detector, contamination="auto").fit(X)
    assert outliers.detector_ is detector
    np.testing.assert_array_equal(detector.score(X), before)
    np.testing.assert_array_equal(outliers.predict(X) == -1, detector.predict(X)["data"]["is_adversarial"])
    assert (watching(detector, contamination=0.3).fit(X).predict(X) == -1).sum() == 18


@pytest.mark.slow
def test_clones_share_the_classifier_and_nothing_else(X):
    model = models.tabular()
    outliers = watching(ModelDistillation(model=model))
    first, second = clone(outliers).fit(X), clone(outliers)
    assert second.detector is not outliers.detector
    assert second.detector.model is model
    assert first.detector_.model is model
    initial = [np.array(w) for w in outliers.detector.companion.get_weights()]
    assert all(map(np.array_equal, second.detector.companion.get_weights(), initial))
    assert not all(map(np.array_equal, first.detector_.companion.get_weights(), initial))
    np.testing.assert_allclose(clone(outliers).fit(X).score_samples(X), first.score_samples(X), rtol=1e-4, atol=1e-6)


@many_fits
def test_it_works_in_pipelines_and_searches(X):
    pipeline = make_pipeline(StandardScaler(), watching()).fit(X)
    assert pipeline.predict(X).shape == (60,)
    predicted = cross_val_predict(watching(), X, cv=3)
    assert set(predicted) <= {-1, 1}
    y = np.where(np.arange(60) % 10, 1, -1)
    search = GridSearchCV(watching(), {"contamination": [0.1, 0.3]}, scoring="accuracy", cv=2).fit(X, y)
    assert search.best_params_["contamination"] in (0.1, 0.3)


def test_tables_keep_their_columns():
    frame, y = load_wine(return_X_y=True, as_frame=True)
    forest = RandomForestClassifier(10, random_state=0).fit(frame, y)
    outliers = watching(ModelDistillation(model=forest)).fit(frame)
    assert outliers.feature_names_in_.tolist() == list(frame.columns)
    assert outliers.predict(frame).shape == (len(frame),)
    with pytest.raises(ValueError, match="feature names"):
        outliers.predict(frame.rename(columns={"ash": "dust"}))


@pytest.mark.slow
def test_images_and_structures_are_rows_too():
    images = models.digits()[0][:40]
    outliers = watching(ModelDistillation(model=models.cnn())).fit(images)
    assert outliers.predict(images).shape == (40,)

    def of_two(rows):
        return any_width(np.column_stack([rows["a"], rows["b"]]))

    both = {"a": np.random.default_rng(0).random((40, 2), "float32"), "b": np.ones((40, 1), "float32")}
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    together = keras.layers.Concatenate()([a, b])
    student = keras.Model({"a": a, "b": b}, keras.layers.Dense(2, activation="softmax")(together))
    outliers = watching(ModelDistillation(model=of_two, distilled_model=student)).fit(both)
    assert outliers.predict(both).shape == (40,)


def test_errors_say_what_to_do(X):
    with pytest.raises(WrongType, match="an AdversarialAE or a ModelDistillation; got str"):
        DemurOutlierDetector("detector").fit(X)
    with pytest.raises(InvalidSetting, match=r"contamination is a share above 0 and at most 0\.5"):
        watching(contamination=0.7).fit(X)
    with pytest.raises(ThresholdNotSet, match="call infer_threshold"):
        watching(contamination="auto").fit(X)
    with pytest.raises(NotFittedError):
        watching().predict(X)
    with pytest.raises(WrongType, match="an AdversarialAE or a ModelDistillation; got str"):
        DemurDetector("detector").fit(X)


# PyOD ---------------------------------------------------------------------------------------------------------------


def test_signs_are_those_of_pyod(X):
    found = DemurDetector(distillation(), contamination=0.2, fit_arguments=QUICK).fit(X)
    assert isinstance(found, BaseDetector)
    scores = found.detector_.score(X)
    np.testing.assert_allclose(found.decision_scores_, scores, rtol=1e-5)
    np.testing.assert_allclose(found.decision_function(X), scores, rtol=1e-5)
    assert found.labels_.sum() == 12
    assert found.threshold_ == pytest.approx(np.percentile(scores, 80), rel=1e-4)
    np.testing.assert_array_equal(found.labels_, found.decision_scores_ > found.threshold_)
    assert set(found.predict(X)) == {0, 1}
    probability = found.predict_proba(X)
    assert probability.shape == (60, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    assert found.predict_confidence(X).shape == (60,)


@pytest.mark.slow
def test_pyod_detectors_are_cloned_and_take_parameters(X):
    found = DemurDetector(distillation(), contamination=0.2, fit_arguments=QUICK)
    assert found.get_params()["contamination"] == 0.2
    again = clone(found).fit(X)
    np.testing.assert_allclose(again.decision_scores_, found.fit(X).decision_scores_, rtol=1e-4, atol=1e-6)
    with pytest.raises(NotFittedError):
        clone(found).decision_function(X)


def test_pyod_takes_a_fitted_detector(X):
    detector = distillation().fit(X, verbose=False, **QUICK)
    assert DemurDetector(detector).fit(X).detector_ is detector


# Copies -------------------------------------------------------------------------------------------------------------


def calibrated(kind, **settings):
    X = models.digits()[0][:40]
    detector = kind(model=models.cnn(), temperature=0.7, **settings).fit(X, verbose=False, **QUICK)
    return detector.infer_threshold(X, fpr=0.2), X


@pytest.mark.slow
@pytest.mark.parametrize("how", [copy.deepcopy, lambda detector: pickle.loads(pickle.dumps(detector))])
@pytest.mark.parametrize(
    ("kind", "settings"), [(ModelDistillation, {}), (AdversarialAE, {"hidden_layer_kld": {"hidden": 5}})]
)
def test_copies_say_the_same(kind, settings, how):
    detector, X = calibrated(kind, **settings)
    found = how(detector)
    assert found.settings == detector.settings
    assert found.history == detector.history
    assert found.is_fitted
    ours, theirs = detector.correct(X)["data"], found.correct(X)["data"]
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(theirs["instance_score"], ours["instance_score"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(theirs["is_adversarial"], ours["is_adversarial"])
    np.testing.assert_allclose(theirs["p_value"], ours["p_value"])
    before = detector.score(X)
    found.fit(X, verbose=False, **QUICK)
    np.testing.assert_array_equal(detector.score(X), before)
    assert detector.calibration is not None


def test_a_copy_of_what_has_seen_nothing_has_seen_nothing():
    detector = ModelDistillation(model=sources.function, threshold=0.5, input_shape=(13,), seed=7)
    found = copy.deepcopy(detector)
    assert found.model is sources.function
    assert (found.threshold, found.input_shape, found.seed) == (0.5, (13,), 7)
    assert found.distilled_model is None


def test_a_companion_of_ones_own_class_is_copied():
    X = models.digits()[0][:40]
    detector = AdversarialAE(model=models.cnn(), ae=models.SubclassedAE())
    found = copy.deepcopy(detector)
    np.testing.assert_allclose(found.score(X), detector.score(X), rtol=1e-5, atol=1e-7)
    assert found.ae is not detector.ae


def test_a_preprocess_of_ones_own_is_kept(X):
    detector = distillation(companion_preprocess=lambda rows: rows[:, :4]).fit(X, verbose=False, **QUICK)
    np.testing.assert_allclose(copy.deepcopy(detector).score(X), detector.score(X), rtol=1e-5, atol=1e-7)


def test_tables_are_learned_anew_by_none_but_fit():
    frame = pd.DataFrame(sources.wine()[0][:60])
    detector = ModelDistillation(model=sources.forest()).fit(frame.to_numpy(), verbose=False, **QUICK)
    found = copy.deepcopy(detector)
    np.testing.assert_allclose(found.score(frame.to_numpy()), detector.score(frame.to_numpy()), rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch modules are companions on Keras's PyTorch backend")
def test_modules_are_copied():
    images = sources.images()
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.Softmax(1))
    detector = ModelDistillation(model=sources.torch_cnn(), distilled_model=student)
    found = copy.deepcopy(detector)
    np.testing.assert_allclose(found.score(images), detector.score(images), rtol=1e-5, atol=1e-7)
    assert found.distilled_model is not student
    assert found.model is sources.torch_cnn()
