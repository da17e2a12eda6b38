"""Harmful drift: from scores to alarms. Batches are tested, streams are monitored.

A new way to gather evidence is a subclass of `demur.drift.evidence.Evidence`.
"""

from demur.drift.batch import DriftData, DriftResult, test
from demur.drift.monitor import Alarm, Monitor

__all__ = ["Alarm", "DriftData", "DriftResult", "Monitor", "test"]
