"""The false-positive rate that `infer_threshold(X, fpr=...)` promises holds: 200 random splits of real scores."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_breast_cancer

from demur import AdversarialAE, ModelDistillation

SPLITS = 200
RATES = (0.01, 0.05, 0.1)

# The rows stand for scores: their first column is a number of a row, unlike the rows of fit.
pytestmark = pytest.mark.filterwarnings("ignore::demur.errors.WrongRows")


@functools.cache
def scored(name):
    """A detector of tumours on real data, and its held-out rows with their scores and predicted classes."""
    X, y = load_breast_cancer(return_X_y=True)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype("float32")
    order = np.random.default_rng(0).permutation(len(X))
    learn, held_out = order[:100], order[100:]
    keras.utils.set_random_seed(0)
    classifier = keras.Sequential([layers.Input((30,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax")])
    classifier.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    classifier.fit(X[learn], y[learn], epochs=30, verbose=0)
    make = {"AdversarialAE": AdversarialAE, "ModelDistillation": ModelDistillation}[name]
    detector = make(model=classifier).fit(X[learn], epochs=20, verbose=False)
    score, reference, _ = detector.score(X[held_out], return_predictions=True)
    return detector, score, reference.argmax(axis=-1)


class Replay:
    """Answers for a detector's graph with scores computed before, so that 200 calibrations take no forward pass."""

    def __init__(self, score, predicted):
        self.score, self.reference = score, np.eye(2, dtype="float32")[predicted]

    def __call__(self, rows, batch_size):
        index = rows.raw[:, 0].astype(int)
        return lambda: [self.score[index], self.reference[index], self.reference[index]]


def rates_of_splits(name, fpr, groups, monkeypatch):
    detector, score, predicted = scored(name)
    monkeypatch.setattr(detector, "scoring", Replay(score, predicted))
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(SPLITS):
        order = rng.permutation(len(score))
        rows = np.zeros((len(score), 30), "float32")
        rows[:, 0] = order
        calibrating, testing = np.split(rows, [int(0.75 * len(rows))])
        detector.infer_threshold(calibrating, fpr=fpr, groups=groups)
        flagged = detector.predict(testing)["data"]["is_adversarial"]
        classes = predicted[testing[:, 0].astype(int)]
        rates.append([flagged.mean()] if groups is None else [flagged[classes == k].mean() for k in (0, 1)])
    return np.array(rates)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AdversarialAE", "ModelDistillation"])
@pytest.mark.parametrize("fpr", RATES)
@pytest.mark.parametrize("groups", [None, "predicted"])
def test_the_rate_holds_and_is_not_much_below_what_was_asked(name, fpr, groups, monkeypatch):
    rates = rates_of_splits(name, fpr, groups, monkeypatch)
    mean, error = rates.mean(axis=0), rates.std(axis=0, ddof=1) / np.sqrt(SPLITS)
    _, _, predicted = scored(name)
    # Of n calibration scores, floor((n + 1) fpr) lie above the threshold, and so does that share of exchangeable ones.
    n = 0.75 * (np.array([len(predicted)]) if groups is None else np.bincount(predicted))
    assert (mean <= fpr + 2 * error).all(), f"{mean} is above {fpr}"
    assert (mean >= fpr - 1 / n - 3 * error).all(), f"{mean} is far below {fpr}"


def test_ties_only_lower_the_rate(monkeypatch):
    """Scores rounded so that most are tied: the rate still holds."""
    detector, score, predicted = scored("AdversarialAE")
    rounded = np.ceil(score / np.quantile(score, 0.8)).astype("float32")
    assert np.unique(rounded).size < 40
    monkeypatch.setattr(detector, "scoring", Replay(rounded, predicted))
    rng, rates = np.random.default_rng(2), []
    for _ in range(SPLITS):
        rows = np.zeros((len(score), 30), "float32")
        rows[:, 0] = rng.permutation(len(score))
        calibrating, testing = np.split(rows, 2) if len(rows) % 2 == 0 else np.split(rows[:-1], 2)
        detector.infer_threshold(calibrating, fpr=0.1)
        rates.append(detector.predict(testing)["data"]["is_adversarial"].mean())
    assert np.mean(rates) <= 0.1 + 2 * np.std(rates) / np.sqrt(SPLITS)


def test_false_discoveries_stay_below_the_level(monkeypatch):
    """Benjamini-Hochberg on a batch of normal rows with as many shifted ones keeps its false-discovery rate."""
    detector, score, predicted = scored("ModelDistillation")
    # The second half of the rows are the first half's, with higher scores.
    every = np.concatenate([score, score + 3 * score.max()])
    monkeypatch.setattr(detector, "scoring", Replay(every, np.concatenate([predicted, predicted])))
    rng, level, shares, found = np.random.default_rng(3), 0.2, [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(score))
        rows = np.zeros((len(order) + 50, 30), "float32")
        rows[:, 0] = np.concatenate([order, order[:50] + len(score)])
        calibrating, testing = np.split(rows, [300])
        detector.infer_threshold(calibrating)
        flagged = detector.predict(testing, control="fdr", level=level)["data"]["is_adversarial"]
        is_bad = testing[:, 0] >= len(score)
        shares.append((flagged & ~is_bad).sum() / max(1, flagged.sum()))
        found.append(flagged[is_bad].mean())
    assert np.mean(shares) <= level + 2 * np.std(shares) / np.sqrt(SPLITS)
    assert np.mean(found) > 0.9
