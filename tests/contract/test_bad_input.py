"""What is refused: with which error, in which words, and nothing is left changed by it. Tiny untrained networks do."""

import contextlib
import functools
import json
import shutil

import keras
import numpy as np
import pytest
from keras import layers, ops

from demur import load_detector
from demur.detectors import AdversarialAE, ModelDistillation
from demur.errors import (
    CorruptDetector,
    DemurError,
    DetectorNotFound,
    EmptyInput,
    InvalidSetting,
    NoGraph,
    NonFinite,
    NotADetector,
    NotADistribution,
    ShapeMismatch,
    ThresholdNotSet,
    UnknownLayer,
    WrongType,
)

BUILTINS = {WrongType: TypeError, DetectorNotFound: FileNotFoundError}
"""What people already catch; ValueError where nothing is said."""

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
"""12 normal rows of 4 features."""


@contextlib.contextmanager
def refused(error, *words):
    """Expect exactly this error, which is its builtin too, with all of these words in its message."""
    with pytest.raises(DemurError) as caught:
        yield
    assert type(caught.value) is error
    assert isinstance(caught.value, BUILTINS.get(error, ValueError))
    message = str(caught.value)
    assert not [word for word in words if word not in message], message


def net(inputs, outputs, activation=None, name=None):
    return keras.Sequential([layers.Input((inputs,)), layers.Dense(outputs, activation=activation)], name=name)


@functools.cache
def classifier():
    """4 features to 3 classes."""
    hidden = layers.Dense(6, activation="relu", name="hidden")
    return keras.Sequential([layers.Input((4,)), hidden, layers.Dense(3, activation="softmax", name="classes")])


class Subclassed(keras.Model):
    """A model without a graph of layers: one Dense."""

    def __init__(self, outputs=3, activation="softmax"):
        super().__init__()
        self.dense = layers.Dense(outputs, activation=activation)

    def call(self, x):
        return self.dense(x)


def subclassed(*args):
    model = Subclassed(*args)
    model(X[:1])
    return model


def adversarial_ae(**arguments):
    if "encoder_net" not in arguments:
        arguments.setdefault("ae", net(4, 4))
    return AdversarialAE(**{"model": classifier(), **arguments})


def model_distillation(**arguments):
    return ModelDistillation(**{"model": classifier(), "distilled_model": net(4, 3, "softmax"), **arguments})


MAKERS = {"AdversarialAE": adversarial_ae, "ModelDistillation": model_distillation}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@functools.cache
def shared(make):
    """One detector for all errors that must leave it as it is."""
    return make(threshold=1.0)


def state(detector):
    """All that an error must leave alone."""
    models = detector.parts.values()
    flags = [[layer.trainable for layer in model._flatten_layers()] for model in models]
    if keras.backend.backend() == "torch":
        flags.append([parameter.requires_grad for model in models for parameter in model.parameters()])
    weights = [weight.tobytes() for model in models for weight in model.get_weights()]
    return detector.threshold, detector.calibration, detector.history, detector.settings, flags, weights


@contextlib.contextmanager
def unchanged(detector):
    before = state(detector)
    yield
    assert state(detector) == before


def with_values(**values):
    """`X` with a value in the first feature of some rows."""
    changed = X.astype("float64")
    for row, value in values.items():
        changed[int(row[1:]), 0] = value
    return changed


# Data ---------------------------------------------------------------------------------------------------------------

METHODS = ["fit", "infer_threshold", "score", "predict", "correct"]

