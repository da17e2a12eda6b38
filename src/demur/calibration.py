"""Thresholds from scores. NumPy only."""

import numpy as np
import numpy.typing as npt

from demur.errors import EmptyInput, InvalidSetting, NonFinite


def percentile_threshold(scores: npt.NDArray[np.floating], threshold_perc: float, margin: float = 0.0) -> float:
    """The `threshold_perc` percentile (linear interpolation) of the scores, plus a margin.

    Args:
        scores: `(n,)`, the scores of normal instances, in nats.
        threshold_perc: percentage, from 0 to 100, of `scores` that shall lie at or below the threshold.
        margin: added to the percentile, in nats; a positive one flags less.

    Raises:
        EmptyInput: there are no scores.
        NonFinite: a score is NaN or infinite.
        InvalidSetting: `threshold_perc` is not between 0 and 100, or `margin` is not finite.
    """
    check_percentile(threshold_perc, margin)
    if np.size(scores) == 0:
        raise EmptyInput("a threshold needs at least one score; got none")
    if not np.isfinite(scores).all():
        raise NonFinite("a threshold needs finite scores; some are NaN or infinite")
    return float(np.percentile(scores, threshold_perc) + margin)


def check_percentile(threshold_perc: float, margin: float) -> None:
    """Raise InvalidSetting unless one is a percentage and the other a finite number."""
    if not 0 <= threshold_perc <= 100:
        raise InvalidSetting(f"threshold_perc is a percentage between 0 and 100; got {threshold_perc}")
    if not np.isfinite(margin):
        raise InvalidSetting(f"margin is a finite number of nats; got {margin}")
