"""What a classifier returns is checked against what is said of it, and named for what it is; the advice works."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC

from demur import AdversarialAE, BlackBox, ModelDistillation
from demur.errors import NotADistribution, ShapeMismatch, WrongType
from tests.scaffold import models
from tests.scaffold.advice import advises

X, y = models.wine()
BACKEND = keras.backend.backend()


def net(classes, activation=None, seed=0):
    last = layers.Dense(classes, activation=activation, **models.weights(seed))
    return keras.Sequential([layers.Input((13,)), last])


class Hidden(keras.Model):
    """A model whose end demur does not see."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=False):
        return self.inner(x)


def estimator():
    return LogisticRegression().fit(X, y)


def native(classes, end):
    """What the backend itself computes: a module of PyTorch, a function of JAX or TensorFlow."""
    kernel = np.random.default_rng(0).normal(size=(13, classes)).astype("float32")
    if BACKEND == "torch":
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.kernel = torch.nn.Parameter(torch.from_numpy(kernel))

            def forward(self, x):
                z = x @ self.kernel
                return {"softmax": lambda z: z.softmax(-1), "sigmoid": torch.sigmoid, None: lambda z: z}[end](z)

        return Net()
    if BACKEND == "jax":
        import jax

        ends = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid, None: lambda z: z}
        return (lambda kernel, x: ends[end](x @ kernel)), kernel
    import tensorflow as tf

    ends = {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, None: tf.identity}
    return tf.function(lambda x: ends[end](tf.matmul(x, tf.constant(kernel))))


def onnx_of_probabilities(tmp_path, outputs=("p",)):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kernel = numpy_helper.from_array(np.random.default_rng(0).normal(size=(13, 3)).astype("float32"), "k")
    nodes = [helper.make_node("MatMul", ["x", "k"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=-1)]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size])
        for n, size in (("x", 13), *((name, 3) for name in outputs))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


PROBABILITIES = {
    "estimator": lambda _: estimator(),
    "function": lambda _: estimator().predict_proba,
    "black box": lambda _: BlackBox(estimator().predict_proba),
    "hidden softmax": lambda _: Hidden(net(3, "softmax")),
    "native": lambda _: native(3, "softmax"),
    "ONNX": onnx_of_probabilities,
}


@pytest.mark.parametrize("make", PROBABILITIES.values(), ids=PROBABILITIES)
def test_probabilities_are_not_taken_for_logits(make, tmp_path):
    detector = ModelDistillation(model=make(tmp_path), from_logits=True)
    with advises(NotADistribution, "and from_logits=True says that it returns logits: leave from_logits at False"):
        detector.fit(X, epochs=1, verbose=False)
    advised = ModelDistillation(model=make(tmp_path)).fit(X, epochs=1, verbose=False)
    assert np.isfinite(advised.score(X)).all()


@pytest.mark.parametrize("framework", ["Keras", "PyTorch"])
def test_a_visible_softmax_is_not_taken_for_logits(framework):
    if framework == "Keras":
        model = net(3, "softmax")
    else:
        torch = pytest.importorskip("torch")
        model = torch.nn.Sequential(torch.nn.Linear(13, 3), torch.nn.Softmax(-1))
    with advises(NotADistribution, "ends in a softmax, so it returns probabilities: leave from_logits at False"):
        ModelDistillation(model=model, from_logits=True).fit(X, epochs=1, verbose=False)
    assert np.isfinite(ModelDistillation(model=model).fit(X, epochs=1, verbose=False).score(X)).all()


def test_an_autoencoders_classifier_is_asked_too():
    with pytest.raises(NotADistribution, match="leave from_logits at False"):
        AdversarialAE(model=Hidden(net(3, "softmax")), from_logits=True).fit(X, epochs=1, verbose=False)


@pytest.mark.slow
def test_logits_stay_logits():
    for model in (net(3), native(3, None), estimator().decision_function):
        assert np.isfinite(
            ModelDistillation(model=model, from_logits=True).fit(X, epochs=1, verbose=False).score(X)
        ).all()