ARRAYS = {
    "another number of features": (X[:, :3], ShapeMismatch, ["(n, 4)", "(12, 3)"]),
    "another rank": (X.reshape(12, 2, 2), ShapeMismatch, ["(n, 4)", "(12, 2, 2)"]),
    "a single instance": (X[0], ShapeMismatch, ["(n, 4)", "got (4,)", "for a single instance pass X[None]"]),
    "a number": (np.float32(1), ShapeMismatch, ["(n, 4)", "got ()"]),
    "no rows": (X[:0], EmptyInput, ["X has no rows", "at least one"]),
    "a list": (X.tolist(), WrongType, ["an array of shape (n, 4)", "got list", "np.asarray"]),
    "nothing": (None, WrongType, ["an array of shape (n, 4)", "got NoneType"]),
    "objects": (X.astype(object), WrongType, ["real numbers", "got dtype object"]),
    "strings": (X.astype(str), WrongType, ["real numbers", "got dtype <U"]),
    "complex numbers": (X.astype(complex), WrongType, ["real numbers", "got dtype complex128"]),
    "NaN": (with_values(_2=np.nan, _7=np.nan), NonFinite, ["NaN", "2 of 12 rows: 2, 7;"]),
    "infinity": (with_values(_0=np.inf, _11=-np.inf), NonFinite, ["infinity", "2 of 12 rows: 0, 11;"]),
    "beyond float32": (with_values(_5=1e300), NonFinite, ["beyond float32", "1 of 12 rows: 5;"]),
    "NaN in all rows": (X * np.float32(np.nan), NonFinite, ["12 of 12 rows: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...;"]),
}


@pytest.mark.parametrize(("rows", "error", "words"), ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("method", METHODS)
@both
def test_every_method_refuses_what_are_no_rows_of_the_classifier(make, method, rows, error, words):
    detector = shared(make)
    with unchanged(detector), refused(error, *words):
        getattr(detector, method)(rows)


@pytest.mark.parametrize(("rows", "error", "words"), ARRAYS.values(), ids=ARRAYS)
def test_reconstruct_refuses_what_are_no_rows_of_the_classifier(rows, error, words):
    with refused(error, *words):
        shared(adversarial_ae).reconstruct(rows)


@both
def test_validation_data_is_checked_under_its_own_name_before_training(make):
    detector = shared(make)
    for rows, error, words in (
        (X[:, :3], ShapeMismatch, ["validation_data must have shape (n, 4)", "(12, 3)"]),
        (X[0], ShapeMismatch, ["pass validation_data[None]"]),
        (with_values(_3=np.nan), NonFinite, ["validation_data", "1 of 12 rows: 3;"]),
        (X.tolist(), WrongType, ["validation_data must be an array", "got list"]),
    ):
        with unchanged(detector), refused(error, *words):
            detector.fit(X, validation_data=rows)


@both
@pytest.mark.parametrize("method", ["predict", "correct"])
def test_a_decision_without_a_threshold_is_refused_with_what_to_do(make, method):
    detector = make()
    with refused(ThresholdNotSet, type(detector).__name__, "infer_threshold(X)", "detector.threshold"):
        getattr(detector, method)(X)
    assert detector.threshold is None


# Arguments of methods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -1, True, 1.5, "8", None])
@pytest.mark.parametrize("method", METHODS)
@both
def test_a_batch_size_is_a_whole_number_of_at_least_1(make, method, batch_size):
    detector = shared(make)
    with unchanged(detector), refused(InvalidSetting, "batch_size", "whole number of at least 1", repr(batch_size)):
        getattr(detector, method)(X, batch_size=batch_size)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threshold_perc": 101}, ["threshold_perc", "between 0 and 100", "got 101"]),
        ({"threshold_perc": -0.5}, ["threshold_perc", "between 0 and 100", "got -0.5"]),
        ({"threshold_perc": np.nan}, ["threshold_perc", "between 0 and 100", "got nan"]),
        ({"margin": np.nan}, ["margin", "finite number of nats", "got nan"]),
        ({"margin": np.inf}, ["margin", "finite number of nats", "got inf"]),
    ],
    ids=str,
)
@both
def test_a_failed_infer_threshold_leaves_the_threshold(make, arguments, words):
    detector = shared(make)
    with unchanged(detector), refused(InvalidSetting, *words):
        detector.infer_threshold(X, **arguments)
    assert detector.threshold == 1.0


@both
def test_training_rows_of_another_shape_leave_the_threshold(make):
    detector = shared(make)
    with unchanged(detector), refused(ShapeMismatch, "X_train must have shape (n, 4); got (12, 2)"):
        detector.infer_threshold(X, X_train=X[:, :2])
    assert detector.threshold == 1.0


