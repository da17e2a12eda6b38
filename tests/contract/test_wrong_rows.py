"""Rows on another scale than those of fit, rows of fit, and labels of other rows: each call that takes them warns."""

import copy
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from demur import AdversarialAE, ModelDistillation, Robust, evaluate, load_detector
from demur.drift import calibrate_accuracy, estimate_accuracy, test
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongRows, WrongType
from demur.evaluation.attacks import Attack
from demur.evaluation.comparison import RIGHT_ROWS
from demur.network import nets
from demur.network.nets import Standardize
from demur.onnx import runtime
from tests.scaffold import guards, models
from tests.scaffold.advice import advises

NOTHING = {"attacks": None, "corruptions": None, "baselines": None, "verbose": False}


def again():
    detector = copy.deepcopy(guards.guard("ModelDistillation"))
    detector.has_looked = False
    return detector


def noise(x, severity, seed):
    return x + np.random.default_rng(seed).normal(0, severity / 10, x.shape).astype("float32")


def calls(x, y):
    """Every call that takes rows to learn from, or to judge as a batch."""
    labelled = {"corruptions": {"noise": noise}, "rows": 50}
    return {
        "infer_threshold": lambda detector: detector.infer_threshold(x, fpr=0.1),
        "infer_threshold of a stream": lambda detector: detector.infer_threshold(iter([x[:50], x[50:]]), fpr=0.1),
        "infer_threshold with labels": lambda detector: detector.infer_threshold(x, threshold_perc=90, labels=y),
        "calibrate_accuracy": lambda detector: calibrate_accuracy(detector, x, y, **labelled),
        "evaluate": lambda detector: evaluate(detector, x, y, **NOTHING),
        "drift.test": lambda detector: test(detector, x),
        "score": lambda detector: detector.score(x),
        "predict": lambda detector: detector.predict(x),
        "correct": lambda detector: detector.correct(x),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scale", "rows of fit", "labels"])
def test_each_call_warns_of_wrong_rows(kind):
    x, y = guards.data().held_out
    x, y = x[:200], y[:200]
    wrong = {
        "scale": (255 * x, y, "the numbers lie between 0 and 255, and those of the rows of fit between 0 and 1"),
        "rows of fit": (*(part[:200] for part in guards.data().train), "200 of the 200 rows (100%) are among the rows"),
        "labels": (x, np.random.default_rng(0).permutation(y), "of the 200 rows, and on 1"),
    }
    wrong_x, wrong_y, said = wrong[kind]
    told = {}
    for name, call in calls(wrong_x, wrong_y).items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(again())
        told[name] = any(issubclass(w.category, WrongRows) and said in str(w.message) for w in caught)
    judging = {"drift.test", "score", "predict", "correct"}
    unlabelled = {"infer_threshold", "infer_threshold of a stream"} | judging
    deaf = {"rows of fit": judging, "labels": unlabelled}.get(kind, set())
    assert told == {name: name not in deaf for name in told}
    for name, call in calls(x, y).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", WrongRows)
            call(again())
            assert name


def test_an_evaluation_on_wrong_rows_says_so_first_and_fails_a_check():
    x, y = guards.data().held_out
    with pytest.warns(WrongRows, match="the labels of other rows") as told:
        found = evaluate(again(), x[:200], np.random.default_rng(0).permutation(y[:200]), **NOTHING)
    assert [one.filename for one in told if one.category is WrongRows] == [__file__]
    assert found.sentences()[0].startswith("All figures are void until this is explained: the classifier is right on")
    assert found.checks[0].name == RIGHT_ROWS
    assert found.checks[0].passed is False


def test_the_scale_of_rows_that_are_judged_is_looked_at_once():
    detector, x = again(), 255 * guards.data().held_out.x[:100]
    detector.score(x[:39])  # of so few, nothing is told
    with pytest.raises(ShapeMismatch):
        detector.score(x[:, :4])
    with pytest.warns(WrongRows, match="between 0 and 255"):
        detector.score(x)
    detector.predict(x)


def test_what_is_known_of_the_rows_of_fit_is_saved_and_exported(tmp_path):
    detector, x = again(), guards.data().held_out.x
    detector.save(tmp_path / "guard")
    for kept in (load_detector(tmp_path / "guard"), copy.deepcopy(detector)):
        with pytest.warns(WrongRows, match="among the rows that fit was given"):
            kept.infer_threshold(guards.data().train.x[:100], fpr=0.1)
    with pytest.warns(WrongRows, match="between 0 and 255"):
        load_detector(tmp_path / "guard").infer_threshold(255 * x, fpr=0.1)
    detector.export(tmp_path / "guard.onnx")
    guard = runtime.load(tmp_path / "guard.onnx")
    assert guard.trained_on.sketch is None
    for call in (guard.predict, guard.correct):
        guard.has_looked = False
        with pytest.warns(WrongRows, match="between 0 and 255"):
            call(255 * x)
    with pytest.warns(WrongRows, match="between 0 and 255"):
        test(guard, 255 * x)
    calibrate_accuracy(detector, *guards.data().held_out, corruptions={"noise": noise}, rows=50)
    with pytest.warns(WrongRows, match="between 0 and 255"):
        estimate_accuracy(detector, 255 * x)


@pytest.mark.slow
def test_rows_of_streams_are_known_and_what_a_function_makes_of_rows():
    x = guards.data().train.x[:96]

    def fitted(X, **settings):
        student = keras.models.clone_model(models.student())
        detector = ModelDistillation(model=guards.classifier(), distilled_model=student)
        return detector.fit(X, epochs=2, batch_size=32, verbose=False, validation_split=None, **settings)

    known = fitted(x).trained_on
    stream = [x[:32], x[32:64], x[64:]]
    for detector in (fitted(Batches(stream)), fitted(x).fit(Batches(stream), epochs=1, verbose=False)):
        np.testing.assert_array_equal(detector.trained_on.sketch.hashes, known.sketch.hashes)
        assert detector.trained_on.sketch.repeated == 0
        np.testing.assert_allclose(detector.trained_on.ranges[0].overall, known.ranges[0].overall)
    made = fitted(255 * x, preprocess_fn=lambda batch: batch / 255)
    assert made.trained_on.ranges[0].convention == "between 0 and 1"
    for rows in (x, 255 * x):  # whoever calibrates on them made them so first, or forgot to
        with pytest.warns(WrongRows) as told:
            made.infer_threshold(rows, fpr=0.1)
        said = [str(warning.message) for warning in told if warning.category is WrongRows]
        assert "among the rows that fit was given" in said[-1]
        assert ("between 0 and 255" in said[0]) is (rows is not x)


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def on_another_scale(classifier, by, plus):
    """A classifier of rows on another scale."""
    shape = classifier.input_shape[1:]
    body = [layers.Rescaling(1 / by, -plus / by), classifier]
    return keras.Sequential([layers.Input(shape), *body], name="scaled")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AdversarialAE, ModelDistillation])
