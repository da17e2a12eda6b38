"""Models written with `tf.keras` are taken as they are."""

import functools

import keras
import numpy as np
import pytest

from demur import load_detector
from demur.detectors import AdversarialAE, ModelDistillation
from demur.testing.shared import divergences

pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.keras is Keras on TensorFlow alone"),
    pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated. Use `shape` instead.:UserWarning"),
]


@functools.cache
def classifier():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(8, 8, 1)),
            tf.keras.layers.Conv2D(4, 3, activation=tf.nn.relu, name="convolution"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(16, activation=tf.nn.relu, name="hidden"),
            tf.keras.layers.Dense(10, activation=tf.nn.softmax),
        ]
    )


def encoder_and_decoder():
    import tensorflow as tf

    encoder = tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(8, 8, 1)),
            tf.keras.layers.Conv2D(4, 4, strides=2, padding="same", activation=tf.nn.relu),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(12),
        ]
    )
    decoder = tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(12,)),
            tf.keras.layers.Dense(64, activation=tf.nn.relu),
            tf.keras.layers.Reshape(target_shape=(4, 4, 4)),
            tf.keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation=None),
        ]
    )
    return {"encoder_net": encoder, "decoder_net": decoder}


def student():
    import tensorflow as tf

    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(8, 8, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10, activation=tf.nn.softmax),
        ]
    )


MAKERS = {
    "AdversarialAE": lambda: AdversarialAE(model=classifier(), **encoder_and_decoder()),
    "AdversarialAE with hidden layers": lambda: AdversarialAE(
        model=classifier(), **encoder_and_decoder(), hidden_layer_kld={"convolution": 5, 2: 4, -1: 3}
    ),
    "ModelDistillation": lambda: ModelDistillation(model=classifier(), distilled_model=student()),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_tf_keras_models_are_fitted_scored_saved_and_loaded_as_they_are(make, images, tmp_path):
    detector = make()
    assert detector.input_shape == (8, 8, 1)
    assert detector.classifier.is_logits
    before = divergences(detector, images)
    detector.fit(images, epochs=2, batch_size=16, verbose=False).infer_threshold(images, threshold_perc=75)
    score = detector.score(images)
    assert divergences(detector, images).mean() < before.mean()

    data = detector.correct(images)["data"]
    np.testing.assert_array_equal(data["is_adversarial"], score > detector.threshold)
    assert data["is_adversarial"].sum() == 12
    np.testing.assert_array_equal(data["no_defense"], np.asarray(classifier()(images)).argmax(axis=1))
    np.testing.assert_array_equal(
        data["corrected"], np.where(data["is_adversarial"], data["defense"], data["no_defense"])
    )

    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector")
    assert loaded.threshold == detector.threshold
    np.testing.assert_allclose(loaded.score(images), score, rtol=1e-5, atol=1e-6)


def test_hidden_layers_of_a_tf_keras_model_change_the_score(images):
    networks = encoder_and_decoder()
    plain = AdversarialAE(model=classifier(), **networks).score(images)
    heads = AdversarialAE(model=classifier(), **networks, hidden_layer_kld={"hidden": 5}).score(images)
    assert (heads > plain).all()
    unweighted = AdversarialAE(model=classifier(), **networks, hidden_layer_kld={"hidden": 5}, w_model_hl=[0.0])
    np.testing.assert_allclose(unweighted.score(images), plain, rtol=1e-5, atol=1e-6)
