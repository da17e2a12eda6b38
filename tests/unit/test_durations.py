"""Times as people write them."""

import datetime

import numpy as np
import pytest

from demur.checks import seconds_of
from demur.errors import InvalidSetting


def test_a_time_is_a_number_of_seconds_or_has_a_unit():
    for text, seconds in [
        ("10min", 600),
        ("90s", 90),
        (" 1.5 h ", 5400),
        ("2m", 120),
        ("2d", 172800),
        (".5sec", 0.5),
        ("2 minutes", 120),
        ("120", 120),
        ("10 days", 864000),
        (7, 7),
        (0.1, 0.1),
        (datetime.timedelta(minutes=3), 180),
    ]:
        assert seconds_of(text, "budget") == seconds
    nonsense = ("ten minutes", "10 fortnights", "", "0s", "-1s", 0, -1, True, np.inf, np.nan, [1], "1e3s", None)
    for value in (*nonsense, datetime.timedelta(0)):
        with pytest.raises(InvalidSetting, match="budget is a time such as"):
            seconds_of(value, "budget")