@pytest.mark.parametrize("threshold", [np.nan, np.inf, "1", [1.0]], ids=str)
@both
def test_a_threshold_is_a_finite_number_or_none(make, threshold):
    words = ["threshold is a finite number of nats", "or None", f"got {threshold!r}"]
    with refused(InvalidSetting, *words):
        make(threshold=threshold)
    detector = shared(make)
    with unchanged(detector), refused(InvalidSetting, *words):
        detector.threshold = threshold


FIT_ARGUMENTS = {
    "no epochs": ({"epochs": 0}, InvalidSetting, ["epochs", "at least 1", "got 0"]),
    "half an epoch": ({"epochs": 1.5}, InvalidSetting, ["epochs", "whole number", "got 1.5"]),
    "epochs as a word": ({"epochs": "2"}, InvalidSetting, ["epochs", "whole number", "got '2'"]),
    "unknown loss_fn": ({"loss_fn": "no_such_loss"}, InvalidSetting, ["loss_fn", "its name", "got 'no_such_loss'"]),
    "loss_fn no function": ({"loss_fn": 5}, WrongType, ["loss_fn", "a Keras loss, its name or a function", "got 5"]),
    "log_metric a number": ({"log_metric": 5}, WrongType, ["log_metric", "Keras metrics", "got 5"]),
    "log_metric with a number": ({"log_metric": ["mae", 5]}, WrongType, ["log_metric", "pairs", "got 5"]),
    "log_metric a pair with a number": ({"log_metric": ("error", 5)}, WrongType, ["log_metric", "('error', 5)"]),
    "unknown log_metric": ({"log_metric": "no_such_metric"}, InvalidSetting, ["log_metric", "got 'no_such_metric'"]),
}


@pytest.mark.parametrize(("arguments", "error", "words"), FIT_ARGUMENTS.values(), ids=FIT_ARGUMENTS)
@both
def test_fit_refuses_arguments_that_mean_nothing(make, arguments, error, words):
    detector = shared(make)
    with unchanged(detector), refused(error, *words):
        detector.fit(X, verbose=False, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"w_recon": -1.0}, {"w_recon": np.nan}, {"w_model": -0.5}, {"w_model": np.inf}], ids=str
)
def test_weights_of_the_loss_are_finite_and_not_below_0(arguments):
    detector = shared(adversarial_ae)
    ((name, value),) = arguments.items()
    with unchanged(detector), refused(InvalidSetting, f"{name} is a finite number not below 0; got {value}"):
        detector.fit(X, **arguments)


def test_w_recon_needs_a_loss_fn_of_each_instance():
    detector = adversarial_ae()
    with unchanged(detector), refused(ShapeMismatch, "w_recon", "one value for each instance", "a scalar"):
        detector.fit(X, loss_fn=lambda y, p: ops.mean(y - p), w_recon=1.0, epochs=1, verbose=False)


PREPROCESSING = {
    "another row shape": (lambda x: x[:, :3], ShapeMismatch, ["result of preprocess_fn", "(n, 4)", "(4, 3)"]),
    "fewer rows": (lambda x: x[:2], ShapeMismatch, ["preprocess_fn must keep the number of rows", "2 of 4"]),
    "more rows": (lambda x: np.tile(x, (2, 1)), ShapeMismatch, ["keep the number of rows", "8 of 4"]),
    "no rows": (lambda x: x[:0], EmptyInput, ["result of preprocess_fn", "no rows"]),
    "NaN": (lambda x: x * np.nan, NonFinite, ["result of preprocess_fn", "4 of 4 rows"]),
    "no array": (lambda x: None, WrongType, ["result of preprocess_fn", "an array of shape (n, 4)", "NoneType"]),
}


@pytest.mark.parametrize(("function", "error", "words"), PREPROCESSING.values(), ids=PREPROCESSING)
@both
def test_preprocess_fn_keeps_rows_rows(make, function, error, words):
    detector = make(threshold=1.0)
    with unchanged(detector), refused(error, *words):
        detector.fit(X, preprocess_fn=function, batch_size=4, epochs=1, verbose=False)


