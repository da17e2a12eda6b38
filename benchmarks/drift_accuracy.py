"""How well is accuracy estimated without labels? Every way to do it, on corruptions that it has not seen.

    KERAS_BACKEND=tensorflow python benchmarks/drift_accuracy.py DATASET [--detector FOLDER --name NAME] [--keep FOLDER]

Each of the 19 corruptions is left out in turn: what is learned from the others and from clean labelled images estimates
the classifier's accuracy on the one left out, at five severities. Writes docs/results/drift-accuracy-DATASET-NAME.json.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from corrupted import Grid, Said, arguments, grid, write
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demur.calibration.harm import Learned, Limits, features, interval, learned, limits_of, size_of

Array = Any
Estimate = Callable[[Said], float]
Batches = dict[tuple[str, int], Said]
Way = Callable[[Said, Batches], Estimate]
"""`clean rows, batches of corrupted ones -> (rows -> accuracy)`."""


def thresholded(of: Callable[[Said], Array]) -> Way:
    """The share of rows beyond a limit that as many clean rows are beyond as are right (Garg et al., 2022)."""

    def learn(clean: Said, _: Batches) -> Estimate:
        limit = np.quantile(of(clean), clean.right.mean())
        return lambda rows: float(np.mean(of(rows) <= limit))

    return learn


def isotonic(of: Callable[[Said], Array], *, corrupted: bool) -> Way:
    """The mean of the chance to be right at each row's value, learned from rows with labels."""

    def learn(clean: Said, batches: Batches) -> Estimate:
        known = together([clean, *batches.values()]) if corrupted else clean
        curve = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(of(known), known.right)
        return lambda rows: float(curve.predict(of(rows)).mean())

    return learn


def average_confidence(_: Said, __: Batches) -> Estimate:
    return lambda rows: float(rows.confidence.mean())


def difference_of_confidences(clean: Said, _: Batches) -> Estimate:
    """Guillory et al., 2021, arXiv:2107.03315."""
    excess = clean.confidence.mean() - clean.right.mean()
    return lambda rows: float(rows.confidence.mean() - excess)


def logistic(clean: Said, batches: Batches) -> Estimate:
    """Of the logarithm of the score, the log-odds of the confidence, and the entropy."""
    every = together([clean, *batches.values()])

    def features(rows: Said) -> Array:
        p = np.clip(rows.confidence, 1e-7, 1 - 1e-7)
        return np.stack([np.log(rows.score + 1e-6), np.log(p / (1 - p)), rows.entropy], axis=1)

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features(every), every.right)
    return lambda rows: float(model.predict_proba(features(rows))[:, 1].mean())


class Clean(NamedTuple):
    """What clean rows set: the limits, and the features that changes are counted from."""

    limits: Limits
    origin: Array
    accuracy: float

    @classmethod
    def of(cls, rows: Said) -> "Clean":
        """Learned from rows."""
        limits = limits_of(rows.score, rows.probabilities, int((~rows.right).sum()))
        origin = features(rows.score, rows.probabilities, limits).mean(axis=0)
        return cls(limits, origin, float(rows.right.mean()))

    def change(self, rows: Said) -> Array:
        """How far the features of rows are from the origin."""
        return features(rows.score, rows.probabilities, self.limits).mean(axis=0) - self.origin


def changes(clean: Said, batches: Batches) -> tuple[Clean, Learned]:
    """What clean rows set, and what corrupted copies of their first rows teach.

    The copies are compared with the same rows before, as `calibrate_accuracy` does.
    """
    n = len(next(iter(batches.values())).right)
    found, same = Clean.of(clean), Said(*(array[:n] for array in clean))
    of = np.array([found.change(rows) for rows in batches.values()]) - found.change(same)
    falls = np.array([rows.right.mean() - same.right.mean() for rows in batches.values()])
    return found, learned(of, falls, np.array([name for name, _ in batches]), n)


def from_changes(clean: Said, batches: Batches) -> Estimate:
    """What `demur.drift.estimate_accuracy` does."""
    found, of = changes(clean, batches)
    return lambda rows: float(np.clip(found.accuracy + of.weights @ found.change(rows), 0, 1))


