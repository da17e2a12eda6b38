"""From zero to a guarded endpoint, the first half: a classifier of digits, its guard, what it is worth, and one file.

    python examples/endpoint_guard.py [--small]

Writes guard.onnx, and request.json: a digit that an attacker has changed, as the server takes it. Both go to the folder
that the script is run in. The second half is endpoint_client.py.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # before Keras is imported; any will do

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import demur
from demur import AdversarialAE


def main() -> None:
    """Train, guard, evaluate, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="train for a shorter time, as the tests do")
    epochs = (8, 20) if parser.parse_args().small else (20, 30)
    keras.utils.set_random_seed(0)

    digits = load_digits()
    x, y = (digits.images / 16)[..., None].astype("float32"), digits.target  # (1797, 8, 8, 1), from 0 to 1
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out, test = np.split(order, [1000, 1400])

    classifier = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.fit(x[train], y[train], epochs=epochs[0], verbose=0)

    detector = AdversarialAE(model=classifier, data_type="image")
    detector.fit(x[train], w_recon=0.1, epochs=epochs[1], verbose=False)
    detector.infer_threshold(x[held_out], fpr=0.05)

    found = demur.evaluate(
        detector,
        x[test],
        y[test],
        attacks=["FGSM", "PGD"],
        corruptions=["impulse noise", "contrast"],
        baselines=None,
        verbose=False,
    )
    print("test digits                    accuracy  with the guard    flagged")
    for name, row in {"unchanged": found.clean, **{threat.title: threat for threat in found.threats}}.items():
        flagged = row.fpr if row is found.clean else row.flagged_all
        figures = (100 * figure.value for figure in (row.accuracy, row.corrected, flagged))
        print(f"{name:28}" + "".join(f"{figure:9.1f} %    " for figure in figures).rstrip())

    written = detector.export("guard.onnx")
    print(f"\n{written.path}: {written.bytes:,} bytes, at most {written.difference:.0e} from the detector")

    attacked = [one for threat in found.threats if threat.name.startswith("PGD") for one in threat.examples]
    digit = next(one for one in attacked if one.flagged and one.opinion == one.label)
    body = {
        "inputs": [{"name": "x", "shape": [1, 8, 8, 1], "datatype": "FP32", "data": digit.changed.ravel().tolist()}],
        "outputs": [{"name": name} for name in ("no_defense", "corrected", "is_adversarial", "p_value")],
    }
    Path("request.json").write_text(json.dumps(body), encoding="utf-8")
    print(f"request.json: a {digit.label} that the classifier takes for a {digit.after}")


if __name__ == "__main__":
    main()
