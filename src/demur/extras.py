"""Packages that not every installation has: what to install where one is missing, and one that is not needed."""

import contextlib
from collections.abc import Iterator

from demur.errors import MissingExtra


@contextlib.contextmanager
def extra(package: str, name: str) -> Iterator[None]:
    """Import what an extra brings, in the block.

    Args:
        package: that the imports need.
        name: of the extra that installs it.

    Raises:
        MissingExtra: an import failed; says what to install.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(package, name) from error
