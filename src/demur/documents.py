"""Stored documents: JSON and arrays as the types that describe them, and one error for what does not fit."""

import contextlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np

from demur.errors import DemurError

T = TypeVar("T")

PYTHON = {"`array`": "`list`", "`null`": "`NoneType`", "`object`": "`dict`"}
"""What msgspec names as JSON does, as Python names it."""


class Malformed(ValueError):
    """Contents of a file that do not fit; the message says where, what was expected and what is there."""


class Parts(dict[str, T]):
    """Parts of a file by name. To ask for one that is not there shows that the file is malformed."""

    def __missing__(self, name: str) -> T:
        """Raise Malformed."""
        raise Malformed(f"there is no {name!r} in it")


class Stamped(msgspec.Struct):
    """What every document has."""

    format: int


@contextlib.contextmanager
def reading(said: str, error: type[DemurError]) -> Iterator[None]:
    """Make of contents that do not fit the error of the file's kind, which says what is wrong.

    Args:
        said: the file's name, and what it is not; begins the message.
        error: the kind's.
    """
    try:
        yield
    except Malformed as wrong:
        raise error(f"{said}: {wrong}") from wrong


def from_text(text: str | bytes) -> Any:
    """What JSON says, infinity and NaN included.

    Raises:
        Malformed: it is not JSON.
    """
    try:
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"it is not JSON: {error}") from error


def as_type(document: Any, kind: Any, hook: Callable[[Any, Any], Any] | None = None) -> Any:
    """A part of a document as a struct, dataclass or other type.

    Args:
        document: of dicts, lists, numbers, text and arrays.
        kind: the type.
        hook: makes, of a type that msgspec does not know and a part of the document, a value of that type.

    Raises:
        Malformed: something is missing or of another type.
    """
    try:
        return msgspec.convert(document, kind, dec_hook=hook)
    except msgspec.ValidationError as error:
        message = str(error)
        for theirs, ours in PYTHON.items():
            message = message.replace(theirs, ours)
        raise Malformed(message) from error


def format_of(document: Any) -> int:
    """The number of a document's format."""
    return int(as_type(document, Stamped).format)


def arrays_in(file: Path | IO[bytes]) -> Parts[Any]:
    """The arrays, by name, of a `.npz` file.

    Raises:
        Malformed: it is not one.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Parts(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Malformed(str(error)) from error


def from_arrays(arrays: Mapping[str, Any], kind: Any) -> Any:
    """A dataclass of numbers, texts and arrays, each of which was kept as an array of the field's name.

    Raises:
        Malformed: something is missing or of another type.
    """
    are_plain = {name: array.ndim == 0 or array.dtype.kind == "U" for name, array in arrays.items()}
    return as_type({name: array.tolist() if are_plain[name] else array for name, array in arrays.items()}, kind)
