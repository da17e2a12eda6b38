"""Rows by another door: tensors that carry gradients or narrow floats, sparse matrices, tables in another order."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from demur import AdversarialAE, ModelDistillation, load_detector
from demur.errors import ShapeMismatch, WrongType
from tests.scaffold import models

X = models.wine()[0][:60]
BACKEND = keras.backend.backend()
NAMES = [f"feature {i}" for i in range(X.shape[1])]
QUICK = {"epochs": 1, "verbose": False}


def classifier():
    return keras.Sequential([layers.Input((13,)), layers.Dense(3, activation="softmax", **models.weights(1))])


@pytest.fixture(scope="module")
def detector():
    return ModelDistillation(model=classifier(), distilled_model=models.dense_student())


def narrow_of_numpy(x):
    import ml_dtypes

    return x.astype(ml_dtypes.bfloat16)


def native_tensors():
    """What a caller may have in hand, by name: the tensors, and the numbers that they hold."""
    import torch

    with_gradient = torch.tensor(X, requires_grad=True)
    found = {
        "with a gradient": (with_gradient, X),
        "bfloat16 of PyTorch": (with_gradient.to(torch.bfloat16), torch.tensor(X).to(torch.bfloat16).float().numpy()),
        "bfloat16 of NumPy": (narrow_of_numpy(X), narrow_of_numpy(X).astype("float32")),
    }
    if BACKEND == "tensorflow":
        import tensorflow as tf

        found["bfloat16 of TensorFlow"] = tf.cast(X, tf.bfloat16), narrow_of_numpy(X).astype("float32")
        found["a variable"] = tf.Variable(X), X
    if BACKEND == "jax":
        import jax.numpy as jnp

        found["bfloat16 of JAX"] = jnp.asarray(X, jnp.bfloat16), narrow_of_numpy(X).astype("float32")
    return found


def test_tensors_are_read_as_their_numbers(detector):
    for name, (tensor, numbers) in native_tensors().items():
        np.testing.assert_array_equal(detector.score(tensor), detector.score(numbers), err_msg=name)
        np.testing.assert_array_equal(detector.score(iter([tensor])), detector.score(numbers), err_msg=name)


def test_tensors_are_trained_on_and_calibrate(detector):
    tensor, _ = native_tensors()["bfloat16 of PyTorch"]
    made = ModelDistillation(
        model=lambda rows: keras.ops.convert_to_numpy(classifier()(rows)), distilled_model=models.dense_student()
    )
    made.fit(tensor, validation_data=tensor, **QUICK).infer_threshold(tensor, fpr=0.1)
    assert made.predict(tensor)["data"]["is_adversarial"].shape == (60,)


def test_a_functions_answer_may_carry_a_gradient():
    import torch

    kernel = torch.tensor(np.random.default_rng(0).normal(size=(13, 3)), dtype=torch.float32, requires_grad=True)
    made = ModelDistillation(
        model=lambda rows: (torch.tensor(rows) @ kernel).softmax(-1).to(torch.bfloat16),
        distilled_model=models.dense_student(),
    )
    assert np.isfinite(made.score(X)).all()


def sparse():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    dense = np.where(rng.random(X.shape) < 0.7, 0, X).astype("float32")
    return dense, [scipy_sparse.csr_matrix(dense), scipy_sparse.csc_array(dense), scipy_sparse.coo_matrix(dense)]


def test_sparse_matrices_score_as_dense_ones(detector):
    dense, matrices = sparse()
    for matrix in matrices:
        np.testing.assert_array_equal(detector.score(matrix, batch_size=16), detector.score(dense, batch_size=16))
    np.testing.assert_array_equal(detector.score(iter([matrices[0]])), detector.score(dense))


def test_sparse_matrices_are_trained_on_without_becoming_dense(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    from demur.rows.arrays import SparseRows
    from demur.rows.rows import CHECK_ROWS

    dense, (matrix, *_) = sparse()
    widest = []
    taken = SparseRows.__getitem__

    def watched(rows, chosen):
        found = taken(rows, chosen)
        widest.append(len(found))
        return found

    monkeypatch.setattr(SparseRows, "__getitem__", watched)
    big = np.tile(dense, (100, 1))  # more than the rows in which NaN is searched for together
    made = ModelDistillation(model=LogisticRegression(max_iter=500).fit(dense, models.wine()[1][:60]).predict_proba)
    made.fit(type(matrix)(big), **QUICK)
    assert max(widest) <= CHECK_ROWS < len(big)
    np.testing.assert_allclose(made.score(matrix), made.score(dense), atol=1e-6)


def test_an_estimator_takes_sparse_rows():
    from sklearn.linear_model import LogisticRegression

    dense, (matrix, *_) = sparse()
    model = LogisticRegression(max_iter=500).fit(matrix, models.wine()[1][:60])
    made = ModelDistillation(model=model).fit(matrix, **QUICK)
    np.testing.assert_allclose(made.score(matrix), made.score(dense), atol=1e-6)


def test_what_is_no_array_is_named(detector):
    nested = pd.Series(list(X))
    with pytest.raises(WrongType, match=r"np.stack\(list\(...\)\)"):
        detector.score(nested)
    assert len(detector.score(np.stack(list(nested)))) == 60
    with pytest.raises(WrongType, match=r"np.asarray\(...\)"):
        detector.score(list(X))
    assert len(detector.score(np.asarray(list(X)))) == 60


@pytest.fixture(scope="module")
def framed():
    """A guard that was fitted on a table, and calibrated."""
    made = AdversarialAE(model=classifier()).fit(pd.DataFrame(X, columns=NAMES), **QUICK)
    return made.infer_threshold(X, fpr=0.1)


def frames():
    """The same rows: moved, with a column more, as polars has them."""
    import polars

    frame = pd.DataFrame(X, columns=NAMES)
    return {
        "moved": frame[NAMES[::-1]],
        "with a column more": frame.assign(id=range(60))[["id", *NAMES[5:], *NAMES[:5]]],
        "polars": polars.DataFrame(frame[NAMES[::-1]].to_dict("list")),
        "NumPy": X,
    }


def test_columns_are_put_in_the_order_of_fit(framed):
    expected = framed.correct(X)["data"]
    for name, frame in frames().items():
        found = framed.correct(frame)["data"]
        np.testing.assert_array_equal(found["instance_score"], expected["instance_score"], err_msg=name)
        np.testing.assert_array_equal(framed.score(iter([frame])), framed.score(iter([X])), err_msg=name)


def test_a_column_that_is_missing_is_named(framed):
    frame = pd.DataFrame(X, columns=[*NAMES[:-1], "another"])
    with pytest.raises(ShapeMismatch, match="it has no feature 12"):
        framed.score(frame)


@pytest.mark.slow
def test_columns_are_remembered_when_saved_copied_and_exported(framed, tmp_path):
    import copy

    from demur.onnx import runtime

    moved = frames()["moved"]
    framed.save(tmp_path / "guard")
    framed.export(tmp_path / "guard.onnx")
    for again in (load_detector(tmp_path / "guard"), copy.deepcopy(framed), runtime.load(tmp_path / "guard.onnx")):
        found = again.predict(moved)["data"]["instance_score"]
        np.testing.assert_allclose(found, framed.score(X), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_second_fit_keeps_the_order(framed):
    made = ModelDistillation(model=classifier(), distilled_model=models.dense_student())
    made.fit(pd.DataFrame(X, columns=NAMES), **QUICK).fit(frames()["moved"], **QUICK)
    np.testing.assert_array_equal(made.score(frames()["moved"]), made.score(X))
