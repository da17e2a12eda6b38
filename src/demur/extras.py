"""Packages that not every installation has: what to install where one is missing, and one that is not needed."""

import contextlib
import importlib
import sys
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


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Keep Keras from importing TensorFlow, which takes seconds, while it saves, loads or copies on another backend.

    Keras asks of each thing that it writes whether it is TensorFlow's, and imports TensorFlow to ask; as long as
    nobody else has imported TensorFlow, nothing is.
    """
    lazy = None
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError, AttributeError):  # parts of Keras that may have another name one day
            lazy = importlib.import_module("keras.src.utils.module_utils").tensorflow
            before, lazy._available = lazy._available, False
    try:
        yield
    finally:
        if lazy is not None:
            lazy._available = before
