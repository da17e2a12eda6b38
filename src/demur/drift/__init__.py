"""Harmful drift: from scores to alarms. Batches are tested, streams are monitored.

A new way to gather evidence is a subclass of `demur.drift.evidence.Evidence`.
"""

from demur.drift.accuracy import AccuracyData, AccuracyResult, calibrate_accuracy, estimate_accuracy
from demur.drift.batch import DriftData, DriftResult, test
from demur.drift.monitor import Alarm, Monitor

__all__ = [
    "AccuracyData",
    "AccuracyResult",
    "Alarm",
    "DriftData",
    "DriftResult",
    "Monitor",
    "calibrate_accuracy",
    "estimate_accuracy",
    "test",
]
