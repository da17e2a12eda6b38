"""What the guard of the quick start is worth beside scores that cost nothing, and how other guards of the digits do.

    KERAS_BACKEND=tensorflow python benchmarks/first_example.py

Runs the quick start's own blocks, from its data to its threshold, and evaluates that guard and three others of the same
classifier. Writes docs/results/first-example.json, from which docs/quickstart.md has its table: of what fooled the
classifier, the share that each score catches at 5 % false alarms, with 95 % intervals. The best of the simple scores
is chosen for each threat after the fact, which favours it. Takes about ten minutes on two idle cores.
"""

import json
import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

import demur
from demur import AdversarialAE, ModelDistillation

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs/results/first-example.json"
ATTACKS = ["FGSM", "PGD", "PGD L2", "SLIDE", "DeepFool", "C&W", "C&W, confident"]
KNOWING = ["PGD on error and score", "selective PGD", "orthogonal PGD", "logit matching"]
FIGURE = "tpr_at_5_fpr"
FEWEST = 20
"""Rows that a threat must have fooled the classifier on: of fewer, shares say little."""


def quick_start() -> dict[str, Any]:
    """What the quick start's blocks leave behind: the data, the classifier, the guard."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks[:2]:
        exec(block, names)
    return names


def others(names: dict[str, Any]) -> dict[str, Any]:
    """Other guards of the same classifier."""
    classifier, robust = names["classifier"], 0.1
    made = {
        "`AdversarialAE`": (AdversarialAE(classifier), {"epochs": 40}),
        "`ModelDistillation`": (ModelDistillation(classifier), {"epochs": 40}),
        f"`ModelDistillation`, a copy, `robust={robust:g}`": (
            ModelDistillation(classifier, distilled_model="copy"),
            {"epochs": 40, "robust": robust},
        ),
    }
    for detector, settings in made.values():
        detector.fit(names["x_train"], verbose=False, **settings).infer_threshold(names["x_held_out"], fpr=0.05)
    return {name: detector for name, (detector, _) in made.items()}


def found(detector: Any, names: dict[str, Any], folder: str, *, attacks: list[Any], corruptions: Any) -> list[Any]:
    """What the guard's score catches of each threat, and the best of the simple ones."""
    evaluation = demur.evaluate(
        detector,
        names["x_new"],
        names["data"].test.y,
        attacks=attacks,
        corruptions=corruptions,
        baselines=["maximum probability", "entropy", "feature squeezing"],
        X_train=names["x_train"],
        out=folder,
    )
    rows = []
    for threat in evaluation.threats:
        scores = {name: both["successful"] for name, both in threat.detection.items()}
        fooled = sum(threat.successful)
        if fooled < FEWEST:
            continue
        own = scores.pop("demur")[FIGURE]
        best = max(scores, key=lambda name: scores[name][FIGURE].value)
        rows.append(
            {
                "threat": threat.title,
                "knowledge": threat.knowledge,
                "rows": threat.rows,
                "fooled": fooled,
                "guard": list(own),
                "simple": best,
                "simple_caught": list(scores[best][FIGURE]),
            }
        )
    return rows


def main() -> int:
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    started = time.monotonic()
    names = quick_start()
    ready = time.monotonic() - started
    attacks = [*ATTACKS, demur.evaluation.attacks.PGD(0.2)]
    with tempfile.TemporaryDirectory() as folder:
        own = found(names["detector"], names, folder, attacks=[*attacks, *KNOWING], corruptions="default")
        guards = {"`ModelDistillation`, `robust=0.1`": own}
        for name, detector in others(names).items():
            guards[name] = found(detector, names, folder, attacks=attacks, corruptions=None)
    clean = names["detector"].correct(names["x_new"])["data"]
    y = names["data"].test.y
    results = {
        "backend": keras.backend.backend(),
        "versions": {"demur": demur.__version__, "keras": keras.__version__},
        "seconds_to_a_guard": round(ready, 1),
        "clean": {
            "rows": len(y),
            "flagged": float(clean["is_adversarial"].mean()),
            "accuracy": float((clean["no_defense"] == y).mean()),
            "corrected": float((clean["corrected"] == y).mean()),
        },
        "guards": guards,
    }
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
