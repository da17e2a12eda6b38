"""Harmful drift: from scores to alarms. Batches are tested, streams are monitored.

A new way to gather evidence is a subclass of `demur.drift.evidence.Evidence`.
"""

from typing import TYPE_CHECKING

from demur.lazy import lazy

if TYPE_CHECKING:
    from demur.drift.accuracy import AccuracyData, AccuracyResult, calibrate_accuracy, estimate_accuracy
    from demur.drift.batch import DriftData, DriftResult, test
    from demur.drift.monitor import Monitor
    from demur.drift.state import Alarm

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

_HOMES = {
    "AccuracyData": "demur.drift.accuracy",
    "AccuracyResult": "demur.drift.accuracy",
    "Alarm": "demur.drift.state",
    "DriftData": "demur.drift.batch",
    "DriftResult": "demur.drift.batch",
    "Monitor": "demur.drift.monitor",
    "calibrate_accuracy": "demur.drift.accuracy",
    "estimate_accuracy": "demur.drift.accuracy",
    "test": "demur.drift.batch",
}


__getattr__, __dir__ = lazy(__name__, _HOMES)