def test_a_preprocess_fn_that_fails_late_is_refused_in_the_same_words():
    calls = []

    def late(x):
        calls.append(len(x))
        return x if len(calls) < 8 else x[:, :3]

    detector = adversarial_ae()
    before = detector.score(X)
    with refused(ShapeMismatch, "result of preprocess_fn", "(n, 4)", "(4, 3)"):
        detector.fit(X, preprocess_fn=late, batch_size=4, epochs=10, verbose=False)
    assert detector.history is None
    assert (detector.score(X) != before).any()  # as trained so far


def test_an_error_of_the_users_own_function_comes_through_as_it_is():
    class OwnError(Exception):
        pass

    def fails(*_):
        raise OwnError("my words")

    detector = adversarial_ae()
    for arguments in ({"preprocess_fn": fails}, {"loss_fn": fails}):
        with unchanged(detector), pytest.raises(OwnError, match="my words"):
            detector.fit(X, epochs=1, verbose=False, **arguments)
    detector.fit(X, epochs=1, verbose=False)
    assert detector.history


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0, -1.0, np.nan, np.inf, "1", None], ids=repr)
@both
def test_a_temperature_is_finite_and_above_0(make, temperature):
    with refused(InvalidSetting, "temperature is a finite number above 0", f"got {temperature!r}"):
        make(temperature=temperature)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "1"], ids=repr)
@both
def test_a_seed_is_a_whole_number_not_below_0(make, seed):
    with refused(InvalidSetting, "seed is a whole number of at least 0", f"got {seed!r}"):
        make(seed=seed)


@pytest.mark.parametrize("loss_type", ["mse", None])
def test_a_loss_type_is_kld_or_xent(loss_type):
    with refused(InvalidSetting, "loss_type is one of 'kld', 'xent'", f"got {loss_type!r}"):
        model_distillation(loss_type=loss_type)


HIDDEN = {
    "unknown name": ({"hidden_layer_kld": {"nope": 5}}, UnknownLayer, ["'nope'", "0: hidden, 1: classes"]),
    "unknown index": ({"hidden_layer_kld": {2: 5}}, UnknownLayer, ["no layer 2", "0: hidden, 1: classes"]),
    "unknown negative index": ({"hidden_layer_kld": {-3: 5}}, UnknownLayer, ["no layer -3", "0: hidden"]),
    "a key of another kind": ({"hidden_layer_kld": {0.5: 5}}, WrongType, ["layer index or layer name", "got 0.5"]),
    "dimension 1": ({"hidden_layer_kld": {"hidden": 1}}, InvalidSetting, ["['hidden']", "at least 2", "got 1"]),
    "dimension 2.5": ({"hidden_layer_kld": {0: 2.5}}, InvalidSetting, ["[0]", "at least 2", "got 2.5"]),
    "both ways": (
        {"hidden_layer_kld": {0: 5}, "model_hl": [net(4, 2, "softmax")]},
        InvalidSetting,
        ["hidden_layer_kld and model_hl", "pass one of them"],
    ),
    "too few weights": (
        {"hidden_layer_kld": {0: 5, 1: 5}, "w_model_hl": [1.0]},
        InvalidSetting,
        ["w_model_hl needs one weight for each hidden head, 2; got 1"],
    ),
    "weights without heads": ({"w_model_hl": [1.0]}, InvalidSetting, ["w_model_hl", "head, 0; got 1"]),
    "a negative weight": (
        {"hidden_layer_kld": {0: 5}, "w_model_hl": [-1.0]},
        InvalidSetting,
        ["w_model_hl holds finite weights not below 0", "[-1.0]"],
    ),
    "a weight that is NaN": (
        {"hidden_layer_kld": {0: 5}, "w_model_hl": [np.nan]},
        InvalidSetting,
        ["w_model_hl holds finite weights not below 0", "[nan]"],
    ),
    "model_hl no model": ({"model_hl": [len]}, WrongType, ["model_hl[0] must be a Keras model", "got builtin"]),
    "model_hl of other inputs": (
        {"model_hl": [net(4, 2, "softmax"), net(5, 2, "softmax")]},
        ShapeMismatch,
        ["model_hl[1]", "(n, 4)", "(n, 5)"],
    ),
    "model_hl no distribution": ({"model_hl": [net(4, 2)]}, NotADistribution, ["model_hl[0]", "sum to 1"]),
}


