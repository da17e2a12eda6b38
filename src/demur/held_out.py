"""Are calibration rows held out from what the classifier was trained on? What gives them away. NumPy only."""

import math
import warnings
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.data import Rows, flat, is_table, row_count

SHARE = 0.05
"""Of the calibration rows: from this share on, rows that are among the training rows too are told."""
LEVEL = 0.05
"""Of both tests on the numbers of errors."""
FEW_ERRORS, NEW_ERRORS = 0.02, 0.01
"""A classifier that errs on at most the first share of its training rows is expected to err on the second of new rows,
or on twice as many as of its training rows."""

CONSEQUENCE = (
    "A classifier answers otherwise on rows that it was trained on than on new rows: the false-positive rate of a "
    "threshold from such rows does not hold, and accuracies on such rows are too high"
)
Flags = npt.NDArray[np.bool_]


def warn_if_trained_on(
    rows: Rows, trained_on: Rows, wrong: Flags | None = None, wrong_trained: Flags | None = None
) -> None:
    """Warn if rows that should be held out look as if the classifier was trained on them.

    Args:
        rows: arrays or a table.
        trained_on: rows that the classifier was trained on, of the same layout.
        wrong: `(n,)`, whether the classifier is wrong on them; None if that is not known.
        wrong_trained: the same of the other rows, or of some of them.
    """
    shared, n = shared_rows(rows, trained_on), row_count(rows)
    if shared:
        warnings.warn(
            f"{shared:,} of the {n:,} rows are among the rows of X_train. {CONSEQUENCE}: pass rows "
            "that are not in X_train",
            stacklevel=4,
        )
    elif wrong is not None and wrong_trained is not None and is_like_training(wrong, wrong_trained):
        warnings.warn(
            f"the classifier is right on {1 - wrong_trained.mean():.1%} of X_train and on {1 - wrong.mean():.1%} of "
            f"the {n:,} other rows, as if it had been trained on both. {CONSEQUENCE}: pass rows that the "
            "classifier was not trained on; if it was not trained on these, nothing is wrong",
            stacklevel=4,
        )


def shared_rows(rows: Rows, trained_on: Rows) -> int:
    """How many rows are among the training rows; 0 where equal rows are as common among the training rows themselves.

    A row drawn like the training rows equals one of them as often as a training row equals another one: that happens
    in tables of few categories, and says nothing.
    """
    known = Counter(_keys(trained_on))
    shared = sum(key in known for key in _keys(rows))
    twins = sum(count for count in known.values() if count > 1) / row_count(trained_on)
    return shared if shared > (twins + SHARE) * row_count(rows) else 0


def is_like_training(wrong: Flags, wrong_trained: Flags) -> bool:
    """Whether the classifier errs so seldom on both that calibration rows are as if it had been trained on them.

    True where it hardly errs on the training rows, does not err significantly more often on the others, and errs
    significantly less often on the others than is to be expected of new rows. Where a classifier errs on more of its
    training rows, equal accuracies may be those of one that does not overfit, and nothing can be told.
    """
    errors, errors_trained = int(wrong.sum()), int(wrong_trained.sum())
    share = errors_trained / len(wrong_trained)
    if share > FEW_ERRORS:
        return False
    # Given how many errors there are in all, which rows they fall on is up to the numbers of rows, if all are alike.
    part = len(wrong) / (len(wrong) + len(wrong_trained))
    is_worse = 1 - binomial_cdf(errors - 1, errors + errors_trained, part) <= LEVEL
    return not is_worse and binomial_cdf(errors, len(wrong), max(NEW_ERRORS, 2 * share)) <= LEVEL


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The chance of at most k of n, at a chance p of each, above 0 and below 1."""
    i = np.arange(k + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    choices = log_factorials[n] - log_factorials[i] - log_factorials[n - i]
    return float(np.exp(choices + i * math.log(p) + (n - i) * math.log1p(-p)).sum())


def _keys(rows: Rows) -> list[Any]:
    """Of each row, something that is equal for equal rows."""
    if is_table(rows):
        columns = [np.asarray(rows[name]).tolist() for name in rows.columns]
        return [repr(row) for row in zip(*columns, strict=True)]  # NaN is not equal to itself, and its name is
    arrays = [np.ascontiguousarray(array) for array in flat(rows)]
    return [tuple(array[i].tobytes() for array in arrays) for i in range(row_count(rows))]
