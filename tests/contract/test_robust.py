"""Companions trained on rows perturbed against them: within the budget, by the same reference, on every backend."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers, ops

from demur import AdversarialAE, ModelDistillation, Robust, load_detector, testing
from demur.backends import current
from demur.errors import InvalidSetting, WrongType
from demur.network.robustness import as_robust
from demur.rows.layout import Field
from demur.testing.shared import divergences
from demur.testing.traces import state_of
from tests.scaffold import guards, models, sources

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
    found = current().input_gradient(
        lambda x: ops.sum(x * x * ops.convert_to_tensor(x), axis=1), ops.convert_to_tensor(x)
    )
    np.testing.assert_allclose(ops.convert_to_numpy(ops.stop_gradient(found)), 3 * x**2, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "epochs"), [(AdversarialAE, 30), (ModelDistillation, 60)])
def test_rows_near_by_are_worse_and_training_on_them_helps(kind, epochs, X):
    robust = Robust(0.1, steps=2, bounds=(0.0, 1.0))
    found = {}
    for setting in (None, robust):
        detector = make(kind)
        detector.fit(X, epochs=epochs, batch_size=32, verbose=False, robust=setting)
        nearby, (here, found[setting is None]) = worst_score(detector, X, robust)
        assert found[setting is None] > 1.2 * here
        assert 0.05 < np.abs(nearby - X).max() <= 0.1 + 1e-6
        assert nearby.min() >= 0
    assert worst_score(detector, X, Robust(0.1, steps=2))[0].min() < 0
    assert found[False] < 0.8 * found[True]


@pytest.mark.slow
def test_rows_take_turns_between_norms(X):
    detector = make(ModelDistillation)
    detector.fit(X, epochs=20, batch_size=32, verbose=False)
    both, cube, ball = (Robust(e) for e in ({"Linf": 0.1, "L2": 1.0}, 0.1, {"L2": 1.0}))
    for rows in (X[:7], X[:1]):
        moved = worst_score(detector, rows, both)[0] - rows
        np.testing.assert_allclose(moved[::2], (worst_score(detector, rows, cube)[0] - rows)[::2], atol=1e-5)
        np.testing.assert_allclose(moved[1::2], (worst_score(detector, rows, ball)[0] - rows)[1::2], atol=1e-5)
    far = np.linalg.norm((worst_score(detector, X, ball)[0] - X).reshape(len(X), -1), axis=1)
    assert far.max() <= 1.0 + 1e-5
    assert np.median(far) > 0.9
    _, (here, near) = worst_score(detector, X, ball)
    assert near > 1.5 * here
    # Of the last batch there is one row.
    detector.fit(X, epochs=1, batch_size=63, validation_split=0, verbose=False, robust=both)
    assert np.isfinite(detector.history["loss"][0])


def test_where_the_loss_is_flat_some_way_is_gone():
    """Of rows where companion and classifier agree exactly, the gradient says nothing."""
    x = ops.convert_to_tensor(np.random.default_rng(0).uniform(size=(2, 6, 6, 1)).astype("float32"))
    found = Robust(0.1).perturbed(lambda rows: ops.sum(ops.relu(rows - x - 0.02), axis=(1, 2, 3)), x)
    change = ops.convert_to_numpy(found) - ops.convert_to_numpy(x)
    assert change.max() == pytest.approx(0.1, abs=1e-6)  # up what rose by then
    assert (change > 0.05).mean() == pytest.approx(0.5, abs=0.2)


@pytest.mark.slow
def test_everything_else_is_untouched_by_it(X):
    def robustly():
        detector = make(AdversarialAE)
        fit = detector.fit
        detector.fit = lambda X, **settings: fit(X, **{**settings, "robust": 0.05})
        return detector

    testing.check_classifier_is_untouched(robustly, X[:16])
    testing.check_global_random_state_is_unchanged(robustly, X[:16])


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


# A student that starts as the classifier is --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_copy_starts_as_the_classifier_and_leaves_it():
    x, near = guards.data().train.x[:256], Robust(0.1, bounds=(0.0, 1.0))
    classifier = keras.models.clone_model(guards.classifier())
    classifier.set_weights(guards.classifier().get_weights())
    classifier.compile("adam", "sparse_categorical_crossentropy")
    classifier.trainable = False
    before = state_of(classifier)
    detector = ModelDistillation(model=classifier, distilled_model="copy", score_type="kld")
    np.testing.assert_allclose(models.as_trained(detector).score(x), 0, atol=1e-6)
    start = worst_score(detector, x, near)[1][1]
    detector.fit(x, epochs=10, batch_size=32, verbose=False, robust=near)
    np.testing.assert_equal(state_of(classifier), before)
    assert not classifier.trainable_variables
    here, end = worst_score(detector, x, near)[1]
    assert 1e-5 < here < end < 0.8 * start


@pytest.mark.slow
def test_a_copy_is_saved_copied_and_pickled_like_any_student(X, tmp_path):
    detector = ModelDistillation(model=models.cnn(), distilled_model="copy")
    detector.fit(X, epochs=1, verbose=False, robust=0.1)
    detector.save(tmp_path / "copy")
    for again in (load_detector(tmp_path / "copy"), pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        np.testing.assert_allclose(again.score(X), detector.score(X), rtol=1e-5, atol=1e-7)
        again.fit(X, epochs=1, verbose=False)  # it is a copy no more


@pytest.mark.slow
def test_a_copy_without_anything_to_learn_is_refused(X):
    detector = ModelDistillation(model=models.cnn(), distilled_model="copy")
    with pytest.raises(InvalidSetting, match="training on these alone changes nothing"):
        detector.fit(X, verbose=False)
    detector.fit(X, epochs=1, verbose=False, preprocess_fn=lambda x: np.clip(x + 0.1, 0, 1))
    with pytest.raises(WrongType, match="needs a classifier that is a Keras model or"):
        ModelDistillation(model=sources.function, distilled_model="copy")
    with pytest.raises(InvalidSetting, match="distilled_model is one of 'copy'; got 'clone'"):
        ModelDistillation(model=models.cnn(), distilled_model="clone")


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch modules are companions on their own backend")
def test_a_module_of_pytorch_is_copied(tmp_path):
    module, x = copy.deepcopy(sources.torch_cnn()), sources.images()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    detector = models.as_trained(ModelDistillation(model=module, distilled_model="copy", score_type="kld"))
    np.testing.assert_allclose(detector.score(x), 0, atol=1e-6)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    detector.fit(x, epochs=2, batch_size=16, verbose=False, robust=0.1)
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert detector.score(x).mean() > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0}, "epsilon is a number above 0"),
        ({"epsilon": float("nan")}, "epsilon is a number above 0"),
        ({"epsilon": {"L1": 1.0}}, "for 'Linf' or 'L2'; got {'L1': 1.0}"),
        ({"epsilon": {"L2": 0.0}}, "a number above 0 for 'Linf' or 'L2'"),
        ({"epsilon": {}}, "a number above 0 for 'Linf' or 'L2'"),
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
    assert as_robust(None, Field((2,))) is None
    assert as_robust(0.1, Field((2,))) == Robust(0.1)
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