@pytest.mark.parametrize(("arguments", "error", "words"), HIDDEN.values(), ids=HIDDEN)
def test_hidden_heads_are_checked(arguments, error, words):
    with refused(error, *words):
        adversarial_ae(**arguments)


def test_hidden_layers_of_a_subclassed_classifier_are_refused_with_what_to_pass_instead():
    with refused(NoGraph, "functional or sequential classifier", "Subclassed is subclassed", "model_hl="):
        adversarial_ae(model=subclassed(), hidden_layer_kld={0: 5})


# Networks -----------------------------------------------------------------------------------------------------------


def two_outputs():
    x = keras.Input((4,))
    return keras.Model(x, [layers.Dense(3, activation="softmax")(x), layers.Dense(3, activation="softmax")(x)])


class SubclassedTwoOutputs(Subclassed):
    def call(self, x):
        return [self.dense(x), self.dense(x)]


def subclassed_two_outputs():
    model = SubclassedTwoOutputs()
    model(X[:1])
    return model


CLASSIFIERS = {
    "a class": (lambda: keras.Sequential, WrongType, ["classifier must be a Keras model", "got type"]),
    "a layer": (lambda: layers.Dense(3), WrongType, ["classifier must be a Keras model", "got Dense"]),
    "nothing": (lambda: None, WrongType, ["classifier must be a Keras model", "got NoneType"]),
    "linear": (lambda: net(4, 3), NotADistribution, ["classifier", "sum to 1", "sums to 0", "from_logits=True"]),
    "subclassed linear": (lambda: subclassed(3, None), NotADistribution, ["sums to 0", "from_logits=True"]),
    "one linear output": (lambda: net(4, 1, lambda z: z - 3), NotADistribution, ["from 0 to 1", "from_logits=True"]),
    "one softmax": (lambda: net(4, 1, "softmax"), ShapeMismatch, ["softmax over one output", "make it a sigmoid"]),
    "an image of classes": (
        lambda: keras.Sequential([layers.Input((4, 2)), layers.Dense(3, activation="softmax")]),
        ShapeMismatch,
        ["(n, classes)", "got (n, 4, 3)"],
    ),
    "two outputs": (two_outputs, ShapeMismatch, ["must return one array (n, classes)", "it has 2 outputs"]),
    "subclassed two outputs": (subclassed_two_outputs, ShapeMismatch, ["one array (n, classes)", "it has 2 outputs"]),
}


@pytest.mark.parametrize(("model", "error", "words"), CLASSIFIERS.values(), ids=CLASSIFIERS)
@pytest.mark.parametrize("detector", [AdversarialAE, ModelDistillation])
def test_a_classifier_maps_one_array_to_class_probabilities(detector, model, error, words):
    with refused(error, *words):
        detector(model=model())


@pytest.mark.parametrize("detector", [AdversarialAE, ModelDistillation])
def test_sigmoids_at_the_end_of_a_network_are_known_for_several_labels(detector):
    with refused(NotADistribution, "do not sum to 1", "multi-label model", "guard each label on its own"):
        detector(model=net(4, 2, "sigmoid"))


@pytest.mark.parametrize("method", ["fit", "infer_threshold", "score"])
def test_sigmoids_that_do_not_sum_to_1_are_refused_at_the_first_rows_and_each_time(method):
    # On rows of zeros, all that is known when the detector is made, two sigmoids do sum to 1.
    detector = adversarial_ae(model=subclassed(2, "sigmoid"), threshold=1.0)
    for _ in range(2):
        with unchanged(detector), refused(NotADistribution, "classifier must return class probabilities", "sums to"):
            getattr(detector, method)(X)


@both
def test_from_logits_on_a_classifier_that_ends_in_a_softmax_is_refused(make):
    with refused(NotADistribution, "ends in a softmax", "leave from_logits at False"):
        make(from_logits=True)


def test_from_logits_takes_what_is_refused_without_it():
    assert np.isfinite(adversarial_ae(model=net(4, 3), from_logits=True).score(X)).all()


