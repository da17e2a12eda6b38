"""The ways to compare reference and opinion, by their definitions, in the score, in the loss and saved."""

import copy

import keras
import numpy as np
import pytest
from keras import ops

from demur import AdversarialAE, ModelDistillation, load_detector, testing
from demur.backends import Whole
from demur.backends.divergence import jeffreys, length, uncertainty
from demur.errors import InvalidSetting
from demur.network import feed
from demur.network.graph import Views
from demur.network.trainer import Objective
from demur.testing.shared import log_views
from tests.scaffold import models

SETTINGS = [
    {"score_type": "kld"},
    {"score_type": "jeffreys", "w_uncertainty": 0.0},
    {"score_type": "jeffreys", "temperature": 0.5, "w_uncertainty": 3.0},
    {"score_type": "kld", "w_uncertainty": 10.0},
    {"score_type": "xent", "w_uncertainty": 3.0, "loss_type": "jeffreys"},
]
both_kinds = pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])


def made(kind, settings):
    detector = kind(model=models.cnn(), **settings)
    models.moved(detector.companion)
    return models.as_trained(detector)


def views_of(detector, X):
    """The probabilities of reference and opinion."""
    (p, *_), (q, *_) = (np.exp(np.asarray(views, "float64")) for views in log_views(detector, X))
    return p, q


def divergence(p, q, kind):
    one, other = (p * (np.log(p) - np.log(q))).sum(axis=1), (q * (np.log(q) - np.log(p))).sum(axis=1)
    entropy = -(p * np.log(p)).sum(axis=1)
    return {"kld": one, "jeffreys": one + other, "xent": one + entropy}[kind]


def defined(p, q, settings):
    """The score, by its definition."""
    doubt = settings.get("w_uncertainty", 0.0) * np.log(p.max(axis=1))
    return np.hypot(divergence(p, q, settings["score_type"]), doubt)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@both_kinds
def test_scores_are_what_they_are_defined_as(kind, settings, tmp_path):
    X = models.digits()[0][:64]
    detector = made(kind, settings)
    p, q = views_of(detector, X)
    np.testing.assert_allclose(detector.score(X), defined(p, q, settings), rtol=1e-3, atol=1e-5)
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert {name: loaded.settings[name] for name in settings} == settings
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


@both_kinds
@pytest.mark.parametrize("loss_type", ["kld", "xent", "jeffreys"])
def test_the_loss_is_the_mean_of_such_divergences(kind, loss_type):
    X = models.digits()[0][:16]
    testing.check_loss_is_the_mean_divergence(lambda: made(kind, {"loss_type": loss_type}), X)
    detector = made(kind, {"loss_type": loss_type})
    found = testing.shared.divergences(detector, X)
    np.testing.assert_allclose(found, divergence(*views_of(detector, X), loss_type), rtol=1e-3, atol=1e-5)


# The weight that fit chooses ----------------------------------------------------------------------------------------


def ratio(detector, X):
    """Of the 95th percentiles of divergence and doubt."""
    p, q = views_of(detector, X)
    doubt = -np.log(p.max(axis=1))
    return np.quantile(divergence(p, q, "jeffreys"), 0.95) / np.quantile(doubt, 0.95)


