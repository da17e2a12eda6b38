"""Detectors as scikit-learn"s outlier detectors."""

from demur.integrations.sklearn import DemurOutlierDetector

__all__ = ["DemurOutlierDetector"]
__dir__ = __all__.copy