def sharing_weights(outputs, activation=None):
    hidden = classifier().get_layer("hidden")
    return keras.Sequential([layers.Input((4,)), hidden, layers.Dense(outputs, activation=activation)])


COMPANIONS = {
    "autoencoder a function": ({"ae": len}, WrongType, ["autoencoder must be a Keras model", "got builtin"]),
    "autoencoder a layer": ({"ae": layers.Dense(4)}, WrongType, ["autoencoder must be a Keras model", "got Dense"]),
    "autoencoder of another output": ({"ae": net(4, 5)}, ShapeMismatch, ["autoencoder", "(n, 4)", "returns (n, 5)"]),
    "autoencoder of another rank": (
        {"ae": keras.Sequential([layers.Input((4,)), layers.Reshape((2, 2))])},
        ShapeMismatch,
        ["autoencoder must return", "(n, 4)", "returns (n, 2, 2)"],
    ),
    "subclassed autoencoder of another output": (
        {"ae": Subclassed(5, None)},
        ShapeMismatch,
        ["autoencoder", "(n, 4)", "returns (n, 5)"],
    ),
    "autoencoder of another input": ({"ae": net(5, 5)}, ShapeMismatch, ["autoencoder", "(n, 4)", "takes (n, 5)"]),
    "encoder alone": ({"encoder_net": net(4, 2)}, InvalidSetting, ["encoder_net and decoder_net", "pass both"]),
    "decoder alone": ({"ae": None, "decoder_net": net(2, 4)}, InvalidSetting, ["encoder_net and decoder_net", "both"]),
    "both ways": (
        {"ae": net(4, 4), "encoder_net": net(4, 2), "decoder_net": net(2, 4)},
        InvalidSetting,
        ["as ae, or as encoder_net and decoder_net"],
    ),
    "encoder a function": (
        {"encoder_net": len, "decoder_net": net(2, 4)},
        WrongType,
        ["encoder_net must be a Keras model", "got builtin"],
    ),
    "decoder a function": (
        {"encoder_net": net(4, 2), "decoder_net": len},
        WrongType,
        ["decoder_net must be a Keras model", "got builtin"],
    ),
    "encoder of another input": (
        {"encoder_net": net(5, 2), "decoder_net": net(2, 4)},
        ShapeMismatch,
        ["(n, 4)", "takes (n, 5)"],
    ),
    "decoder of another output": (
        {"encoder_net": net(4, 2), "decoder_net": net(2, 5)},
        ShapeMismatch,
        ["(n, 4)", "returns (n, 5)"],
    ),
    "decoder of another code": (
        {"encoder_net": net(4, 2), "decoder_net": net(3, 4)},
        ShapeMismatch,
        ["decoder_net", "(n, 2)", "takes (n, 3)"],
    ),
}


@pytest.mark.parametrize(("arguments", "error", "words"), COMPANIONS.values(), ids=COMPANIONS)
def test_an_autoencoder_returns_the_shape_that_the_classifier_takes(arguments, error, words):
    with refused(error, *words):
        adversarial_ae(**arguments)


STUDENTS = {
    "a function": (lambda: len, WrongType, ["student must be a Keras model", "got builtin"]),
    "more classes": (lambda: net(4, 5, "softmax"), ShapeMismatch, ["student", "classifier's 3 classes", "returns 5"]),
    "subclassed, fewer classes": (lambda: subclassed(2), ShapeMismatch, ["classifier's 3 classes", "returns 2"]),
    "another input": (lambda: net(5, 3, "softmax"), ShapeMismatch, ["student", "inputs, (n, 4)", "takes (n, 5)"]),
    "no distribution": (lambda: net(4, 3), NotADistribution, ["student", "sum to 1"]),
}


@pytest.mark.parametrize(("student", "error", "words"), STUDENTS.values(), ids=STUDENTS)
def test_a_student_takes_and_returns_what_the_classifier_does(student, error, words):
    with refused(error, *words):
        model_distillation(distilled_model=student())