def test_one_output_from_0_to_1_may_be_a_logit_and_is_a_warning():
    def one_output(rows):
        return binary.predict_proba(rows)[:, 1]

    binary = LogisticRegression().fit(X, y > 0)
    with advises(UserWarning, "as probabilities do: if they are, leave from_logits at False"):
        ModelDistillation(model=one_output, from_logits=True).fit(X, epochs=1, verbose=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="from_logits")
        ModelDistillation(model=one_output).fit(X, epochs=1, verbose=False)


def test_a_single_row_is_never_refused_for_its_sum():
    detector = ModelDistillation(
        model=lambda rows: np.tile([0.25, 0.75], (len(rows), 1)) + (np.arange(len(rows)) % 2)[:, None],
        from_logits=True,
        distilled_model=net(2, "softmax"),
    )
    assert np.isfinite(detector.score(X[:1])).all()
    assert np.isfinite(detector.score(X)).all()


MULTI_LABEL = {
    "visible sigmoids": lambda: net(5, "sigmoid"),
    "visible sigmoids in a model": lambda: keras.Sequential([layers.Input((13,)), net(5, "sigmoid")]),
    "hidden sigmoids": lambda: Hidden(net(5, "sigmoid")),
    "native": lambda: native(5, "sigmoid"),
    "function": lambda: lambda rows: 1 / (1 + np.exp(-rows[:, :5])),
}


@pytest.mark.parametrize("make", MULTI_LABEL.values(), ids=MULTI_LABEL)
def test_a_multi_label_model_is_told_that_one_class_a_row_is_needed(make):
    with pytest.raises(NotADistribution, match="guard each label on its own"):
        ModelDistillation(model=make(), input_shape=(13,)).fit(X, epochs=1, verbose=False)


def test_visible_sigmoids_are_no_logits_either():
    with pytest.raises(NotADistribution, match="multi-label"):
        ModelDistillation(model=net(5, "sigmoid"), from_logits=True)


@pytest.mark.slow
def test_each_label_can_be_guarded_on_its_own():
    tags = net(5, "sigmoid")
    one = ModelDistillation(model=keras.Model(tags.inputs, tags.outputs[0][:, :1])).fit(X, epochs=1, verbose=False)
    assert one.classifier.classes == 2
    assert np.isfinite(one.score(X)).all()


def test_an_estimator_of_several_labels_is_named():
    model = MultiOutputClassifier(LogisticRegression()).fit(X, np.stack([y > 0, y > 1], axis=1))
    with pytest.raises(ShapeMismatch, match="multi-output model"):
        ModelDistillation(model=model).fit(X, epochs=1, verbose=False)
    one = ModelDistillation(model=model.estimators_[0]).fit(X, epochs=1, verbose=False)
    assert np.isfinite(one.score(X)).all()


def two_heads():
    x = keras.Input((13,))
    return keras.Model(x, {"a": net(3, "softmax")(x), "b": net(2, "softmax")(x)})


@pytest.mark.slow
def test_several_heads_are_named_and_one_of_them_can_be_guarded():
    model = two_heads()
    with advises(
        ShapeMismatch, "of a functional Keras model, keras.Model(model.inputs, model.outputs[0]) returns the first"
    ):
        ModelDistillation(model=model)
    one = ModelDistillation(model=keras.Model(model.inputs, model.outputs[0])).fit(X, epochs=1, verbose=False)
    assert one.classifier.classes == 3
    with advises(
        ShapeMismatch, "2 outputs (a, b), as a model with several heads does. Pass a model or function that returns"
    ):
        ModelDistillation(model=Hidden(model), input_shape=(13,))
    other = ModelDistillation(model=lambda rows: model.predict(rows, verbose=0)["b"]).fit(X, epochs=1, verbose=False)
    assert other.classifier.classes == 2


