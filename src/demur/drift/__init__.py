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

_ACCURACY = ("AccuracyData", "AccuracyResult", "calibrate_accuracy", "estimate_accuracy")
_HOMES = {
    **dict.fromkeys(_ACCURACY, "demur.drift.accuracy"),
    **dict.fromkeys(("DriftData", "DriftResult", "test"), "demur.drift.batch"),
    "Alarm": "demur.drift.state",
    "Monitor": "demur.drift.monitor",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
