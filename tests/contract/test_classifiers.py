"""Every detector on every source of classifiers: what works on which backend, and the error where it does not."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation, load_detector, testing
from demur.errors import NoGradients, NoGraph, WrongClassifier
from demur.testing import READING_CHECKS
from demur.testing.files import loaded_as
from tests.scaffold import models, sources
from tests.scaffold.advice import advises

BACKEND = keras.backend.backend()

pytestmark = [
    # What the packages of the classifiers warn of, in their own code.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]


@dataclass(frozen=True)
class Source:
    """One way to pass a classifier."""

    name: str
    model: Callable[[], Any]
    native: str | None = None
    """The backend on which it is in the graph."""
    rows: Callable[[], Any] = sources.rows
    settings: dict[str, Any] = field(default_factory=dict)
    checked: bool = False
    """Whether all reading checks run on it; the others run the journey alone."""


TABLE = [
    Source("PyTorch, channels first", sources.torch_cnn, "torch", sources.images, checked=True),
    Source("PyTorch, channels last", sources.torch_cnn, "torch", sources.images_last, {"channels_last": True}),
    Source("PyTorch, logits", sources.torch_logits, "torch", settings={"from_logits": True}),
    Source("JAX function", sources.jax_function, "jax", checked=True),
    Source("Flax linen", sources.linen, "jax"),
    Source("Flax linen, bound", sources.bound_linen, "jax"),
    Source("Flax NNX", sources.nnx_module, "jax"),
    Source("Equinox", sources.equinox_module, "jax"),
    Source("tf.Module", sources.tf_module, "tensorflow", checked=True),
    Source("tf.function", sources.tf_function, "tensorflow"),
    Source("SavedModel", sources.saved_model, "tensorflow"),
    Source("estimator", sources.forest),
    Source("pipeline", sources.pipeline, settings={"companion_preprocess": "passthrough"}, checked=True),
    Source("XGBoost", sources.xgboost_model),
    Source("LightGBM", sources.lightgbm_model),
    Source("ONNX file", sources.onnx_file),
    Source("ONNX session", sources.onnx_session, checked=True),
    Source("function", lambda: sources.function, checked=True),
]

everywhere = pytest.mark.parametrize("source", TABLE, ids=lambda source: source.name)
in_graph = pytest.mark.parametrize(
    "source", [source for source in TABLE if source.native == BACKEND], ids=lambda source: source.name
)


def distillation(source, **settings):
    return ModelDistillation(model=source.model(), **source.settings, **settings)


def autoencoding(source, **settings):
    given = {name: value for name, value in source.settings.items() if name != "companion_preprocess"}
    return AdversarialAE(model=source.model(), **given, **settings)


def journey(make, source, tmp_path):
    """From nothing to a saved detector that says the same."""
    X = source.rows()
    detector = make(source)
    detector.fit(X, epochs=4, batch_size=8, verbose=False)
    loss = detector.history["loss"]
    assert loss[-1] < loss[0]
    detector.infer_threshold(X, threshold_perc=75)
    score, y, y_opinion = detector.score(X, return_predictions=True)
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(y_opinion.sum(axis=1), 1, atol=1e-5)
    data = detector.correct(X)["data"]
    assert data["is_adversarial"].sum() == 8
    np.testing.assert_array_equal(data["no_defense"], y.argmax(axis=1))
    detector.save(tmp_path / "detector")
    loaded = loaded_as(tmp_path / "detector", detector)
    assert loaded.settings == detector.settings
    assert loaded.is_fitted
    np.testing.assert_allclose(loaded.score(X), score, rtol=1e-5, atol=1e-6)
    copied = copy.deepcopy(detector)
    assert copied.model is detector.model
    np.testing.assert_allclose(copied.score(X), score, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@everywhere
def test_distillation_works_on_every_source(source, tmp_path):
    journey(distillation, source, tmp_path)


@pytest.mark.slow
@in_graph
def test_autoencoders_train_through_what_is_in_the_graph(source, tmp_path):
    journey(autoencoding, source, tmp_path)


@everywhere
def test_autoencoders_refuse_what_gives_no_gradients(source):
    if source.native == BACKEND:
        assert autoencoding(source) is not None
        return
    with pytest.raises(NoGradients, match="ModelDistillation") as caught:
        autoencoding(source)
    if source.native:
        assert f"KERAS_BACKEND='{source.native}'" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["JAX function", "tf.Module", "tf.function", "SavedModel", "function", "PyTorch, logits"]
)
def test_the_reference_is_what_the_classifier_says(name):
    """Six frameworks compute one network: the same parameters, the same probabilities."""
    (source,) = [source for source in TABLE if source.name == name]
    detector = distillation(source, distilled_model=models.dense_student())
    _, y, _ = detector.score(source.rows(), return_predictions=True)
    np.testing.assert_allclose(y, sources.function(source.rows()), atol=1e-6)


@pytest.mark.parametrize("last", [False, True])
def test_the_reference_of_a_module_is_what_it_says_in_inference_mode(last):
    import torch

    X = sources.images_last() if last else sources.images()
    detector = ModelDistillation(model=sources.torch_cnn(), channels_last=last).fit(X, epochs=1, verbose=False)
    _, y, _ = detector.score(X, return_predictions=True)
    with torch.no_grad():
        expected = copy.deepcopy(sources.torch_cnn()).eval()(torch.tensor(sources.images()))
    np.testing.assert_allclose(y, expected.cpu().numpy(), atol=1e-5)


CHECKED = [
    (kind, source)
    for source in TABLE
    for kind in (distillation, autoencoding)
    if source.checked and (kind is distillation or source.native == BACKEND)
]


@functools.cache
def the_one(kind, name):
    source = next(source for source in TABLE if source.name == name)
    found = kind(source)
    found.ready_for(source.rows())
    models.moved(found.companion)
    return found


@pytest.mark.parametrize("check", READING_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize(("kind", "source"), CHECKED, ids=lambda value: getattr(value, "name", ""))
def test_reading(kind, source, check):
    def make():
        found = the_one(kind, source.name)
        found.threshold = found.calibration = None
        return found

    check(make, source.rows())


FRESH = [
    testing.check_classifier_is_untouched,
    testing.check_every_weight_of_the_companion_moves,
    testing.check_global_random_state_is_unchanged,
    testing.check_loss_is_the_mean_divergence,
]


@pytest.mark.parametrize("check", FRESH, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize(("kind", "source"), CHECKED, ids=lambda value: getattr(value, "name", ""))
def test_fresh(kind, source, check):
    def make():
        found = kind(source)
        found.ready_for(source.rows())
        return found

    check(make, source.rows())


@everywhere
def test_another_classifier_is_refused_when_loading(source, tmp_path):
    """By what it has learned; a function has nothing to tell by."""
    detector = distillation(source).fit(source.rows(), epochs=1, verbose=False)
    detector.save(tmp_path / "detector")
    if source.name == "function":
        assert detector.classifier.fingerprint() is None
        return
    with pytest.raises(WrongClassifier, match="its weights are others"):
        load_detector(tmp_path / "detector", model=models.tabular())
    with pytest.raises(WrongClassifier, match=r"pass load_detector\(path, model=...\)"):
        load_detector(tmp_path / "detector")


@pytest.mark.slow
def test_a_linen_module_is_passed_with_its_variables():
    pytest.importorskip("flax")
    module, variables = sources.linen()
    with advises(NoGraph, "pass model=(module, variables), or model=module.bind(variables)"):
        ModelDistillation(model=module).fit(sources.rows(), epochs=1, verbose=False)
    for model in ((module, variables), module.bind(variables)):
        ModelDistillation(model=model).fit(sources.rows(), epochs=1, verbose=False)
