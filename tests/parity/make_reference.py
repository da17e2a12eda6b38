"""Make the reference that every backend is compared with: one small detector of each class, inputs and their scores.

    KERAS_BACKEND=tensorflow python -m tests.parity.make_reference

Run it again only when the format of saved detectors changes; the files are committed.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from demur import AdversarialAE, ModelDistillation

DATA = Path(__file__).parent / "data"


def main() -> int:
    if keras.backend.backend() != "tensorflow":
        print("the reference is made on TensorFlow: set KERAS_BACKEND=tensorflow")
        return 1
    keras.utils.set_random_seed(0)
    images, classes = load_digits(return_X_y=True)
    x = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    classifier = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(name="features"),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    classifier.fit(x[:1000], classes[:1000], epochs=15, verbose=0)
    small = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(12),
            layers.Dense(64),
            layers.Reshape((8, 8, 1)),
        ]
    )
    student = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, activation="softmax")])
    detectors = {
        "adversarial_ae": AdversarialAE(
            model=classifier,
            ae=small,
            hidden_layer_kld={"features": 5},
            w_model_hl=[0.5],
            temperature=0.7,
            score_type="kld",
        ),
        "model_distillation": ModelDistillation(
            model=classifier, distilled_model=student, loss_type="xent", score_type="xent"
        ),
    }
    rng = np.random.default_rng(0)
    inputs = np.concatenate([x[1000:1040], np.clip(x[1040:1060] + rng.normal(0, 0.4, (20, 8, 8, 1)), 0, 1)])
    arrays = {"inputs": inputs.astype("float32")}
    for name, detector in detectors.items():
        detector.fit(x[:1000], epochs=20, verbose=False)
        detector.infer_threshold(x[1000:1400])
        detector.save(DATA / name)
        arrays[f"{name}_score"], arrays[f"{name}_y"], arrays[f"{name}_opinion"] = detector.score(
            arrays["inputs"], return_predictions=True
        )
        arrays[f"{name}_corrected"] = detector.correct(arrays["inputs"])["data"]["corrected"]
    np.savez_compressed(DATA / "reference.npz", **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(main())
