"""The state of a monitor, as its file keeps it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from demur._version import __version__
from demur.calibration.dependence import Sums
from demur.documents import as_type, check_format, from_text
from demur.errors import CorruptMonitor

FORMAT = 1


@dataclass(frozen=True)
class Alarm:
    """That there was enough evidence for drift.

    Attributes:
        at: how many scores had been looked at, with the score that raised the alarm.
        time: when that was, in seconds; None where nobody said.
        log_evidence: the natural logarithm of the evidence.
    """

    at: int
    time: float | None
    log_evidence: float


class Asked(msgspec.Struct):
    """The settings of a monitor; files of earlier versions have fewer."""

    alpha: float = 0.01
    method: str = "martingale"
    tolerance: float = 0.0
    run_length: int = 100_000
    window: int | float = 500
    cooldown: int | float | None = None
    every: int = 1


class State(msgspec.Struct, kw_only=True):
    """The file of a monitor, entry by entry; files of earlier versions lack entries that have a default."""

    format: int = FORMAT
    version: str = __version__
    calibration: str
    settings: Asked
    count: int
    passed: int = 0
    invalid: int
    alarms: list[Alarm]
    alarm_count: int
    is_alarmed: bool
    resting: int | float | None
    now: float | None
    log_evidence: float | None
    evidence: dict[str, Any]
    autocorrelation: Sums | None = None
    is_dependent: bool = False


KEPT = {name: name for name in ("count", "passed", "invalid", "alarms", "alarm_count", "is_dependent")} | {
    "calibration": "_fingerprint",
    "is_alarmed": "_is_alarmed",
    "resting": "_resting",
    "now": "_now",
}
"""Entries of a state, and the attributes of a monitor that hold them."""


def read(file: Path) -> State:
    """The state in a file; Malformed if it is not one, and CorruptMonitor if a newer demur wrote it."""
    document = from_text(file.read_bytes())
    check_format(document, FORMAT, str(file), CorruptMonitor)
    return as_type(document, State)  # type: ignore[no-any-return]
