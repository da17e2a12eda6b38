"""Classes as users call them: wherever labels are taken and classes are given."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demur import AdversarialAE, BlackBox, ModelDistillation, drift, load_detector
from demur.errors import InvalidSetting, ShapeMismatch, TooFewInstances, WrongClassifier
from demur.evaluation.run import evaluate
from demur.onnx import runtime
from demur.rows.classes import Classes
from tests.scaffold import guards, sources

X, Y = sources.wine()
X, Y = X[Y < 2], Y[Y < 2]
TRAIN, HELD_OUT = slice(0, None, 2), slice(1, None, 2)
NAMES = {"signs": (-1, 1), "two and five": (2, 5), "text": ("ham", "spam"), "booleans": (False, True)}


def forest(names):
    return RandomForestClassifier(8, max_depth=2, random_state=0).fit(X[TRAIN], np.array(names)[Y[TRAIN]])


def fitted(model, **settings):
    return ModelDistillation(model=model, **settings).fit(X[TRAIN], epochs=2, verbose=False)


@pytest.fixture(scope="module")
def plain():
    """A detector of a forest whose classes are 0 and 1, and what it says."""
    detector = fitted(forest((0, 1)))
    detector.infer_threshold(X[HELD_OUT], fpr=0.3, labels=Y[HELD_OUT])
    return detector


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES.values(), ids=list(NAMES))
def test_estimators_say_what_their_classes_are_called(plain, names):
    y = np.array(names)[Y[HELD_OUT]]
    detector = fitted(forest(names)).infer_threshold(X[HELD_OUT], fpr=0.3, labels=y)
    assert detector.classes == names
    assert detector.calibration.distributions[None].n == plain.calibration.distributions[None].n
    data, same = (one.correct(X[HELD_OUT])["data"] for one in (detector, plain))
    for name in ("corrected", "no_defense", "defense"):
        np.testing.assert_array_equal(data[name], np.array(names)[same[name]])
    assert (data["no_defense"] == detector.model.predict(X[HELD_OUT])).all()
    harm = drift.calibrate_accuracy(detector, X[HELD_OUT], y, rows=50, corruptions={"noise": _noise})
    assert harm.accuracy == pytest.approx(detector.model.score(X[HELD_OUT], y))
    for series in (pd.Series(y), pd.Series(y, dtype="category"), list(y)):
        fresh = drift.calibrate_accuracy(detector, X[HELD_OUT], series, rows=50, corruptions={"noise": _noise})
        assert fresh.accuracy == harm.accuracy


def _noise(rows, severity, seed):
    return rows + np.random.default_rng(seed).normal(0, severity, rows.shape).astype(rows.dtype)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: make_pipeline(StandardScaler(), model).fit(X[TRAIN], np.array(["ham", "spam"])[Y[TRAIN]]),
        lambda model: GridSearchCV(model, {"max_depth": [2]}, cv=2).fit(X[TRAIN], np.array(["ham", "spam"])[Y[TRAIN]]),
        BlackBox,
        lambda model: BlackBox(model.predict_proba, fingerprint="forest"),
        lambda model: model.predict_proba,
    ],
    ids=["pipeline", "search", "black box", "black box of a method", "method"],
)
def test_so_does_what_wraps_them(wrap):
    detector = fitted(wrap(forest(NAMES["text"])))
    assert detector.classes == NAMES["text"]
    detector.threshold = 0.1
    assert set(detector.correct(X)["data"]["no_defense"]) == {"ham", "spam"}


FOREST = forest((0, 1))


def ask(rows):
    return FOREST.predict_proba(rows)


@pytest.fixture(scope="module")
def nameless():
    """A detector of a function, which does not say what its classes are called."""
    return fitted(ask).infer_threshold(X[HELD_OUT], threshold_perc=90, groups="predicted")


TAKES_LABELS = {
    "infer_threshold": lambda detector, y: detector.infer_threshold(X[HELD_OUT], fpr=0.3, labels=y),
    "calibrate_accuracy": lambda detector, y: drift.calibrate_accuracy(detector, X[HELD_OUT], y),
    "evaluate": lambda detector, y: evaluate(detector, X[HELD_OUT], y, verbose=False),
    "drift": lambda detector, y: drift.Monitor(detector).update(scores=np.ones(len(y)), predicted=y),
}


@pytest.mark.slow
@pytest.mark.parametrize("take", TAKES_LABELS.values(), ids=list(TAKES_LABELS))
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y[HELD_OUT] * 2 - 1, InvalidSetting, r"from 0 to 1; got -1 to 1.*detector.classes = \[...\]"),
        (Y[HELD_OUT] + 1, InvalidSetting, "from 0 to 1; got 1 to 2"),
        (np.array(["ham", "spam"])[Y[HELD_OUT]], ShapeMismatch, r"got '\w+', and the classifier does not say"),
        (Y[HELD_OUT] + 0.5, ShapeMismatch, "one whole number"),
        (np.eye(2)[Y[HELD_OUT]], ShapeMismatch, r"argmax\(axis=1\)"),
    ],
    ids=["signs", "from one", "text", "fractions", "one-hot"],
)
def test_labels_that_are_not_the_classes_are_refused_everywhere(nameless, take, y, error, message):
    with pytest.raises(error, match=message):
        take(nameless, y)


def test_the_advice_to_name_the_classes_works():
    y = np.array(["ham", "spam"])[Y[HELD_OUT]]
    detector = fitted(ask)
    with pytest.raises(ShapeMismatch, match=r"detector.classes = \[...\]"):
        detector.infer_threshold(X[HELD_OUT], fpr=0.3, labels=y)
    detector.classes = ["ham", "spam"]
    detector.infer_threshold(X[HELD_OUT], fpr=0.3, labels=y)
    assert detector.classes == ("ham", "spam")
    with pytest.raises(InvalidSetting, match="names each of the classifier's 2 classes; got 3"):
        detector.classes = ["ham", "spam", "eggs"]
    assert detector.classes == ("ham", "spam")


def test_names_in_another_order_than_the_classifiers_are_refused():
    with pytest.raises(InvalidSetting, match="order of the classifier's outputs"):
        fitted(forest(NAMES["text"]), classes=["spam", "ham"])


def test_names_are_kept(tmp_path):
    detector = fitted(ask, classes=["ham", "spam"])
    detector.threshold = 0.1
    detector.save(tmp_path / "guard")
    loaded = load_detector(tmp_path / "guard", model=ask)
    assert loaded.classes == ("ham", "spam")
    np.testing.assert_array_equal(loaded.correct(X)["data"]["corrected"], detector.correct(X)["data"]["corrected"])
    document = json.loads((tmp_path / "guard" / "detector.json").read_text())
    document["classifier"].pop("classes")  # as before there were names
    document["settings"].pop("classes")
    (tmp_path / "guard" / "detector.json").write_text(json.dumps(document))
    assert load_detector(tmp_path / "guard", model=ask).classes is None


def test_a_classifier_that_calls_its_classes_otherwise_is_another(tmp_path):
    detector = fitted(forest(NAMES["text"]))
    detector.save(tmp_path / "guard")
    with pytest.warns(UserWarning, match="cannot be told for certain"), pytest.raises(WrongClassifier, match="'no'"):
        load_detector(tmp_path / "guard", model=forest(("no", "yes")))


@pytest.fixture(scope="module")
def texts():
    """A detector of a forest whose classes are text."""
    return fitted(forest(NAMES["text"]))


def test_messages_and_predicted_classes_are_the_users_own(texts):
    detector = texts
    with pytest.raises(TooFewInstances, match=r"class ham has .*class spam has"):
        detector.infer_threshold(X[HELD_OUT], fpr=0.001, groups="predicted")
    detector.infer_threshold(X[HELD_OUT], threshold_perc=90, groups="predicted")
    predicted = detector.correct(X[HELD_OUT])["data"]["no_defense"]
    by_rows = drift.Monitor(detector).update(X[HELD_OUT])
    by_scores = drift.Monitor(detector).update(scores=detector.score(X[HELD_OUT]), predicted=predicted)
    assert by_rows.log_evidence == pytest.approx(by_scores.log_evidence)
    with pytest.raises(InvalidSetting, match="predicted holds 'eggs'; the classes are 'ham', 'spam'"):
        by_scores.update(scores=[0.1], predicted=["eggs"])


def test_evaluations_take_and_tell_them(texts):
    detector = texts
    y = np.array(NAMES["text"])[Y[HELD_OUT]]
    detector.infer_threshold(X[HELD_OUT], fpr=0.3, labels=y)
    found = evaluate(detector, X[HELD_OUT], y, attacks=None, corruptions={"noise": _noise}, verbose=False, resamples=2)
    assert found.class_names == ["ham", "spam"]
    assert found.clean.accuracy.value == pytest.approx(detector.model.score(X[HELD_OUT], y))


def exported(tmp_path):
    x, y = guards.data().held_out
    names = [f"digit {i}" for i in range(10)]
    detector = AdversarialAE(model=guards.classifier(), classes=names).fit(x, epochs=1, verbose=False)
    detector.infer_threshold(x, fpr=0.1, labels=np.array(names)[y])
    detector.export(tmp_path / "guard.onnx")
    return detector, x


@pytest.mark.slow
def test_exported_guards_keep_them(tmp_path):
    detector, x = exported(tmp_path)
    guard = runtime.load(tmp_path / "guard.onnx")
    assert guard.labels == Classes(10, tuple(f"digit {i}" for i in range(10)))
    for name in ("no_defense", "defense"):
        np.testing.assert_array_equal(guard.correct(x)["data"][name], detector.correct(x)["data"][name])
    raw = guard.run(guard.feed(x[:3]), ["corrected"])["corrected"]
    assert raw.dtype == np.int64
    np.testing.assert_array_equal(guard.labels.named(raw), guard.correct(x[:3])["data"]["corrected"])


def test_batches_answer_with_them(texts):
    from demur.batch import answers

    detector = texts.infer_threshold(X[HELD_OUT], threshold_perc=90)
    columns = answers(detector, X, ["corrected", "reference"]).columns
    np.testing.assert_array_equal(columns["corrected"], detector.correct(X)["data"]["corrected"])


@pytest.mark.slow
def test_collections_of_dask_calibrate_by_them(tmp_path):
    array = pytest.importorskip("dask.array")
    detector, x = exported(tmp_path)
    y = np.array(detector.classes)[guards.data().held_out[1]]
    here = detector.infer_threshold(x, threshold_perc=90, labels=y).threshold
    rows = array.from_array(x, chunks=(len(x) // 2, *x.shape[1:]))
    for labels in (y, array.from_array(y, chunks=len(x) // 2)):
        assert detector.infer_threshold(rows, threshold_perc=90, labels=labels).threshold == pytest.approx(here)


class HuggingFaceLike(torch.nn.Module):
    class Config:
        id2label = {0: "negative", 1: "positive"}  # noqa: RUF012 - as there

    config = Config()

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(13, 2)

    def forward(self, x):
        return self.layer(x).softmax(1)


def test_modules_with_id2label_take_names_and_indices():
    detector = fitted(HuggingFaceLike())
    assert detector.classes == ("negative", "positive")
    by_index = detector.infer_threshold(X[HELD_OUT], threshold_perc=90, labels=Y[HELD_OUT]).threshold
    y = np.array(detector.classes)[Y[HELD_OUT]]
    assert detector.infer_threshold(X[HELD_OUT], threshold_perc=90, labels=y).threshold == by_index
    assert set(detector.correct(X)["data"]["no_defense"]) <= {"negative", "positive"}


def test_copies_keep_them(tmp_path):
    import copy
    import pickle

    detector = fitted(forest(NAMES["text"]))
    detector.classes = ["no", "yes"]
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert other.classes == ("no", "yes")
    detector.save(tmp_path / "guard")
    assert load_detector(tmp_path / "guard", model=detector.model).classes == ("no", "yes")
    shutil.rmtree(tmp_path / "guard")