@pytest.mark.slow
def test_of_several_outputs_of_an_onnx_model_a_function_returns_one_or_the_others_are_cut_off(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    path = onnx_of_probabilities(tmp_path, outputs=("z", "p"))
    with advises(ShapeMismatch, "pass a function that returns them, or cut the others off"):
        ModelDistillation(model=path).fit(X, epochs=1, verbose=False)
    session = ort.InferenceSession(path)

    def probabilities(rows):
        return session.run(["p"], {"x": np.asarray(rows, "float32")})[0]

    for model in (probabilities, onnx_of_probabilities(tmp_path)):
        assert np.isfinite(ModelDistillation(model=model).fit(X, epochs=1, verbose=False).score(X)).all()


def test_regression_and_labels_are_named():
    with pytest.raises(NotADistribution, match="If it is a regression model"):
        ModelDistillation(model=net(1)).fit(X, epochs=1, verbose=False)
    with pytest.raises(NotADistribution, match="predict_proba, not predict"):
        ModelDistillation(model=lambda rows: estimator().predict(rows)).fit(X, epochs=1, verbose=False)
    for model in (Ridge().fit(X, y), LinearSVC().fit(X, y)):
        with pytest.raises(WrongType, match="CalibratedClassifierCV"):
            ModelDistillation(model=model)


def test_a_classifier_without_predict_proba_can_be_calibrated():
    from sklearn.calibration import CalibratedClassifierCV

    model = CalibratedClassifierCV(LinearSVC(), ensemble=False).fit(X, y)
    assert np.isfinite(ModelDistillation(model=model).fit(X, epochs=1, verbose=False).score(X)).all()


def test_a_student_that_returns_logits_gets_advice_that_works():
    student = net(3, seed=4)
    with pytest.raises(NotADistribution, match=r"Sequential\(\[model, keras.layers.Softmax\(\)\]\)"):
        ModelDistillation(model=net(3, "softmax"), distilled_model=student)
    advised = keras.Sequential([student, layers.Softmax()])
    detector = ModelDistillation(model=net(3, "softmax"), distilled_model=advised)
    assert np.isfinite(detector.fit(X, epochs=1, verbose=False).score(X)).all()


def test_a_student_that_hides_its_softmax_from_a_classifier_of_logits_gets_advice_that_works():
    with pytest.raises(NotADistribution, match="without its softmax"):
        ModelDistillation(model=net(3), from_logits=True, distilled_model=Hidden(net(3, "softmax"))).fit(X, epochs=1)
    for student in (Hidden(net(3, seed=4)), net(3, "softmax")):
        detector = ModelDistillation(model=net(3), from_logits=True, distilled_model=student)
        assert np.isfinite(detector.fit(X, epochs=1, verbose=False).score(X)).all()


def test_a_model_of_ones_own_for_hidden_layers_gets_advice_that_works():
    with pytest.raises(NotADistribution, match=r"model_hl\[0\].*Softmax"):
        AdversarialAE(model=net(3, "softmax"), model_hl=[net(4)])
    advised = keras.Sequential([layers.Input((13,)), net(4), layers.Softmax()])
    AdversarialAE(model=net(3, "softmax"), model_hl=[advised])


class Named(dict):
    """What Hugging Face's models return: a dict by name that is an object, too."""

    def __getattr__(self, name):
        return self[name]


class Answer:
    def __init__(self, logits):
        self.logits, self.loss = logits, None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: {"scores": z},
        lambda z: Named(logits=z, hidden_states=(z, z)),
        Answer,
    ],
    ids=["dict of one", "model output", "object"],
)
def test_logits_by_name_are_found(wrap):
    plain, kernel = estimator().decision_function, np.random.default_rng(1).normal(size=(13, 3)).astype("float32")
    functions = [(lambda rows: wrap(plain(rows)), plain)]
    if BACKEND == "torch":
        import torch

        class Net(torch.nn.Module):
            def __init__(self, wrap):
                super().__init__()
                self.wrap, self.kernel = wrap, torch.nn.Parameter(torch.from_numpy(kernel))

            def forward(self, x):
                return self.wrap(x @ self.kernel)

        functions.append((Net(wrap), Net(lambda z: z)))
    elif BACKEND == "jax" and wrap is not Answer:  # JAX returns no objects of one's own from a compiled function
        functions.append(((lambda k, x: dict(wrap(x @ k)), kernel), (lambda k, x: x @ k, kernel)))
    elif BACKEND == "tensorflow" and wrap is not Answer:
        import tensorflow as tf

        functions.append((tf.function(lambda x: dict(wrap(x @ kernel))), tf.function(lambda x: x @ kernel)))
    for named, bare in functions:
        scores = [
            ModelDistillation(model=model, from_logits=True, distilled_model=models.dense_student()).score(X)
            for model in (named, bare)
        ]
        np.testing.assert_allclose(*scores, atol=1e-5)
