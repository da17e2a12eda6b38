"""What is imported when it is first asked for: Keras takes seconds, and fixes its backend."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

ABOVE: dict[str, str] = {}
"""Functions that the core asks for and that stand above it: their modules by name; `demur` itself fills it."""


def above(name: str) -> Any:
    """A function that does for the core what it cannot do itself, such as scoring the rows of Dask collections."""
    return getattr(importlib.import_module(ABOVE[name]), name)


def lazy(
    package: str,
    homes: Mapping[str, str],
    modules: Iterable[str] = (),
    elsewhere: Mapping[str, str] | None = None,
    before: Callable[[str], None] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: its name.
        homes: the module that each of its names is defined in.
        modules: those of its modules that are imported when they are asked for.
        elsewhere: names that it does not have, and what to use instead.
        before: is called with the name of what is imported, before that is.
    """
    modules = frozenset(modules)

    def get(name: str) -> Any:
        if name in homes:
            if before is not None:
                before(name)
            return getattr(importlib.import_module(homes[name]), name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        hint = f": it is {elsewhere[name]}" if elsewhere is not None and name in elsewhere else ""
        # With the last two, Python tells which name is near, if one is.
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name, obj=sys.modules[package])

    def listed() -> list[str]:
        return sorted({*homes, *modules})

    return get, listed


def moved(home: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a module whose contents are elsewhere now."""

    def get(name: str) -> Any:
        return getattr(importlib.import_module(home), name)

    def listed() -> list[str]:
        return [name for name in dir(importlib.import_module(home)) if not name.startswith("_")]

    return get, listed
