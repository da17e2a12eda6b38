"""A classifier outside the graph: its answer is an input of the file; an ONNX model is put into the file."""

import keras
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression

import demur.runtime
from demur import ModelDistillation
from demur.classifiers import BlackBox
from demur.errors import (
    ClassifierFailed,
    InvalidSetting,
    NonFinite,
    NotADistribution,
    NotExportable,
    ShapeMismatch,
    WrongType,
)
from demur.rows.rows import Rows
from tests.scaffold import models, sources
from tests.scaffold.advice import advises

BACKEND = keras.backend.backend()


def wine():
    return models.wine()[0]


def frame():
    X, y = models.wine()
    table = pd.DataFrame(X[:, :3].astype("float64"), columns=["alcohol", "acid", "ash"])
    return table.assign(grown=np.array(["hill", "valley", "plain"])[y])


def predict(rows):
    """Of a table or of arrays: no scikit-learn."""
    numbers = rows[["alcohol", "acid", "ash"]].to_numpy() if hasattr(rows, "columns") else np.asarray(rows)[:, :3]
    weights = np.exp(numbers @ np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [0.5, 0.0, 0.5]]))
    return weights / weights.sum(axis=1, keepdims=True)


def logits(rows):
    return 3 * np.log(predict(rows))


def second(rows):
    return predict(rows)[:, 0]


class Estimator:
    """What scikit-learn's classifiers are like."""

    def predict_proba(self, X):
        return predict(X)


class Halves:
    """A companion_preprocess of one's own."""

    def transform(self, X):
        return X[["alcohol", "ash"]].to_numpy() / 2


def named(rows):
    return predict(np.concatenate([rows["first"], rows["rest"]], axis=1))


def named_student():
    inputs = {"first": keras.Input((5,), name="first"), "rest": keras.Input((8,), name="rest")}
    x = layers.Concatenate()(list(inputs.values()))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", **models.weights(3))(x))


CASES = {
    "function": (predict, wine, {}),
    "sharpened": (predict, wine, {"temperature": 0.5}),
    "logits": (logits, wine, {"from_logits": True}),
    "one output": (second, wine, {}),
    "estimator": (Estimator(), frame, {}),
    "own numbers": (Estimator(), frame, {"companion_preprocess": Halves()}),
    "named": (named, lambda: {"first": wine()[:, :5], "rest": wine()[:, 5:]}, {}),
    "black box": (BlackBox(predict, fingerprint="v1"), wine, {}),
}


def some(X, chosen):
    return {name: array[chosen] for name, array in X.items()} if isinstance(X, dict) else X[chosen]


def fitted(model, X, **settings):
    student = named_student() if isinstance(X, dict) else None
    detector = ModelDistillation(model=model, distilled_model=student, **settings)
    detector.fit(some(X, slice(0, 90)), epochs=1, verbose=False)
    detector.infer_threshold(some(X, slice(90, None)), fpr=0.2)
    detector.threshold *= 1.001  # it was one of the scores
    return detector


