"""A classifier of which there is nothing but an ONNX file, watched by ModelDistillation, saved and loaded again.

    python examples/onnx_file.py [--small] [--out FILE]

A scikit-learn pipeline learns the digits that come with scikit-learn and is exported; from then on only its file is
used. The detector is fitted on the file's answers, saved to a folder, and loaded from it with the file beside it, as
another process would. `export` is all that has to change for a model from elsewhere.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # of the student; any will do

import keras
import numpy as np
from skl2onnx import to_onnx
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from demur import ModelDistillation, datasets, load_detector
from demur.calibration.metrics import auroc, flagged_rate, split_by_harm
from demur.evaluation.corruptions import corrupt

COLUMNS = {
    "accuracy": "accuracy",
    "corrected": "corrected",
    "harmed": "harmed",
    "caught": "caught",
    "false_alarms": "false alarms",
    "auroc": "AUROC",
    "auroc_harmless": "from harmless",
}


def export(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Train a classifier and write it to an ONNX file."""
    model = make_pipeline(PCA(32, random_state=0), MLPClassifier(64, max_iter=500, random_state=0)).fit(x, y)
    options = {id(model): {"zipmap": False}}
    path.write_bytes(to_onnx(model, x[:1], options=options).SerializeToString())


def measured(
    detector: ModelDistillation, X: np.ndarray, y: np.ndarray, changed: dict[str, np.ndarray]
) -> dict[str, Any]:
    """What a detector with a threshold makes of unchanged test rows, and of the same rows, changed."""
    before = detector.correct(X)["data"]
    clean = before["instance_score"]
    rows = {"unchanged": accuracies(before, y) | {"false_alarms": flagged_rate(clean, detector.threshold)}}
    for title, changed_rows in changed.items():
        after = detector.correct(changed_rows)["data"]
        split = split_by_harm(y, before["no_defense"], after["no_defense"])
        harmful, harmless = (after["instance_score"][part] for part in split)
        rows[title] = accuracies(after, y) | {"harmed": len(harmful)}
        if not len(harmful):
            continue
        rows[title] |= {
            "caught": flagged_rate(harmful, detector.threshold),
            "false_alarms": flagged_rate(harmless, detector.threshold),
            "auroc": auroc(clean, harmful),
            "auroc_harmless": auroc(harmless, harmful),
        }
    return rows


def accuracies(answer: Any, y: np.ndarray) -> dict[str, float]:
    """Of the classifier, and of a user of `correct`."""
    return {
        key: float(np.mean(answer[name] == y)) for key, name in zip(COLUMNS, ("no_defense", "corrected"), strict=False)
    }


def main() -> None:
    """Export, watch, save, load, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="train for a shorter time, as the tests do")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures to this JSON file")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = datasets.load("digits")
    x_train, x_held_out, x_test = (part.x.reshape(-1, 64) for part in (data.train, data.held_out, data.test))
    with tempfile.TemporaryDirectory() as folder:
        file, guard = Path(folder) / "digits.onnx", Path(folder) / "guard"
        export(file, x_train, data.train.y)

        # A student that sees images, where the file takes rows of 64 numbers.
        student = keras.Sequential(
            [
                keras.layers.Input((64,)),
                keras.layers.Reshape((8, 8, 1)),
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.Conv2D(32, 3, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        detector = ModelDistillation(model=str(file), distilled_model=student)
        detector.fit(x_train, epochs=20 if arguments.small else 60, verbose=2)
        detector.infer_threshold(x_held_out, fpr=0.05)
        detector.save(guard)
        loaded = load_detector(guard, model=str(file))
        difference = float(np.abs(loaded.score(x_test) - detector.score(x_test)).max())
        print(f"\n{file.name}: {file.stat().st_size:,} bytes; loaded, scores differ by at most {difference:g}")

        changed = {
            f"{name}, severity {severity}": corrupt(data.test.x, name=name, severity=severity).reshape(-1, 64)
            for name in ("gaussian noise", "impulse noise", "gaussian blur", "contrast")
            for severity in (1, 3)
        }
        rows = measured(loaded, x_test, data.test.y, changed)
    for title, row in rows.items():
        print(f"{title:27}", *(f"{COLUMNS[key]} {value:.3g}" for key, value in row.items()), sep="  ")
    if arguments.out is not None:
        results = {
            "fpr": 0.05,
            "backend": keras.backend.backend(),
            "rows": {"train": len(x_train), "held out": len(x_held_out), "test": len(x_test)},
            "difference_after_loading": difference,
            "detectors": {"ModelDistillation": {"threshold": float(loaded.threshold), "rows": rows}},
            "columns": COLUMNS,
        }
        arguments.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
