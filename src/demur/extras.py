"""Packages that not every installation has: what to install where one is missing."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from demur.errors import MissingExtra


@contextlib.contextmanager
def extra(package: str, name: str) -> Iterator[None]:
    """Import in the block what an extra installs.

    Args:
        package: the package that the imports need.
        name: the extra that installs the package.

    Raises:
        MissingExtra: an import failed; says what to install.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, name) from error


def imported(module: str, name: str) -> Any:
    """Import a module of a package that the extra `name` installs; raises MissingExtra where it is missing."""
    with extra(module.partition(".")[0], name):
        return importlib.import_module(module)
