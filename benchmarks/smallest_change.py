"""How small a change do the attacks find that look for the smallest? Carlini-Wagner's against DeepFool.

    KERAS_BACKEND=tensorflow python benchmarks/smallest_change.py DATASET ... [--rows N]

Attacks the kept classifiers of benchmarks/models, on rows that these get right; without a data set, all. Beside
demur's attack runs foolbox's, with one step of 0.05 for all rows. What was found goes to
docs/results/smallest-change.json, a data set at a time.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from guarded import CLASSIFIERS, classifier_of
from measuring import machine

from demur import ModelDistillation, datasets
from demur.evaluation.attacks import CarliniWagner, ConfidentCarliniWagner, DeepFool
from demur.evaluation.attacks.foolbox_attacks import FoolboxAttack
from demur.evaluation.norms import size
from demur.evaluation.target import Target

FILE = Path(__file__).resolve().parent.parent / "docs/results/smallest-change.json"
DATASETS = ("mnist", "fashion_mnist", "cifar10")


class OneStep(FoolboxAttack):
    """Foolbox's Carlini-Wagner attack, with one step for all rows."""

    name, kind, norm, has_budget, passes = "one step for all", "L2CarliniWagnerAttack", "L2", False, 1500
    arguments: ClassVar[dict[str, Any]] = {
        "binary_search_steps": 5,
        "steps": 300,
        "stepsize": 0.05,
        "initial_const": 1.0,
        "confidence": 0,
    }


ATTACKS = {
    "DeepFool": DeepFool(),
    "C&W": CarliniWagner(),
    "C&W, confident": ConfidentCarliniWagner(),
    "C&W of foolbox, a step of 0.05": OneStep(),
}


def measured(name: str, n: int) -> dict[str, Any]:
    """Each attack on the same rows of a data set."""
    data = datasets.load(CLASSIFIERS[name].dataset, seed=0)
    target = Target(ModelDistillation(model=classifier_of(name, data, 0), threshold=0.0))
    chosen = np.random.default_rng(0).permutation(len(data.test.y))[: 2 * n]
    right = target.classifier_outputs(data.test.x[chosen])[0].argmax(axis=1) == data.test.y[chosen]
    rows = chosen[right][:n]
    x, y, found = data.test.x[rows], data.test.y[rows], {}
    for title, attack in ATTACKS.items():
        started = time.monotonic()
        changed = attack.run(target, x, y).x
        seconds = time.monotonic() - started
        fooled = target.classifier_outputs(changed)[0].argmax(axis=1) != y
        found[title] = {
            "fooled": float(fooled.mean()),
            "median_l2": round(float(np.median(size(changed - x, "L2")[fooled])), 5),
            "passes": attack.passes,
            "seconds_a_row": round(seconds / n, 3),
        }
        print(f"{name}, {title}: {found[title]}", flush=True)
    return {"rows": n, "attacks": found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=f"of {', '.join(DATASETS)}; default: all")
    parser.add_argument("--rows", type=int, default=32)
    arguments = parser.parse_args()
    for name in arguments.datasets or DATASETS:
        found = measured(name, arguments.rows)
        document = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {"datasets": {}}
        document["datasets"][name] = found
        document["machine"] = machine()
        FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