def with_a_constant(clean: Said, batches: Batches) -> Estimate:
    """Of the two shares beyond limits alone, and not bound to the accuracy on clean rows."""
    found, every = Clean.of(clean), [clean, *batches.values()]
    of = np.array([[1.0, *(found.change(rows) + found.origin)[:2]] for rows in every])
    prior = np.array([0.0, 0.5, 0.5])
    missed = np.array([rows.right.mean() for rows in every]) - of @ prior
    weights = prior + np.linalg.solve(of.T @ of + np.diag([1e-6, 0.05, 0.05]), of.T @ missed)
    return lambda rows: float(np.clip(weights @ [1.0, *(found.change(rows) + found.origin)[:2]], 0, 1))


def score(rows: Said) -> Array:
    return rows.score


def doubt(rows: Said) -> Array:
    return -rows.confidence


WAYS: dict[str, Way] = {
    "changes of score, entropy and confidence, with corruptions (demur)": from_changes,
    "score and entropy beyond limits, with corruptions": with_a_constant,
    "score beyond a limit": thresholded(score),
    "score, isotonic, with corruptions": isotonic(score, corrupted=True),
    "score and confidence, logistic, with corruptions": logistic,
    "confidence beyond a limit (ATC)": thresholded(doubt),
    "entropy beyond a limit (ATC)": thresholded(lambda rows: rows.entropy),
    "calibrated confidence (CBPE)": isotonic(doubt, corrupted=False),
    "confidence, isotonic, with corruptions": isotonic(doubt, corrupted=True),
    "difference of confidences": difference_of_confidences,
    "average confidence": average_confidence,
}


def together(parts: list[Said]) -> Said:
    return Said(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def errors(found: Grid) -> dict[str, list[float]]:
    """What each way is off by on each corruption and severity."""
    off: dict[str, list[float]] = {way: [] for way in WAYS}
    for left_out in dict.fromkeys(name for name, _ in found.tested_on):
        others = {key: said for key, said in found.learned_from.items() if key[0] != left_out}
        estimates = {title: way(found.held_out, others) for title, way in WAYS.items()}
        for (name, _), rows in found.tested_on.items():
            if name == left_out:
                for title, estimate in estimates.items():
                    off[title].append(estimate(rows) - float(rows.right.mean()))
    return off


def intervals(found: Grid) -> dict[str, float]:
    """How often the interval around demur's estimate holds the accuracy, on corruptions left out, and its width."""
    holds, widths, clean_widths = [], [], []
    for left_out in dict.fromkeys(name for name, _ in found.tested_on):
        others = {key: said for key, said in found.learned_from.items() if key[0] != left_out}
        clean, (weights, spread) = changes(found.held_out, others)
        n = len(next(iter(others.values())).right)
        one_row = features(found.held_out.score, found.held_out.probabilities, clean.limits) @ weights

        def around(
            rows: Said, clean: Clean = clean, weights: Array = weights, spread: float = spread, one_row: Array = one_row
        ) -> tuple[float, float]:
            change = clean.change(rows)
            drift = spread * size_of(change)
            return interval(clean.accuracy + weights @ change, drift, one_row.std(), len(rows.right), len(one_row))

        for (name, _), rows in found.tested_on.items():
            if name == left_out:
                low, high = around(rows)
                holds.append(low <= rows.right.mean() <= high)
                widths.append(high - low)
        low, high = around(Said(*(array[:n] for array in found.test)))
        clean_widths.append(high - low)
    return {
        "interval_holds": float(np.mean(holds)),
        "interval_width": float(np.mean(widths)),
        "interval_width_clean": float(np.mean(clean_widths)),
    }


def main() -> int:
    asked = arguments(__doc__)
    found = grid(asked)
    accuracies = [float(rows.right.mean()) for rows in found.tested_on.values()]
    document = {
        "clean_accuracy": float(found.test.right.mean()),
        "corrupted_accuracy": {"least": min(accuracies), "most": max(accuracies)},
        **intervals(found),
        "ways": {
            title: {
                "mean_absolute_error": float(np.mean(np.abs(off))),
                "bias": float(np.mean(off)),
                "ninth_decile": float(np.quantile(np.abs(off), 0.9)),
            }
            for title, off in errors(found).items()
        },
    }
    write("accuracy", asked, document)
    for title, row in document["ways"].items():
        print(f"{title:<66} {row['mean_absolute_error']:.3f}  {row['bias']:+.3f}  {row['ninth_decile']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
