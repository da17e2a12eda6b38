"""Companions trained on rows perturbed against them: within the budget, by the same reference, on every backend."""

import contract_models as models
import contract_sources as sources
import keras
import numpy as np
import pytest
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation, Robust, testing
from demur.errors import InvalidSetting
from demur.robustness import as_robust, input_gradient
from demur.testing.shared import divergences

BACKEND = keras.backend.backend()


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return models.digits()[0][:64]


def make(kind):
    if kind is AdversarialAE:
        return AdversarialAE(model=models.cnn(), temperature=0.5)
    return ModelDistillation(model=models.cnn(), temperature=0.5)


def worst_score(detector, X, robust):
    """The mean score of the classifier's predictions on rows against the opinion on the worst rows near them."""
    views = detector.views
    x = ops.convert_to_tensor(X)
    reference = [ops.stop_gradient(log_p) for log_p in views.reference(x)]

    def loss(x):
        return views.losses(reference, views.opinion(x, False).log_probabilities)

    nearby = robust.perturbed(loss, x)
    means = [float(ops.convert_to_numpy(ops.stop_gradient(loss(rows))).mean()) for rows in (x, nearby)]
    return ops.convert_to_numpy(nearby), means


def test_gradients_by_the_rows_are_those_of_the_function():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    found = input_gradient(lambda x: ops.sum(x * x * ops.convert_to_tensor(x), axis=1), ops.convert_to_tensor(x))
    np.testing.assert_allclose(ops.convert_to_numpy(ops.stop_gradient(found)), 3 * x**2, rtol=1e-4)


@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
def test_rows_near_by_are_worse_and_training_on_them_helps(kind, X):
    robust = Robust(0.1, steps=2, bounds=(0.0, 1.0))
    found = {}
    for setting in (None, robust):
        detector = make(kind)
        detector.fit(X, epochs=60, batch_size=32, verbose=False, robust=setting)
        nearby, (here, found[setting is None]) = worst_score(detector, X, robust)
        assert found[setting is None] > 1.2 * here
        assert 0.05 < np.abs(nearby - X).max() <= 0.1 + 1e-6
        assert nearby.min() >= 0
    assert worst_score(detector, X, Robust(0.1, steps=2))[0].min() < 0
    assert found[False] < 0.8 * found[True]


def test_everything_else_is_untouched_by_it(X):
    def robustly():
        detector = make(AdversarialAE)
        fit = detector.fit
        detector.fit = lambda X, **settings: fit(X, **{**settings, "robust": 0.05})
        return detector

    testing.check_classifier_is_untouched(robustly, X[:16])
    testing.check_global_random_state_is_unchanged(robustly, X[:16])


def test_the_weight_counts(X):
    losses = []
    for weight in (1e-6, 1.0, 3.0):  # the first of them as good as none
        detector = make(ModelDistillation)
        detector.fit(
            X,
            epochs=1,
            batch_size=64,
            verbose=False,
            optimizer=keras.optimizers.SGD(0.0),
            robust=Robust(0.1, weight=weight),
        )
        losses.append(detector.history["loss"][0])
    plain, once, thrice = losses
    assert thrice - plain == pytest.approx(3 * (once - plain), rel=1e-3)
    assert once > 2 * plain


def test_validation_is_on_unchanged_rows(X):
    detector = make(ModelDistillation)
    settings = {"epochs": 1, "batch_size": 64, "verbose": False, "optimizer": keras.optimizers.SGD(0.0)}
    detector.fit(X, validation_data=X, robust=0.1, **settings)
    assert detector.history["val_loss"][0] < 0.6 * detector.history["loss"][0]
    assert detector.history["val_loss"][0] == pytest.approx(float(np.mean(divergences(detector, X))), rel=1e-3)


def test_statistics_and_dropout_of_a_student_bear_it(X):
    student = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, **models.weights(0)),
            layers.BatchNormalization(),
            layers.Dropout(0.1, seed=0),
            layers.Dense(10, activation="softmax", **models.weights(1)),
        ]
    )
    detector = ModelDistillation(model=models.cnn(), distilled_model=student)
    detector.fit(X, epochs=6, batch_size=32, verbose=False, robust=0.1)
    assert detector.history["loss"][-1] < detector.history["loss"][0]


def test_black_boxes_and_streams_have_robust_students_too():
    rows = sources.rows()
    detector = ModelDistillation(model=sources.function)
    detector.fit(rows, epochs=6, batch_size=16, verbose=False, robust=0.2)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    batches = (part for part in (rows[:16], rows[16:]))
    again = ModelDistillation(model=models.tabular())
    again.fit(batches, epochs=1, verbose=False, robust=Robust(0.2, steps=1))
    assert again.is_fitted


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch modules are companions on their own backend")
def test_modules_of_pytorch_bear_it():
    detector = ModelDistillation(model=sources.torch_cnn())
    detector.fit(sources.images(), epochs=4, batch_size=16, verbose=False, robust=0.05)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    assert all(parameter.grad is None for parameter in sources.torch_cnn().parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0}, "epsilon is a number above 0"),
        ({"epsilon": float("nan")}, "epsilon is a number above 0"),
        ({"epsilon": 0.1, "weight": -1}, "weight is a number above 0"),
        ({"epsilon": 0.1, "steps": 0}, "steps is a whole number"),
        ({"epsilon": 0.1, "steps": 1.5}, "steps is a whole number"),
        ({"epsilon": 0.1, "bounds": (1, 0)}, "bounds are two numbers"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        Robust(**settings)


def test_what_robust_may_be_is_said(X):
    assert as_robust(None) is None
    assert as_robust(0.1) == Robust(0.1)
    with pytest.raises(InvalidSetting, match="largest change of a number"):
        make(ModelDistillation).fit(X, verbose=False, robust="very")
    tokens = np.random.default_rng(0).integers(0, 9, (20, 6))
    model = keras.Sequential(
        [
            layers.Input((6,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    detector = ModelDistillation(model=model, distilled_model=keras.models.clone_model(model))
    with pytest.raises(InvalidSetting, match="one array of floating-point numbers"):
        detector.fit(tokens, verbose=False, robust=0.1)
