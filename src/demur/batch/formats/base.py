"""The contract of a file format: files in, pieces of work out, each of which yields batches."""

import abc
import math
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from demur.batch.tables import Batch, Reading, arrow
from demur.extensions import OrderedRegistry
from demur.extras import extra
from demur.rows.layout import Columns, Layout, flat
from demur.rows.texts import Text

FILE, ROW = "file", "row"
"""What tells rows apart where the data have no ids of their own: the file, and the number of the row in it."""
PART_BYTES = 128 * 2**20
TEXT_BYTES = 4096
"""Of one text, about."""
"""Of rows, as float32, that one piece of work has."""
PART_ROWS = 50_000
"""And rows, at most: a few seconds' work, the least that is lost if a worker dies."""


@dataclass(frozen=True)
class Store:
    """Where files are: a file system, as `fsspec` names it, and what it needs to know."""

    protocol: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> Any:
        """The file system."""
        return fsspec_module().filesystem(self.protocol, **self.options)


def fsspec_module() -> Any:
    """Import fsspec.

    Raises:
        MissingExtra: it is not installed.
    """
    with extra("fsspec", "batch"):
        import fsspec
    return fsspec


class Asked(NamedTuple):
    """How the caller wants the work to be cut.

    Attributes:
        ids: columns that name the rows, and are kept.
        part_rows: rows of a piece of work, about.
        columns: those that a row is made of, where the caller names them.
    """

    ids: tuple[str, ...]
    part_rows: int
    columns: tuple[str, ...] = ()


class Piece(abc.ABC):
    """Some rows, in files, that are read where the work is done. It is pickled."""

    @abc.abstractmethod
    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read the rows, at most `size` at a time, so that no more are in memory."""


class Format(abc.ABC):
    """Files of one kind. A subclass is known by its `suffixes`."""

    registry: ClassVar[MutableSequence[type["Format"]]] = OrderedRegistry(
        "demur.batch_formats", "demur.batch.formats", names=lambda form: (*form.suffixes, *form.folders)
    )
    suffixes: ClassVar[tuple[str, ...]]
    """Of its files' names."""
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
            InvalidSetting: there are no such ids in them.
            WrongType: a file is none of this kind.
        """


def numbered(path: str, start: int, stop: int) -> Any:
    """The ids of rows that have none of their own: a table of their file and numbers."""
    pa = arrow()
    files = pa.DictionaryArray.from_arrays(pa.array([0] * (stop - start), "int32"), pa.array([path], "string"))
    return pa.table({FILE: files, ROW: pa.array(range(start, stop), "int64")})


def part_rows(layout: Layout) -> int:
    """How many rows make a piece of work."""
    return max(1, min(PART_ROWS, PART_BYTES // row_bytes(layout)))


def row_bytes(layout: Layout) -> int:
    """What one row takes as float32; about, where sizes are not known."""
    if isinstance(layout, Columns):
        return 8 * max(1, len(layout.names))
    if isinstance(layout, Text):
        return TEXT_BYTES
    return 4 * max(1, sum(math.prod(size or 128 for size in entry.shape) for entry in flat(layout)))
