"""Times as people write them."""

import datetime
import re
from typing import Any

from demur.data import is_number
from demur.errors import InvalidSetting

UNITS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}


def seconds_of(duration: Any, name: str) -> float:
    """A duration in seconds: "10min", "90s", "1.5 hours", a `timedelta`, or a number of seconds.

    Args:
        duration: what was given.
        name: of the argument, for the error.

    Raises:
        InvalidSetting: it is none, or not above 0.
    """
    if isinstance(duration, datetime.timedelta):
        duration = duration.total_seconds()
    if is_number(duration) and not isinstance(duration, bool) and duration > 0:
        return float(duration)
    units = "|".join(UNITS)
    matched = re.fullmatch(rf"\s*([0-9]*\.?[0-9]+)\s*({units})\s*", duration) if isinstance(duration, str) else None
    if matched is None or float(matched[1]) == 0:
        raise InvalidSetting(
            f"{name} is a time such as '10min', '90s' or '1h', or a number of seconds; got {duration!r}"
        )
    return float(matched[1]) * UNITS[matched[2]]
