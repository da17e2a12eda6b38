"""Stored JSON and arrays, read as the types that describe them; `Malformed` is raised for contents of another form."""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np

from demur._version import __version__
from demur.errors import DemurError

T = TypeVar("T")


class Malformed(ValueError):
    """The contents of a file have the wrong form; the message says where, what was expected and what is there."""


class Parts(dict[str, T]):
    """Parts of a file by name; a missing part raises Malformed."""

    def __missing__(self, name: str) -> T:
        raise Malformed(f"there is no {name!r} in it")


class _Stamped(msgspec.Struct):
    format: int


@contextlib.contextmanager
def reading(said: str, error: type[DemurError]) -> Iterator[None]:
    """Raise `error` in place of Malformed, with a message that begins with `said`."""
    try:
        yield
    except Malformed as wrong:
        raise error(f"{said}: {wrong}") from wrong


def from_text(text: str | bytes) -> Any:
    """The value of a JSON text, with infinity and NaN; Malformed if it is not JSON."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"it is not JSON: {error}") from error


def as_type(document: Any, kind: Any, hook: Callable[[Any, Any], Any] | None = None) -> Any:
    """A document of dicts, lists, numbers, texts and arrays as a struct, a dataclass or another type.

    Args:
        document: the document, or a part of it.
        kind: the type.
        hook: `hook(type, part)` makes the value where msgspec does not know the type.

    Raises:
        Malformed: an entry is missing or has another type.
    """
    try:
        return msgspec.convert(document, kind, dec_hook=hook, str_keys=True)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


def format_of(document: Any) -> int:
    """The number of the format of a document."""
    return int(as_type(document, _Stamped).format)


def check_format(document: Any, known: int, name: str, error: type[DemurError]) -> None:
    """Raise `error` if a document has another format than the known one, and Malformed if it has none."""
    found = format_of(document)
    if found != known:
        raise error(f"{name} has format {found}, and this demur {__version__} reads {known}: upgrade demur")


def arrays_in(file: Path | IO[bytes]) -> Parts[Any]:
    """The arrays of a `.npz` file by name; Malformed if it cannot be read."""
    try:
        with (
            file.open("rb") if isinstance(file, Path) else file as opened,
            np.load(opened, allow_pickle=False) as arrays,
        ):
            return Parts(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Malformed(str(error)) from error


def from_arrays(arrays: Mapping[str, Any], kind: Any) -> Any:
    """A dataclass of numbers, texts and arrays, whose fields were kept as arrays of the same names, or Malformed."""
    are_plain = {name: array.ndim == 0 or array.dtype.kind == "U" for name, array in arrays.items()}
    return as_type({name: array.tolist() if are_plain[name] else array for name, array in arrays.items()}, kind)
