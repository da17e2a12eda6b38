"""The rows and the classifier of the guard that an earlier version saved."""

import numpy as np
import pandas as pd


def frame(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "length": rng.normal(2, 1, n),
            "colour": rng.choice(["brown", "red", "white"], n, p=[0.6, 0.3, 0.1]),
            "count": rng.integers(0, 9, n),
        }
    )


def rule(rows):
    """Probabilities (n, 2) of a table, by a formula: a classifier that no file has to keep."""
    z = 3 * (rows["length"].to_numpy() - 2) + 1.5 * (rows["colour"].to_numpy() == "red")
    p = 1 / (1 + np.exp(-z))
    return np.stack([1 - p, p], axis=1)
