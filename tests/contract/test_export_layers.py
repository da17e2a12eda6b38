"""Keras's preprocessing layers, mixed precision and lambdas in a classifier: fitted, scored, saved and exported."""

import keras
import numpy as np
import pytest
from keras import layers

import demur.runtime
from demur import ModelDistillation, load_detector
from demur.errors import InvalidSetting, NotExportable
from demur.export.network import LOOKUPS, check_layers
from tests.scaffold import models
from tests.scaffold.advice import advises

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
TABLE = RNG.normal(5, 3, (24, 3)).astype("float32")
IMAGES = RNG.random((24, 8, 8, 3)).astype("float32")
TOKENS = RNG.integers(0, 6, (24, 4)).astype("int32")


def adapted(layer, X):
    layer.adapt(X)
    return layer


def normalisations():
    """Every way to make a Normalization; what they know is constants, not weights, for TensorFlow's converter."""
    return [
        adapted(layers.Normalization(), TABLE),
        adapted(layers.Normalization(axis=None), TABLE),
        layers.Normalization(mean=0.1, variance=2.0),
        layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0]),
        adapted(layers.Normalization(invert=True), TABLE),
        layers.Rescaling(0.1, offset=-0.5),
    ]


def large_normalisation():
    """With more numbers than TensorFlow takes for a small constant."""
    return [adapted(layers.Normalization(axis=(1, 2, 3)), IMAGES), layers.CenterCrop(6, 6)]


def augmentation():
    """Layers that change nothing at inference; not RandomCrop, whose output then is not of the shape it says."""
    settings = {
        **dict.fromkeys(
            ("RandomFlip", "RandomErasing", "RandomColorJitter", "RandomInvert", "RandAugment", "AugMix"), ()
        ),
        **dict.fromkeys(
            ("RandomBrightness", "RandomContrast", "RandomGaussianBlur", "RandomRotation", "RandomZoom"), (0.1,)
        ),
        **dict.fromkeys(("RandomShear", "RandomTranslation"), (0.1, 0.1)),
    }
    noise = [layers.GaussianNoise(0.1), layers.Dropout(0.2), layers.GaussianDropout(0.2), layers.SpatialDropout2D(0.1)]
    return [*made(settings), *noise]


def drawing_augmentation():
    """Layers that draw numbers at inference, too, and use none of them; JAX's converter cannot write the drawing."""
    names = ("RandomColorDegeneration", "RandomGrayscale", "RandomHue", "RandomSaturation", "RandomSharpness")
    return made({**dict.fromkeys(names, (0.1,)), "RandomPosterization": (3,)})


def made(settings):
    """Layers by name; older Kerases lack some."""
    return [getattr(layers, name)(*given) for name, given in settings.items() if hasattr(layers, name)]


CASES = {
    "normalisations": (TABLE, normalisations),
    "large normalisation": (IMAGES, large_normalisation),
    "augmentation": (IMAGES, augmentation),
    "drawing augmentation": (IMAGES, drawing_augmentation),
    "discretization": (TABLE, lambda: [layers.Discretization(bin_boundaries=[0.0, 2.0, 5.0])]),
    "category": (TOKENS, lambda: [layers.CategoryEncoding(num_tokens=6, output_mode="multi_hot")]),
    "resizing": (IMAGES, lambda: [layers.Resizing(6, 6)]),
    "lookup": (TOKENS, lambda: [layers.IntegerLookup(vocabulary=[0, 1, 2, 3], output_mode="multi_hot")]),
}
REFUSED = {"lookup": "Apply it to the rows first"}
"""What ONNX, or a converter, does not have."""
if BACKEND == "jax":
    REFUSED |= {"resizing": "cannot be written as ONNX", "drawing augmentation": "cannot be written as ONNX"}


def network(X, body, units):
    x = inputs = keras.Input(X.shape[1:], dtype=str(X.dtype))
    for layer in body:
        x = layer(x)
    x = layers.Flatten()(x if "float" in str(x.dtype) else keras.ops.cast(x, "float32"))
    return keras.Model(inputs, layers.Dense(2, activation="softmax", **models.weights(units))(x))


def fitted(X, body, student=()):
    classifier, companion = network(X, body, 1), network(X, student, 2)
    detector = ModelDistillation(model=classifier, distilled_model=companion, threshold=0.3)
    return detector.fit(X, epochs=1, verbose=False)