@pytest.mark.slow
@both_kinds
def test_by_default_divergence_and_doubt_reach_as_far_on_training_rows(kind, tmp_path):
    X = models.digits()[0]
    detector = models.as_trained(kind(model=models.cnn()))
    assert (detector.loss_type, detector.score_type) == ("kld", "jeffreys")
    assert (detector.w_uncertainty, detector.uncertainty_weight) == ("balanced", 0.0)
    p, q = views_of(detector, X)
    np.testing.assert_allclose(detector.score(X), divergence(p, q, "jeffreys"), rtol=1e-3, atol=1e-5)

    for _ in range(2):  # the second time the compiled graph is there already
        detector.fit(X, epochs=2, verbose=False)
        assert detector.uncertainty_weight == pytest.approx(ratio(detector, X), rel=1e-3)
        p, q = views_of(detector, X)
        scores = defined(p, q, {"score_type": "jeffreys", "w_uncertainty": ratio(detector, X)})
        np.testing.assert_allclose(detector.score(X), scores, rtol=2e-3, atol=1e-5)
    of_doubt = detector.score(X) > divergence(p, q, "jeffreys") * np.sqrt(2)
    assert 0.1 < of_doubt.mean() < 0.9, "either of the two is the larger on some rows"

    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", model=models.cnn())
    copied = copy.deepcopy(detector)
    assert loaded.uncertainty_weight == copied.uncertainty_weight == detector.uncertainty_weight
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(copied.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


@both_kinds
@pytest.mark.parametrize("stream", [lambda X: np.split(X, 6), lambda X: iter(np.split(X, 6))], ids=["again", "once"])
def test_a_stream_tells_the_weight_by_its_first_rows(kind, stream, monkeypatch):
    X = models.digits()[0]
    monkeypatch.setattr(feed, "SOME", 120)

    class Batches:
        def __iter__(self):
            return iter(np.split(X, 6))

    detector = kind(model=models.cnn())
    detector.fit(Batches() if isinstance(stream(X), list) else stream(X), epochs=1, verbose=False)
    assert detector.uncertainty_weight == pytest.approx(ratio(detector, X[:120]), rel=1e-3)


@both_kinds
def test_the_weight_is_learned_on_what_training_left_when_interrupted(kind):
    X = models.digits()[0]
    detector = kind(model=models.cnn())

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.fit(X, epochs=3, verbose=False, callbacks=[Stop()])
    assert detector.uncertainty_weight == pytest.approx(ratio(detector, X), rel=1e-3)


@both_kinds
def test_a_classifier_without_doubt_leaves_the_weight_finite(kind):
    X = models.digits()[0][:64]
    sure = keras.Sequential(
        [keras.layers.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    sure.set_weights([sure.get_weights()[0] * 1e-3, np.array([40, 0, 0], "float32")])
    detector = kind(model=sure).fit(X, epochs=1, verbose=False)
    assert np.isfinite(detector.uncertainty_weight)
    assert np.isfinite(detector.score(X)).all()


def test_a_black_box_is_not_asked_again_for_it():
    X, asked = models.digits()[0], []
    network = models.cnn()

    def classifier(rows):
        asked.append(len(rows))
        return ops.convert_to_numpy(network(ops.convert_to_tensor(rows), training=False))

    detector = ModelDistillation(model=classifier).fit(X, epochs=2, verbose=False)
    assert sum(asked) == len(X)
    assert detector.uncertainty_weight > 0


def test_jeffreys_is_symmetric_and_nothing_between_equals():
    rng = np.random.default_rng(0)
    one, other = (np.log(rng.dirichlet(np.ones(5), 20)).astype("float32") for _ in range(2))
    there, back, same = (ops.convert_to_numpy(jeffreys(*pair)) for pair in ((one, other), (other, one), (one, one)))
    np.testing.assert_allclose(there, back, rtol=1e-5)
    assert (there > 0).all()
    np.testing.assert_allclose(same, 0, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(uncertainty(one)), -one.max(axis=1))


def test_a_length_is_one_side_where_the_other_is_none():
    a, b = np.float32([0, 0, 1e-37, 3, 1e30]), np.float32([0, 2, 0, 4, 1e30])
    found = ops.convert_to_numpy(length(ops.convert_to_tensor(a), ops.convert_to_tensor(b)))
    np.testing.assert_allclose(found, np.hypot(np.float64(a), np.float64(b)), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "js"}, "loss_type is one of 'kld', 'xent', 'jeffreys'"),
        ({"score_type": ["kld"]}, "score_type is one of 'kld', 'xent', 'jeffreys'"),
        ({"w_uncertainty": "equal"}, "w_uncertainty is a finite number not below 0, 'balanced' or None; got 'equal'"),
        ({"w_uncertainty": -1.0}, "w_uncertainty is a finite number not below 0"),
        ({"w_uncertainty": float("inf")}, "w_uncertainty is a finite number not below 0"),
    ],
)
@both_kinds
def test_settings_are_checked(kind, settings, message):
    with pytest.raises(InvalidSetting, match=message):
        kind(model=models.cnn(), **settings)


@pytest.mark.parametrize(("errors", "expected"), [([1.0, 1.0, 1.0 + 1e-7], 0.0), ([0.5, 1.0, 1.5], 2.0)])
def test_reconstruction_errors_that_differ_by_rounding_give_no_scale(errors, expected):
    """The term that `w_recon` weighs divides by their spread."""
    views = Views(lambda x: [], lambda x, _: None, loss=lambda r, o: o, divergence=lambda r, o: o, weights=[1.0])
    divergences = ops.convert_to_tensor(np.array([1.0, 2.0, 3.0], "float32"))
    reconstruction = ops.convert_to_tensor(np.sqrt(np.array(errors, "float32"))[:, None])
    loss = Objective(views, None, w_model=0.0, w_recon=1.0)(
        ops.zeros((3, 1)), [divergences], [divergences], reconstruction, Whole()
    )
    np.testing.assert_allclose(float(ops.convert_to_numpy(loss)), expected, atol=1e-4)
