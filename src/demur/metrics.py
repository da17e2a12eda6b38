"""How good scores are, and how sure that is."""

from demur.calibration.metrics import *  # noqa: F403
from demur.calibration.metrics import __all__

__dir__ = __all__.copy
