"""Guards whose facts come from a description, which was read from a file or a folder."""

from typing import Any

from demur.guards.base import Guard
from demur.guards.description import Description
from demur.rows.layout import Layout


def told(name: str) -> Any:
    """A property of a guard: the entry of that name in its description."""
    return property(lambda guard: getattr(guard.description, name))


class DescribedGuard(Guard):
    """A guard whose facts are those of a description: of an exported file, or of a saved folder."""

    detector = told("detector")
    labels = told("labels")
    threshold = told("threshold")
    calibration = told("calibration")
    harm = told("harm")
    trained_on = told("trained_on")
    scale = told("scale")
    temperature = told("temperature")
    on_invalid = told("on_invalid")
    data_type = told("data_type")
    channels_first = told("channels_first")

    def __init__(self, description: Description) -> None:
        self._description = description

    @property
    def description(self) -> Description:
        """All that is known of the guard."""
        return self._description

    @property
    def layout(self) -> Layout:
        """What one row is."""
        layout: Any = self._description.layout
        return layout  # type: ignore[no-any-return]