def test_a_companion_that_shares_weights_with_the_classifier_is_refused():
    words = ["shares trainable weights with the classifier", "hidden/kernel", "layers of its own"]
    with refused(InvalidSetting, "autoencoder", *words):
        adversarial_ae(ae=sharing_weights(4))
    with refused(InvalidSetting, "student", *words):
        model_distillation(distilled_model=sharing_weights(3, "softmax"))


@both
def test_nan_in_the_companion_is_found_in_the_scores(make):
    detector = make(threshold=1.0)
    detector.companion.set_weights([np.full_like(weight, np.nan) for weight in detector.companion.get_weights()])
    for ask in (detector.score, detector.infer_threshold, detector.predict, detector.correct):
        with refused(NonFinite, "score of 12 of 12 rows", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ..."):
            ask(X)
        assert detector.threshold == 1.0


@both
def test_rows_whose_score_is_not_finite_are_named(make):
    x = keras.Input((4,))
    # The square root of a negative first feature is NaN.
    rooted = layers.Concatenate()([ops.sqrt(x[:, :1]), x[:, 1:]])
    name, head = ("ae", layers.Dense(4)) if make is adversarial_ae else ("distilled_model", layers.Dense(3, "softmax"))
    detector = make(**{name: keras.Model(x, head(rooted))})
    rows = np.abs(X)
    rows[[3, 8], 0] *= -1
    with refused(NonFinite, "score of 2 of 12 rows is not finite: 3, 8;"):
        detector.score(rows, batch_size=5)
    assert np.isfinite(detector.score(np.abs(X))).all()


# Files --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "detector"
    model_distillation(threshold=0.5).save(path)
    return path


@pytest.fixture
def saved(saved_once, tmp_path):
    """A saved detector of one's own to break."""
    return shutil.copytree(saved_once, tmp_path / "detector")


def edit(path, **changes):
    document = json.loads((path / "detector.json").read_text())
    (path / "detector.json").write_text(json.dumps({**document, **changes}))


def student_file(path):
    return path / json.loads((path / "detector.json").read_text())["files"]["student"]["file"]


def contents(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_path_that_holds_no_detector_is_told_by_what_it_holds(tmp_path):
    with refused(DetectorNotFound, "no detector at", str(tmp_path / "nothing"), "no such folder"):
        load_detector(tmp_path / "nothing")
    with refused(NotADetector, str(tmp_path), "no detector.json", "detector.save(path)"):
        load_detector(tmp_path)
    (tmp_path / "file").write_text("a file")
    with refused(NotADetector, str(tmp_path / "file"), "no detector.json"):
        load_detector(tmp_path / "file")


DOCUMENTS = {
    "no JSON": (b"{not json", ["is not a detector's description"]),
    "no text": (b"\xff\xfe\x00", ["is not a detector's description"]),
    "a list": (b"[]", ["is not a detector's description"]),
    "no format": (b"{}", ["is not a detector's description", "format"]),
    "no files": (b'{"format": 1}', ["is not a detector's description", "files"]),
    "a file without its hash": (
        b'{"format": 1, "files": {"student": {"file": "x.keras"}}}',
        ["is not a detector's description", "sha256"],
    ),
    "a newer format": (b'{"format": 99, "models": []}', ["has format 99", "reads 1", "upgrade demur"]),
}


@pytest.mark.parametrize(("document", "words"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_detector_json_that_cannot_be_read_is_refused(tmp_path, document, words):
    (tmp_path / "detector.json").write_bytes(document)
    with refused(NotADetector, str(tmp_path), *words):
        load_detector(tmp_path)


def test_a_newer_format_is_refused_whatever_else_is_known(saved):
    edit(saved, format=2)
    with refused(NotADetector, "has format 2", "upgrade demur"):
        load_detector(saved)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"detector": "NoSuchDetector"}, "NoSuchDetector"),
        ({"detector": ["ModelDistillation"]}, "got `array` - at `$.detector`"),
        ({"settings": {"no_such_setting": 1}}, "no_such_setting"),
        ({"settings": None}, "got `null` - at `$.settings`"),
    ],
    ids=str,
)
def test_a_detector_that_is_not_known_here_is_refused(saved, changes, word):
    edit(saved, **changes)
    with refused(NotADetector, str(saved), "not describe a", word):
        load_detector(saved)