@pytest.mark.parametrize("name", CASES)
def test_a_preprocessing_layer_is_part_of_the_file_or_named(name, tmp_path):
    if name == "lookup" and BACKEND == "jax":
        pytest.skip("Keras looks words up with TensorFlow, which JAX cannot compile")
    X, body = CASES[name]
    detector = fitted(X, body())
    assert np.isfinite(detector.score(X)).all()
    path = tmp_path / "guard.onnx"
    if name in REFUSED:
        with pytest.raises(NotExportable, match=REFUSED[name]):
            detector.export(path, X=X)
        assert not path.exists()
        return
    assert detector.export(path, X=X).difference <= 1e-5
    np.testing.assert_allclose(demur.runtime.load(path).score(X), detector.score(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookups_are_named_on_every_backend(name):
    known = {"vocabulary": [1, 2]} if name == "IntegerLookup" else {"vocabulary": ["a", "b"]}
    layer = getattr(layers, name)(name="words", **({"num_bins": 3} if name.startswith("Hash") else known))
    with pytest.raises(NotExportable, match=f"'words' is a {name}"):
        check_layers([layer])


@pytest.mark.slow
def test_a_layer_applied_before_needs_no_export(tmp_path):
    lookup = layers.IntegerLookup(vocabulary=[0, 1, 2, 3], output_mode="multi_hot")
    if BACKEND != "jax":  # which cannot compile a network with a lookup
        with advises(NotExportable, "Apply it to the rows first, and pass as model= the classifier without it"):
            fitted(TOKENS, [lookup]).export(tmp_path / "guard.onnx", X=TOKENS)
    X = np.asarray(lookup(TOKENS), "float32")
    fitted(X, []).export(tmp_path / "guard.onnx", X=X)
    model = network(TOKENS, [lookup], 1)
    detector = ModelDistillation(
        model=lambda rows: keras.ops.convert_to_numpy(model(rows)),
        distilled_model=network(TOKENS, [], 2),
        threshold=1.0,
    )
    assert detector.fit(TOKENS, epochs=1, verbose=False).export(tmp_path / "other.onnx", X=TOKENS).takes_reference


class Inverse(layers.Layer):
    """What tf2onnx leaves as TensorFlow calls it, and the other converters refuse by themselves."""

    def call(self, x):
        return keras.ops.erfinv(x)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf2onnx alone leaves what it does not know")
def test_an_operation_that_onnx_lacks_stays_within_a_function(tmp_path):
    model = network(TABLE, [layers.Rescaling(1 / 100), Inverse()], 1)
    student = network(TABLE, [], 2)
    with advises(NotExportable, "Pass a function of rows that asks the classifier as model=") as caught:
        ModelDistillation(model=model, distilled_model=student, threshold=1.0).export(tmp_path / "guard.onnx")
    assert "the networks compute Erfinv, which ONNX" in str(caught.value)
    asking = ModelDistillation(
        model=lambda rows: model.predict(rows, verbose=0), distilled_model=student, threshold=1.0
    ).fit(TABLE, epochs=1, verbose=False)
    assert asking.export(tmp_path / "guard.onnx", X=TABLE).takes_reference


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_networks_of_less_precision_compute_in_float32_in_the_file(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        detector = fitted(TABLE, [layers.Dense(4, activation="relu")])
        written = detector.export(tmp_path / "guard.onnx", X=TABLE)
        assert keras.config.dtype_policy().name == policy
        assert detector.companion.layers[-1].dtype_policy.name == policy
        assert written.difference <= 1e-5
        np.testing.assert_allclose(
            demur.runtime.load(written.path).score(TABLE), detector.score(TABLE), rtol=0.1, atol=0.1
        )
    finally:
        keras.config.set_dtype_policy(before)


# Lambdas --------------------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("demur_tests")
def tenth(x):
    return x / 10


LAMBDAS = {
    "layer": lambda: layers.Lambda(lambda x: x / 10, name="own"),
    "activation": lambda: layers.Dense(3, activation=lambda x: x / 10, name="own"),
    "within": lambda: keras.Sequential([layers.Input((3,)), layers.Lambda(lambda x: x / 10, name="own")]),
}


@pytest.mark.parametrize("where", LAMBDAS)
def test_a_lambda_that_would_not_load_is_told_when_it_is_saved(where, tmp_path):
    detector = fitted(TABLE, [LAMBDAS[where]()])
    with pytest.raises(InvalidSetting, match="'own' in the classifier holds a Python lambda"):
        detector.save(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()


@pytest.mark.slow
def test_what_the_message_about_lambdas_says_works(tmp_path):
    detector = fitted(TABLE, [LAMBDAS["layer"]()])
    with advises(InvalidSetting, "make it a function with a name, decorated with @keras.saving"):
        detector.save(tmp_path / "detector")
    detector.save(tmp_path / "apart", include_classifier=False)
    loaded = load_detector(tmp_path / "apart", model=detector.model)
    np.testing.assert_allclose(loaded.score(TABLE), detector.score(TABLE), rtol=1e-5)
    fixed = layers.Dense(
        3, bias_initializer=keras.initializers.Constant(0.5)
    )  # what a lambda's code looks like, nearly
    named = fitted(TABLE, [layers.Lambda(tenth), fixed], [layers.Lambda(tenth)])
    named.save(tmp_path / "named")
    np.testing.assert_allclose(load_detector(tmp_path / "named").score(TABLE), named.score(TABLE), rtol=1e-5)
    in_companion = fitted(TABLE, [], [LAMBDAS["layer"]()])
    with pytest.raises(InvalidSetting, match=r"in the student .*register_keras_serializable\(\)$"):
        in_companion.save(tmp_path / "companion", include_classifier=False)