def assert_the_same(live, found):
    for name in ("is_adversarial", "corrected", "no_defense", "defense"):
        np.testing.assert_array_equal(found["data"][name], live["data"][name], err_msg=name)
    np.testing.assert_allclose(found["data"]["instance_score"], live["data"]["instance_score"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_an_input(name, tmp_path):
    model, rows, settings = CASES[name]
    X = rows()
    detector = fitted(model, X, **settings)
    written = detector.export(tmp_path / "guard.onnx")
    assert written.takes_reference
    assert written.difference <= 1e-5
    assert detector.export(tmp_path / "on_rows.onnx", X=some(X, slice(0, 9))).difference <= 1e-5
    ask = getattr(model, "predict", None) or getattr(model, "predict_proba", model)
    own = settings.get("companion_preprocess")
    live, reference = detector.correct(X), ask(X)
    guard = demur.runtime.load(written.path)
    assert guard.takes_reference
    assert "reference" in guard.inputs
    assert_the_same(live, guard.correct(X if own is None else own.transform(X), reference=reference, batch_size=50))
    asking = demur.runtime.load(written.path, model=ask, companion_preprocess=own)
    assert_the_same(live, asking.correct(X))
    for a, b in zip(detector.score(X, return_predictions=True), asking.score(X, return_predictions=True), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector of a function, and its file."""
    detector = fitted(predict, wine(), temperature=0.5)
    path = tmp_path_factory.mktemp("guards") / "guard.onnx"
    detector.export(path)
    return detector, path


@pytest.mark.slow
def test_plain_onnxruntime_takes_the_answer(exported):
    detector, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"x": wine(), "reference": predict(wine()).astype("float32")}
    corrected, p, sharpened = session.run(["corrected", "probabilities", "sharpened"], feed)
    live = detector.correct(wine())["data"]
    np.testing.assert_array_equal(corrected, live["corrected"])
    np.testing.assert_allclose(p[~live["is_adversarial"]], feed["reference"][~live["is_adversarial"]], atol=1e-5)
    assert sharpened.max(axis=1).mean() > feed["reference"].max(axis=1).mean()
    onnx.checker.check_model(onnx.load(path), full_check=True)


@pytest.mark.slow
def test_the_encoder_of_a_table_is_in_the_file(tmp_path):
    detector = fitted(Estimator(), frame())
    detector.export(tmp_path / "guard.onnx")
    guard = demur.runtime.load(tmp_path / "guard.onnx")
    assert guard.input_shape == ("alcohol", "acid", "ash", "grown")
    X = frame()[["grown", "ash", "acid", "alcohol"]]  # put in order by name
    np.testing.assert_allclose(guard.score(X, reference=predict(X)), detector.score(X), rtol=1e-4, atol=1e-5)
    feed = guard.feed(frame(), predict(frame()))
    np.testing.assert_allclose(feed["x"], detector.route.companion_rows(Rows.unchecked(frame())).raw, atol=1e-6)
    with pytest.raises(ShapeMismatch, match="it has no grown"):
        guard.score(X.drop(columns="grown"), reference=predict(X))


@pytest.mark.slow
def test_made_up_rows_are_not_asked_about(tmp_path):
    asked = []

    def model(rows):
        asked.append(len(rows))
        return predict(rows)

    detector = fitted(model, wine())
    asked.clear()
    detector.export(tmp_path / "guard.onnx")
    assert asked == []
    detector.export(tmp_path / "guard.onnx", X=wine()[:5])
    assert sum(asked) == 5


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (None, InvalidSetting, "pass reference="),
        (np.ones((3, 3)), ShapeMismatch, "for each of 20 rows"),
        (np.ones((20, 2)), ShapeMismatch, r"\(20, 3\)"),
        (np.full((20, 3), "a"), ShapeMismatch, "dtype"),
        (np.full((20, 3), np.nan), NonFinite, "rows 0, 1"),
    ],
    ids=["missing", "rows", "classes", "text", "nan"],
)
def test_an_answer_that_is_none_is_told(exported, wrong, error, message):
    with pytest.raises(error, match=message):
        demur.runtime.load(exported[1]).correct(wine()[:20], reference=wrong)


def test_logits_become_an_answer_by_their_softmax(exported):
    guard, reference = demur.runtime.load(exported[1]), np.log(predict(wine())) + 1
    with advises(NotADistribution, "If these are logits, pass their softmax"):
        guard.correct(wine(), reference=reference)
    softmax = np.exp(reference) / np.exp(reference).sum(axis=1, keepdims=True)
    assert_the_same(exported[0].correct(wine()), guard.correct(wine(), reference=softmax))


@pytest.mark.slow
def test_a_model_that_cannot_be_asked_is_told(exported, tmp_path):
    with pytest.raises(WrongType, match="predict_proba"):
        demur.runtime.load(exported[1], model=3)
    with pytest.raises(InvalidSetting, match="leave it out"):
        demur.runtime.load(exported[1], model=predict, companion_preprocess=Halves())
    with pytest.raises(ClassifierFailed, match="ZeroDivisionError"):
        demur.runtime.load(exported[1], model=lambda rows: 1 / 0).score(wine())
    fitted(sources.onnx_file(), wine()).export(tmp_path / "guard.onnx")
    for ask in (
        lambda: demur.runtime.load(tmp_path / "guard.onnx", model=predict),
        lambda: demur.runtime.load(tmp_path / "guard.onnx").score(wine(), reference=predict(wine())),
    ):
        with pytest.raises(InvalidSetting, match="this file holds it"):
            ask()


def test_a_row_that_cannot_be_judged_is_flagged(tmp_path):
    detector = fitted(predict, wine(), on_invalid="flag")
    detector.export(tmp_path / "guard.onnx")
    spoiled = wine().copy()
    spoiled[4, 7] = np.nan  # which this classifier does not look at
    live = detector.correct(spoiled)
    found = demur.runtime.load(tmp_path / "guard.onnx", model=predict).correct(spoiled)
    assert live["data"]["invalid"].tolist() == found["data"]["invalid"].tolist() == [4]
    for name in ("is_adversarial", "corrected", "no_defense"):
        np.testing.assert_array_equal(found["data"][name], live["data"][name])


@pytest.mark.slow
def test_less_precision_is_measured_beside_the_answers(exported, tmp_path):
    detector, _ = exported
    written = detector.export(tmp_path / "small.onnx", int8=True, X=wine(), max_loss=0.5)
    assert written.takes_reference
    assert written.loss.rows == 2 * len(wine())
    table = fitted(Estimator(), frame())
    with advises(InvalidSetting, "rows of a table get no noise: pass X_adversarial=, rows that should be flagged"):
        table.export(tmp_path / "table.onnx", int8=True, X=frame(), max_loss=0.5)
    bad = frame().assign(ash=9.0)
    table.export(tmp_path / "table.onnx", int8=True, X=frame(), X_adversarial=bad, max_loss=0.9)


def test_a_batch_job_cannot_ask_the_classifier(exported, tmp_path):
    from demur.batch.guards import packed

    detector, path = exported
    with pytest.raises(NotExportable, match="pass the detector itself"):
        packed(path, "auto", tmp_path)
    with pytest.raises(NotExportable, match="runtime='live'"):
        packed(detector, "onnx", tmp_path)
    assert packed(detector, "live", tmp_path).ref.kinds == packed(detector, "auto", tmp_path).ref.kinds == ("live",)


# ONNX models ----------------------------------------------------------------------------------------------------------


def converted(model, X, path, **options):
    from skl2onnx import to_onnx

    path.write_bytes(to_onnx(model, X[:1], **options).SerializeToString())
    return str(path)


def dense(path, *, last=(), batch="n", opset=18, dtype="FLOAT"):
    """A dense layer, by hand: its operation set and what it ends in can be chosen."""
    from onnx import TensorProto, helper, numpy_helper

    kind = getattr(TensorProto, dtype)
    weights = np.random.default_rng(0).normal(size=(13, 1 if "Sigmoid" in last else 3))
    weights = weights.astype("float64" if dtype == "DOUBLE" else "float32")
    nodes, name = [helper.make_node("MatMul", ["rows", "w"], ["made_0"])], "made_0"
    for i, op in enumerate(last, 1):
        nodes.append(helper.make_node(op, [name], [f"made_{i}"]))
        name = f"made_{i}"
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("rows", kind, [batch, 13])],
        [helper.make_tensor_value_info(name, kind, [batch, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return str(path)


ONNX = {
    "maps of probabilities": lambda path: converted(LogisticRegression().fit(*models.wine()), wine(), path),
    "trees": lambda path: converted(sources.forest(), wine(), path, options={"zipmap": False}),
    "probabilities": lambda path: dense(path, last=("Softmax",)),
    "one output": lambda path: dense(path, last=("Sigmoid",)),
    "logits": dense,
    "an old operation set": lambda path: dense(path, last=("Softmax",), opset=13),
    "a new operation set": lambda path: dense(path, last=("Softmax",), opset=21),
    "float64": lambda path: dense(path, last=("Softmax",), dtype="DOUBLE"),
    "a session": lambda path: onnxruntime.InferenceSession(dense(path, last=("Softmax",))),
    "a black box": lambda path: BlackBox(dense(path, last=("Softmax",)), fingerprint="v1"),
}


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_model_is_put_into_the_file(name, tmp_path):
    model = ONNX[name](tmp_path / "classifier.onnx")
    detector = fitted(model, wine(), from_logits=name == "logits", temperature=0.7)
    written = detector.export(tmp_path / "guard.onnx")
    assert not written.takes_reference
    assert written.difference <= 1e-5
    guard = demur.runtime.load(written.path)
    assert list(guard.inputs) == ["x"]
    assert_the_same(detector.correct(wine()), guard.correct(wine()))
    onnx.checker.check_model(onnx.load(written.path))


def test_an_onnx_model_that_takes_one_size_of_batch_stays_outside(tmp_path):
    detector = fitted(dense(tmp_path / "classifier.onnx", last=("Softmax",), batch=4), wine())
    assert detector.export(tmp_path / "guard.onnx").takes_reference
