"""From scores to thresholds, p-values and what they promise. NumPy only."""

from demur.calibration.thresholds import (
    Calibration,
    ScoreDistribution,
    Threshold,
    benjamini_hochberg,
    conformal_threshold,
    instances_needed,
    percentile_threshold,
)

__all__ = [
    "Calibration",
    "ScoreDistribution",
    "Threshold",
    "benjamini_hochberg",
    "conformal_threshold",
    "instances_needed",
    "percentile_threshold",
]
__dir__ = __all__.copy