@pytest.mark.parametrize("rows", ["images", "table"])
def test_ready_networks_learn_the_same_on_any_scale(kind, rows, request, tmp_path):
    classifier = models.cnn() if rows == "images" else models.tabular()
    x = models.digits()[0][:64] if rows == "images" else models.wine()[0][:64]
    scores, by, plus = [], 64.0, 16.0  # powers of two, so that nothing is rounded
    for model, X in ((classifier, x), (on_another_scale(classifier, by, plus), by * x + plus)):
        detector = kind(model=model, w_uncertainty=1.0)
        detector.fit(X, epochs=2, batch_size=32, verbose=False)
        scores.append(detector.score(X))
        if kind is AdversarialAE:
            assert abs(detector.reconstruct(X).mean() - X.mean()) < 2 * X.std()  # in the units of the rows
    np.testing.assert_allclose(*scores, rtol=0.05, atol=1e-3)
    scales = [layer.scale.numpy().ravel() for layer in detector.companion.layers if isinstance(layer, Standardize)]
    assert len(scales) == (2 if kind is AdversarialAE else 1)
    numbers = by * x.reshape(-1, x.shape[-1])
    expected = np.ptp(numbers) if len(scales) == 2 and rows == "images" else numbers.std(axis=0)
    np.testing.assert_allclose(scales[0], expected, rtol=1e-4)
    detector.save(tmp_path / "guard")
    loaded = load_detector(tmp_path / "guard")
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)
    detector.fit(100 * X, epochs=1, batch_size=32, verbose=False)  # goes on with the scales that it has
    np.testing.assert_array_equal(detector.companion.layers[0].scale.numpy().ravel(), scales[0])


def test_scales_are_learned_from_rows_that_fit_the_network():
    student = nets.student((4,), 3)
    for rows, error in (
        (np.ones((5, 3)), ShapeMismatch),
        (np.ones(4), ShapeMismatch),
        (np.ones((0, 4)), EmptyInput),
        (np.full((5, 4), np.nan), NonFinite),
        ("rows", WrongType),
    ):
        with pytest.raises(error, match="rows"):
            nets.learn_scales(student, rows)
    with pytest.raises(WrongType, match=r"one that demur\.nets made; got int"):
        nets.learn_scales(3, np.ones((5, 4)))
    assert (student.layers[0].scale.numpy() == 1).all()


@pytest.mark.slow
def test_networks_of_ones_own_and_copies_keep_their_scales():
    x = 100 * models.wine()[0][:32]
    own = nets.student((13,), 3)
    ModelDistillation(model=models.tabular(), distilled_model=own).fit(x, epochs=1, verbose=False)
    assert (own.layers[0].scale.numpy() == 1).all()
    copied = ModelDistillation(model=own, distilled_model="copy").fit(x, epochs=1, robust=1.0, verbose=False)
    assert (copied.companion.layers[0].scale.numpy() == 1).all()


@pytest.mark.slow
def test_perturbations_are_smaller_than_the_rows_are_apart():
    x = guards.data().train.x[:32]

    def fit(robust, X=x):
        student = keras.models.clone_model(models.student())
        ModelDistillation(model=guards.classifier(), distilled_model=student).fit(
            X, robust=robust, epochs=1, verbose=False
        )

    for robust, X in ((25, x), (Robust({"L2": 100.0}), x), (Robust(1.0, bounds=(0, 1)), x), (25, iter([x]))):
        with advises(InvalidSetting, "Pass a smaller epsilon, in the units of the rows"):
            fit(robust, X)
    with advises(InvalidSetting, "pass bounds that hold all rows") as caught:
        fit(Robust(8.0, bounds=(0, 1)), 255 * x)
    assert "X holds numbers from 0 to 255" in str(caught.value)
    fit(Robust(0.1, bounds=(0, 1)))
    fit(Robust(25.0, bounds=(0, 255)), 255 * x)


def test_attacks_stay_within_what_rows_can_differ_by():
    x, y = guards.attacked_rows(24)
    pgd = Attack.registry["PGD"]
    with advises(InvalidSetting, "pass a smaller one, in the units of X"):
        evaluate(again(), x, y, **{**NOTHING, "attacks": [pgd(8.0)]})
    with pytest.raises(InvalidSetting, match=r"epsilons\['L2'\] is 50, and no two rows .* further than 8 apart in L2"):
        evaluate(again(), x, y, epsilons={"L2": 50}, **NOTHING)
    assert evaluate(again(), x, y, **{**NOTHING, "attacks": [pgd(0.03)]}).threats
