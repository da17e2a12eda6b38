"""The ways to compare reference and opinion, by their definitions, in the score, in the loss and saved."""

import contract_models as models
import numpy as np
import pytest
from keras import ops

from demur import AdversarialAE, ModelDistillation, load_detector, testing
from demur.divergence import jeffreys, uncertainty
from demur.errors import InvalidSetting
from demur.testing.shared import log_views

SETTINGS = [
    {"loss_type": "jeffreys"},
    {"loss_type": "jeffreys", "temperature": 0.5, "w_uncertainty": 3.0},
    {"w_uncertainty": 10.0},
    {"loss_type": "xent", "w_uncertainty": 0.5},
]


def made(kind, settings):
    detector = kind(model=models.cnn(), **settings)
    models.moved(detector.companion)
    return detector


def defined(p, q, settings):
    """The score, by its definition."""
    one, other = (p * (np.log(p) - np.log(q))).sum(axis=1), (q * (np.log(q) - np.log(p))).sum(axis=1)
    entropy = -(p * np.log(p)).sum(axis=1)
    score = {"kld": one, "jeffreys": one + other, "xent": one + entropy}[settings.get("loss_type", "kld")]
    return score - settings.get("w_uncertainty", 0.0) * np.log(p.max(axis=1))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_scores_are_what_they_are_defined_as(kind, settings, tmp_path):
    X = models.digits()[0][:64]
    detector = made(kind, settings)
    (p, *_), (q, *_) = (np.exp(np.asarray(views, "float64")) for views in log_views(detector, X))
    np.testing.assert_allclose(detector.score(X), defined(p, q, settings), rtol=1e-3, atol=1e-5)
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert {name: loaded.settings[name] for name in settings} == settings
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_the_loss_is_the_mean_of_such_scores(kind):
    X = models.digits()[0][:64]
    testing.check_loss_is_the_mean_score(lambda: made(kind, SETTINGS[1]), X)


def test_jeffreys_is_symmetric_and_nothing_between_equals():
    rng = np.random.default_rng(0)
    one, other = (np.log(rng.dirichlet(np.ones(5), 20)).astype("float32") for _ in range(2))
    there, back, same = (ops.convert_to_numpy(jeffreys(*pair)) for pair in ((one, other), (other, one), (one, one)))
    np.testing.assert_allclose(there, back, rtol=1e-5)
    assert (there > 0).all()
    np.testing.assert_allclose(same, 0, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(uncertainty(one)), -one.max(axis=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss_type": "js"}, "loss_type is one of 'kld', 'xent', 'jeffreys'"),
        ({"w_uncertainty": -1.0}, "w_uncertainty is a finite number not below 0"),
        ({"w_uncertainty": float("inf")}, "w_uncertainty is a finite number not below 0"),
    ],
)
@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_settings_are_checked(kind, settings, message):
    with pytest.raises(InvalidSetting, match=message):
        kind(model=models.cnn(), **settings)
