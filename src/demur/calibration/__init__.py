"""From scores to thresholds, p-values and what they promise. NumPy only."""

from demur.calibration.thresholds import *  # noqa: F403
from demur.calibration.thresholds import __all__

__dir__ = __all__.copy
