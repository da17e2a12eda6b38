"""Data sets in files: the contract of a format, and how files of one format are found and cut into pieces of work."""

import abc
import math
import os
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, NamedTuple

from demur.batch.columns import Batch, Reading, arrow
from demur.errors import EmptyInput, InvalidSetting, WrongType
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


# Files of one format --------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A data set in files: where they are, the pieces of work, and the names, sizes and times of the files."""

    store: Store
    pieces: list[Piece]
    state: list[list[Any]]


def find(data: Any, asked: Asked, storage_options: dict[str, Any] | None = None) -> Found:
    """Find the files of a data set and cut it into pieces; for the arguments see `Asked` and `located`.

    Raises:
        WrongType: a file is of no known format.
        InvalidSetting: the files are of several formats.
        EmptyInput: the files hold no rows.
        FileNotFoundError: see `located`.
    """
    store, paths = located(data, storage_options)
    files = store.files
    pieces = _format_of(files, paths).pieces(store, paths, asked)
    if not pieces:
        raise EmptyInput(f"there are no rows in {paths[0]}" + (", ..." if len(paths) > 1 else ""))
    return Found(store, pieces, [_state(files, path) for path in paths])


def located(data: Any, storage_options: dict[str, Any] | None = None) -> tuple[Store, list[str]]:
    """The file system of a data set, and the files in it.

    The data are a path or glob, local or of any file system that `fsspec` knows (`s3://...`), a folder, or a list of
    paths. Files whose names begin with `_` or `.` are left out of folders.

    Raises:
        FileNotFoundError: there is no such file.
        WrongType: `data` holds something else than paths.
        InvalidSetting: the files are on several file systems, or on one that cannot be reached.
        EmptyInput: `data` names no files.
    """
    paths = [data] if isinstance(data, str | os.PathLike) else data
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            got = type(path).__name__
            raise WrongType(f"data is paths of files; got a list with {got}: np.asarray(...) makes rows of it")
    given = [os.fspath(path) for path in paths]
    if not given or not all(given):
        raise EmptyInput("data names no files: pass at least one")
    imported("fsspec", "batch")  # first: where it is missing, the error below would be the wrong one
    try:
        places = [Store.at(path, storage_options) for path in given]
    except (ValueError, ImportError) as error:  # no such file system, or its package is not installed
        raise InvalidSetting(f"{given[0]} is on a file system that cannot be reached: {error}") from error
    protocols = {store.protocol for store, _ in places}
    if len(protocols) > 1:
        raise InvalidSetting(f"the files must lie on one file system; these are on {', '.join(sorted(protocols))}")
    store = places[0][0]
    return store, [found for _, path in places for found in _listed(store.files, path)]


def _listed(files: Any, path: str) -> list[str]:
    """The files that one path or glob names, in order of their names."""
    has_magic = any(mark in path for mark in "*?[")
    matches = sorted(files.glob(path)) if has_magic else [path] if files.exists(path) else []
    if not matches:
        raise FileNotFoundError(f"there is no data at {path}: no such file")
    found = []
    for match in matches:
        if not files.isdir(match) or _folder_format(files, match):
            found.append(match)
            continue
        for name in sorted(files.find(match)):
            if not any(step.startswith((".", "_")) for step in name[len(match) :].split("/")):
                found.append(name)
    return found


def _folder_format(files: Any, path: str) -> type[Format] | None:
    """The format of which a folder is one data set; None if there is none."""
    found = (form for form in Format.registry if any(files.exists(f"{path}/{mark}") for mark in form.folders))
    return next(found, None)


def _format_of(files: Any, paths: list[str]) -> type[Format]:
    """The format that all the files have."""
    by_suffix = {suffix: form for form in Format.registry for suffix in form.suffixes}
    forms: dict[type[Format], None] = {}
    for path in paths or ["nothing"]:
        form = by_suffix.get(PurePosixPath(path).suffix.lower())
        if form is None and files.isdir(path):
            form = _folder_format(files, path)
        if form is None:
            raise WrongType(
                f"rows are read from {', '.join(by_suffix)} files and folders of them; got {path}: a .npz file is read "
                "by demur score FOLDER --data FILE.npz"
            )
        forms[form] = None
    if len(forms) > 1:
        names = ", ".join(sorted(form.__name__ for form in forms))
        raise InvalidSetting(f"the files are of several formats, {names}: name those of one by a glob, '*.parquet'")
    return next(iter(forms))


def _state(files: Any, path: str) -> list[Any]:
    """The name of a file, and what differs after a change."""
    entry = files.info(path)
    when = entry.get("mtime") or entry.get("LastModified") or entry.get("ETag")
    return [path, entry.get("size"), None if when is None else str(when)]