def parts_of(document):
    """Where the entries of a document are, and of the objects in it."""
    return [(name, *inner) for name, value in document.items() for inner in [(), *_within(value)]]


def _within(value):
    return [(name,) for name in value] if isinstance(value, dict) else []


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [None, "x", -1, [1], {"a": 1}, True], ids=str)
def test_any_entry_may_be_damaged_and_nothing_but_our_errors_is_raised(saved, wrong):
    sound = (saved / "detector.json").read_text()
    told = 0
    for *above, name in parts_of(json.loads(sound)):
        document = json.loads(sound)
        part = document[above[0]] if above else document
        part[name] = wrong
        (saved / "detector.json").write_text(json.dumps(document))
        try:
            load_detector(saved).score(X[:3])
        except DemurError:
            told += 1
    assert told >= 10  # null is fine where an entry may be left out


@pytest.mark.parametrize("missing", ["detector", "settings", "threshold"])
def test_a_description_that_lacks_something_is_refused(saved, missing):
    document = json.loads((saved / "detector.json").read_text())
    del document[missing]
    (saved / "detector.json").write_text(json.dumps(document))
    with refused(NotADetector, str(saved), missing):
        load_detector(saved)


def test_a_missing_model_file_is_named(saved):
    file = student_file(saved)
    file.unlink()
    with refused(CorruptDetector, str(saved), "incomplete", f"{file.name} is missing"):
        load_detector(saved)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_changed_model_file_is_named(saved, damage):
    file = student_file(saved)
    file.write_bytes(damage(file.read_bytes()))
    with refused(CorruptDetector, file.name, "not the file that was saved", "SHA-256"):
        load_detector(saved)


def test_a_model_file_that_is_none_is_named(saved):
    from hashlib import sha256

    file = student_file(saved)
    file.write_bytes(b"no model")
    files = json.loads((saved / "detector.json").read_text())["files"]
    edit(saved, files={**files, "student": {"file": file.name, "sha256": sha256(b"no model").hexdigest()}})
    with refused(CorruptDetector, file.name, "cannot be made into a model"):
        load_detector(saved)


@pytest.mark.parametrize(
    "name", ["notes.txt", "detector.txt", "best.keras", "best-epoch0000012.keras", "best-202601312359.keras"]
)
def test_saving_to_a_folder_of_other_things_touches_none_of_them(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with refused(NotADetector, str(tmp_path), "holds other files and no detector.json", "new or an empty folder"):
        shared(model_distillation).save(tmp_path)
    assert [*tmp_path.iterdir()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("name", ["best-epoch0000012.keras", "best-202601312359.keras", "notes.txt"])
def test_saving_over_a_detector_leaves_what_is_not_its_own(saved, name):
    (saved / name).write_text("precious")
    shared(model_distillation).save(saved)
    assert (saved / name).read_text() == "precious"
    assert load_detector(saved).threshold == 1.0
    students = [path for path in contents(saved) if path.name.startswith("student")]
    assert len(students) == 1  # the old one is gone


def test_saving_to_a_file_leaves_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with refused(NotADetector, str(path), "is a file", "saved to a folder"):
        shared(model_distillation).save(path)
    assert contents(tmp_path) == {path.relative_to(tmp_path): b"precious"}


def test_a_class_that_keras_does_not_know_needs_custom_objects(tmp_path):
    class OwnLayer(layers.Layer):
        def call(self, x):
            return 2 * x

    own = keras.Sequential([layers.Input((4,)), OwnLayer(), layers.Dense(3, activation="softmax")])
    detector = model_distillation(distilled_model=own)
    detector.save(tmp_path / "detector")
    with refused(CorruptDetector, student_file(tmp_path / "detector").name, "OwnLayer", "custom_objects="):
        load_detector(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", custom_objects={"OwnLayer": OwnLayer})
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


def test_a_lambda_layer_is_refused_before_it_is_saved_as_code(tmp_path):
    own = keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: 2 * x), layers.Dense(3, activation="softmax")])
    with refused(InvalidSetting, "in the student holds a Python lambda", "make it a function with a name"):
        model_distillation(distilled_model=own).save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()
