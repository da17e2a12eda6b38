"""The file in which a drift monitor's state outlives the server."""

import datetime
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from demur.atomic import write_text
from demur.calibration.thresholds import Calibration
from demur.drift.monitor import Monitor
from demur.errors import CorruptMonitor, InvalidSetting, WrongDetector

logger = logging.getLogger("demur.serve.state")


class StateFile:
    """`<name>.json` in a folder, which is made if it is not there.

    Args:
        folder: where.
        name: of the model; whatever it is, the file is in the folder.
        clock: seconds since 1970.

    Raises:
        InvalidSetting: the folder cannot be made.
    """

    def __init__(self, folder: Path, name: str, clock: Callable[[], float]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSetting(
                f"the state folder {folder} cannot be made ({error.strerror}): name another"
            ) from error
        self._path: Path | None = folder / f"{quote(name, safe='')}.json"
        self._clock = clock

    def write(self, state: dict[str, Any]) -> None:
        """Write a monitor's state, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is not None:
            write_text(self._path, json.dumps(state, indent=1) + "\n")

    def resumed(self, fresh: Monitor, calibration: Calibration, on_alarm: Callable[[Any], Any]) -> Monitor | None:
        """The monitor whose state is in the file; None if there is none that can go on as `fresh` begins.

        A file that cannot be gone on from is moved aside, so that nothing that somebody may want is lost.
        """
        if self._path is None:
            return None
        try:
            kept = Monitor.load(self._path, detector=calibration, on_alarm=on_alarm)
            if kept.state()["settings"] == fresh.state()["settings"]:
                return kept
            self._set_aside("other-settings", "it was gathered with other settings")
        except FileNotFoundError:
            pass
        except WrongDetector:
            self._set_aside("other-calibration", "it is of a guard calibrated otherwise")
        except (CorruptMonitor, OSError) as error:
            self._set_aside("unreadable", f"it cannot be read: {error}")
        return None

    def _set_aside(self, why: str, because: str) -> None:
        path = self._path
        if path is None:
            return
        moment = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).strftime("%Y%m%dT%H%M%S")
        number, aside = 1, path.with_name(f"{path.stem}.{why}-{moment}.json")
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.stem}.{why}-{moment}-{number}.json")
        try:
            path.rename(aside)
        except OSError as error:
            logger.error("the state %s cannot be used and stays as it is, no state is kept: %s", path, error)
            self._path = None
            return
        logger.warning("the state %s was moved to %s and a new one begun: %s", path, aside.name, because)
