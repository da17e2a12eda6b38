"""Which library does a docstring come from? A student of characters beside a classifier of words, on real texts.

    KERAS_BACKEND=tensorflow python benchmarks/texts.py

The texts are docstrings of seven installed libraries, their first 600 characters. TF-IDF and logistic regression learn
from 2,500 of them, the student from 2,500 others without labels; 2,000 calibrate, the rest test. Then typing errors of
three kinds and truncation spoil the test texts; AUROC tells texts as they were from spoilt ones that the classifier
gets wrong. Writes docs/results/texts.json.
"""

import ast
import json
import sys
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from demur import ModelDistillation

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ["django", "pandas", "scipy", "sklearn", "matplotlib", "sympy", "networkx"]
MOST, SHORTEST, LENGTH = 1400, 200, 600
LETTERS = "abcdefghijklmnopqrstuvwxyz"
Spoil = Callable[[str, float, np.random.Generator], str]


def docstrings(library: str) -> list[str]:
    """Every docstring of a library that is long enough, once."""
    found = set()
    for file in sorted((Path(sysconfig.get_paths()["purelib"]) / library).rglob("*.py")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        kinds = ast.FunctionDef, ast.ClassDef, ast.Module
        found |= {ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)}
    return sorted(text[:LENGTH] for text in found if len(text) > SHORTEST)


def data() -> tuple[np.ndarray, np.ndarray]:
    """Texts in an order of none, and which library each comes from."""
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for label, library in enumerate(LIBRARIES):
        found = docstrings(library)
        chosen = rng.permutation(len(found))[:MOST]
        texts += [found[i] for i in chosen]
        labels += [label] * len(chosen)
    order = rng.permutation(len(texts))
    return np.array(texts, object)[order], np.array(labels)[order]


def swapped(text: str, share: float, rng: np.random.Generator) -> str:
    """Letters exchanged with the next one."""
    letters = list(text)
    for i in np.flatnonzero(rng.random(len(letters) - 1) < share):
        letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def replaced(text: str, share: float, rng: np.random.Generator) -> str:
    """Letters that became others."""
    letters = list(text)
    for i in np.flatnonzero(rng.random(len(letters)) < share):
        letters[i] = LETTERS[rng.integers(26)]
    return "".join(letters)


def deleted(text: str, share: float, rng: np.random.Generator) -> str:
    """Characters that are gone."""
    return "".join(letter for letter, gone in zip(text, rng.random(len(text)) < share, strict=True) if not gone)


def truncated(text: str, share: float, rng: np.random.Generator) -> str:  # noqa: ARG001 - nothing is drawn
    """The beginning."""
    return text[: max(1, int(len(text) * (1 - share)))]


SPOILT: dict[str, tuple[Spoil, float]] = {
    "as they were": (truncated, 0.0),
    "one letter in 10 swapped": (swapped, 0.1),
    "one letter in 5 swapped": (swapped, 0.2),
    "one character in 10 replaced": (replaced, 0.1),
    "one character in 10 deleted": (deleted, 0.1),
    "cut to a tenth": (truncated, 0.9),
}


def main() -> int:
    texts, y = data()
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500)).fit(texts[:2500], y[:2500])
    detector = ModelDistillation(model=classifier).fit(texts[2500:5000], epochs=8, batch_size=64, verbose=False)
    detector.infer_threshold(texts[5000:7000], fpr=0.05)
    test, labels = texts[7000:], y[7000:]
    usual = detector.score(test)
    found = {}
    for name, (spoil, share) in SPOILT.items():
        rng = np.random.default_rng(1)
        answer = detector.correct(np.array([spoil(text, share, rng) for text in test], object))["data"]
        wrong = answer["no_defense"] != labels
        both = np.r_[usual, answer["instance_score"][wrong]]
        found[name] = {
            "texts": len(test),
            "accuracy": float(1 - wrong.mean()),
            "opinion": float((answer["defense"] == labels).mean()),
            "agreement": float((answer["defense"] == answer["no_defense"]).mean()),
            "corrected": float((answer["corrected"] == labels).mean()),
            "flagged": float(answer["is_adversarial"].mean()),
            "auroc_harmful": float(roc_auc_score(np.arange(len(both)) >= len(usual), both)),
        }
        print(name, found[name], flush=True)
    (ROOT / "docs/results/texts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
