"""The rows, classifier and monitors of the files that an earlier version wrote: see make_documents.py."""

import numpy as np

from demur.drift import Monitor

MONITORS = {
    "martingale": {"tolerance": 0.01},
    "cusum": {"method": "cusum", "run_length": 5000, "every": 2, "cooldown": 10},
    "window": {"method": "window", "window": 20, "alpha": 0.3},
    "timed": {"method": "window", "window": "30s", "cooldown": "1min", "alpha": 0.3},
}


def rows_and_labels(n, seed):
    """Four numbers a row, and three classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (np.eye(4)[y] * 2 + rng.normal(0, 0.7, (n, 4))).astype("float32"), y


def rule(x):
    """Probabilities (n, 3), by a formula: a classifier that no file has to keep."""
    raised = np.exp(2 * np.asarray(x)[:, :3])
    return raised / raised.sum(axis=1, keepdims=True)


def monitors(guard):
    return {name: Monitor(guard, **settings) for name, settings in MONITORS.items()}


def watched(monitor, x, begin):
    """The monitor, after rows of which one came a second, drifting a little."""
    return monitor.update(x + 0.6, time=begin + np.arange(float(len(x))))
