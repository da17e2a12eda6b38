"""What less precision costs a guard: size, AUROC, agreement and speed of float32, float16 and int8. TensorFlow.

    DEMUR_DATA=... KERAS_BACKEND=tensorflow python benchmarks/precision.py [--quick]

Guards of a classifier of guarded.py, trained for a few epochs on 10,000 images; 2,000 held-out
images against test images on which impulse noise of severity 3 makes the classifier wrong. Figures go to
docs/results/precision.json.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from guarded import classifier_of
from measuring import machine

import demur.runtime
from demur import AdversarialAE, ModelDistillation, datasets
from demur.calibration.metrics import split_by_harm
from demur.evaluation.corruptions import corrupt

ROOT = Path(__file__).resolve().parent.parent
CLASSIFIERS = {"Fashion-MNIST, CNN": "fashion_mnist"}
KINDS = {"AdversarialAE": AdversarialAE, "ModelDistillation": ModelDistillation}


def milliseconds(guard: Any, x: Any) -> float:
    """Median milliseconds of a batch."""
    feed = guard.feed(x)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        guard.run(feed)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def measured(name: str, kind: str, quick: bool) -> dict[str, Any]:
    data = datasets.load(name)
    classifier = classifier_of(name, data, 0)
    n = 500 if quick else 10_000
    detector = KINDS[kind](model=classifier)
    detector.fit(data.train.x[:n], epochs=1 if quick else 5, verbose=False)
    detector.infer_threshold(data.held_out.x[:2000], fpr=0.05)
    clean = data.held_out.x[:2000]
    x, y = data.test.x[:3000], data.test.y[:3000]
    bad = corrupt(x, name="impulse noise", severity=3, seed=0)
    before, after = (detector.correct(rows)["data"]["no_defense"] for rows in (x, bad))
    bad = bad[split_by_harm(y, before, after).harmful]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "float16", "int8"):
            options = {} if precision == "float32" else {precision: True, "X_adversarial": bad, "max_loss": 1.0}
            written = detector.export(Path(folder) / f"{precision}.onnx", X=clean, **options)
            guard = demur.runtime.load(written.path)
            found[precision] = {"bytes": written.bytes, "ms of 256 rows": milliseconds(guard, clean[:256])}
            if written.loss is not None:
                loss = written.loss
                found[precision] |= {"auroc": loss.auroc_reduced, "agreement": loss.agreement, "rows": loss.rows}
                found["float32"]["auroc"] = loss.auroc
            print(name, kind, precision, found[precision], flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows, to try the script; writes nothing")
    quick = parser.parse_args().quick
    results = {
        "machine": machine() | {"onnxruntime": onnxruntime.__version__},
        "guards": {title: {kind: measured(name, kind, quick) for kind in KINDS} for title, name in CLASSIFIERS.items()},
    }
    if not quick:
        (ROOT / "docs/results/precision.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
