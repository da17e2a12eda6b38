"""What is imported when it is first asked for: Keras takes seconds, and fixes its backend."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

ABOVE: dict[str, str] = {}
"""Functions that the core asks for and that stand above the core: their modules by name; filled by `demur` itself."""


def above(name: str) -> Any:
    """A function above the core that the core needs, such as for scores of Dask collections."""
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
        package: the name of the package.
        homes: the names in the package, and the modules in which they are defined.
        modules: modules of the package that are imported when they are asked for.
        elsewhere: names that the package does not have, and what to use instead.
        before: what is called with a name before its module is imported.
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

    def listed() -> list[str]:
        return [name for name in dir(importlib.import_module(home)) if not name.startswith("_")]

    return lambda name: getattr(importlib.import_module(home), name), listed
