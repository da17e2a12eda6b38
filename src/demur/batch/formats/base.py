"""The contract of a file format: files in, pieces of work out, each of which yields batches."""

import abc
import math
import os
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from demur.batch.columns import Batch, Reading, arrow
from demur.extensions import OrderedRegistry
from demur.extras import imported
from demur.rows.layout import Columns, Layout, flat
from demur.rows.texts import Text

FILE, ROW = "file", "row"
"""What names rows that have no ids of their own: the file, and the number of the row in it."""
TEXT_BYTES = 4096
"""The usual size of one text."""
PART_BYTES = 128 * 2**20
"""The most bytes of rows, as float32, in one piece of work."""
PART_ROWS = 50_000
"""The most rows in one piece of work: a few seconds' work, the least that is lost if a worker dies."""


@dataclass(frozen=True)
class Store:
    """Where files are: the name of a file system of `fsspec`, and the options that it needs."""

    protocol: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, path: str | os.PathLike[str], options: dict[str, Any] | None) -> tuple["Store", str]:
        """The store of a path, and the path in this store.

        Raises:
            ValueError, ImportError: there is no such file system, or its package is not installed.
            MissingExtra: fsspec is not installed.
        """
        files, inside = imported("fsspec.core", "batch").url_to_fs(os.fspath(path), **(options or {}))
        protocol = files.protocol if isinstance(files.protocol, str) else files.protocol[0]
        return cls(protocol, dict(options or {})), inside

    @property
    def files(self) -> Any:
        """The file system."""
        return imported("fsspec", "batch").filesystem(self.protocol, **self.options)

    @property
    def is_local(self) -> bool:
        """Whether files are on a disk of this machine."""
        return self.protocol in ("file", "local")


class Asked(NamedTuple):
    """How the caller wants the work to be cut.

    Attributes:
        ids: columns that name the rows, and are kept.
        part_rows: how many rows a piece of work has, about.
        columns: columns that a row is made of, where the caller names them.
    """

    ids: tuple[str, ...]
    part_rows: int
    columns: tuple[str, ...] = ()


class Piece(abc.ABC):
    """Some rows, in files or in memory, that are read where the work is done. A piece is pickled."""

    @abc.abstractmethod
    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read the rows, at most `size` at a time, so that no more are in memory."""


class Format(abc.ABC):
    """Files of one kind. A subclass is known by its `suffixes`."""

    registry: ClassVar[MutableSequence[type["Format"]]] = OrderedRegistry(
        "demur.batch_formats", "demur.batch.formats", names=lambda form: (*form.suffixes, *form.folders)
    )
    suffixes: ClassVar[tuple[str, ...]]
    """The endings of the files' names."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Names of files that make a folder one data set of this kind."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "suffixes" in cls.__dict__:
            Format.registry.append(cls)

    @classmethod
    @abc.abstractmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut files, in order, into pieces of work.

        Raises:
            InvalidSetting: the files do not have the columns that are asked for.
            WrongType: a file is not of this kind.
        """


def numbered(path: str, start: int, stop: int) -> Any:
    """The ids of rows without ids of their own: a table of their file and their numbers."""
    pa = arrow()
    files = pa.DictionaryArray.from_arrays(pa.array([0] * (stop - start), "int32"), pa.array([path], "string"))
    return pa.table({FILE: files, ROW: pa.array(range(start, stop), "int64")})


def part_rows(layout: Layout) -> int:
    """How many rows make a piece of work."""
    return max(1, min(PART_ROWS, PART_BYTES // row_bytes(layout)))


def row_bytes(layout: Layout) -> int:
    """How many bytes one row takes as float32; about, where sizes are not known."""
    if isinstance(layout, Columns):
        return 8 * max(1, len(layout.names))
    if isinstance(layout, Text):
        return TEXT_BYTES
    return 4 * max(1, sum(math.prod(size or 128 for size in entry.shape) for entry in flat(layout)))
