"""Harmful drift: from scores to alarms. Batches are tested, streams are monitored.

A new way to gather evidence is a subclass of `demur.drift.evidence.Evidence`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "AccuracyData": "demur.drift.accuracy",
    "AccuracyResult": "demur.drift.accuracy",
    "Alarm": "demur.drift.monitor",
    "DriftData": "demur.drift.batch",
    "DriftResult": "demur.drift.batch",
    "Monitor": "demur.drift.monitor",
    "calibrate_accuracy": "demur.drift.accuracy",
    "estimate_accuracy": "demur.drift.accuracy",
    "test": "demur.drift.batch",
}


def __getattr__(name: str) -> Any:
    # Estimates of accuracy need Keras; monitors and tests of scores do without it, and so does a server.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'demur.drift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
