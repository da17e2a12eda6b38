"""Detectors as PyOD"s."""

from demur.integrations.pyod import DemurDetector

__all__ = ["DemurDetector"]
__dir__ = __all__.copy
