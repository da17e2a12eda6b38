"""From a path, a glob or a list of them to the files of one format."""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from demur.batch.formats import Asked, Format, Piece, Store
from demur.batch.formats.base import fsspec_module
from demur.errors import EmptyInput, InvalidSetting, WrongType


class Found(NamedTuple):
    """A data set in files.

    Attributes:
        store: where they are.
        pieces: the work.
        state: what tells the files from others: names, sizes and times.
    """

    store: Store
    pieces: list[Piece]
    state: list[list[Any]]


def find(data: Any, asked: Asked, storage_options: dict[str, Any] | None = None) -> Found:
    """Find the files of a data set and cut it into pieces.

    Args:
        data: see `located`.
        asked: how to cut.
        storage_options: see `located`.

    Raises:
        WrongType: the files are of no known format.
        InvalidSetting: they are of several formats.
        EmptyInput: they hold no rows.
        FileNotFoundError: see `located`.
    """
    store, paths = located(data, storage_options)
    form = _format_of(store.files, paths)
    pieces = form.pieces(store, paths, asked)
    if not pieces:
        raise EmptyInput(f"there are no rows in {paths[0]}" + (", ..." if len(paths) > 1 else ""))
    return Found(store, pieces, [_state(store.files, path) for path in paths])


def located(data: Any, storage_options: dict[str, Any] | None = None) -> tuple[Store, list[str]]:
    """The file system of a data set, and its files.

    Args:
        data: a path or glob, local or of any file system that `fsspec` knows (`s3://...`), a folder, or a list of
            paths. Files whose names begin with `_` or `.` are left out of folders.
        storage_options: what the file system needs to know.

    Raises:
        FileNotFoundError: there is no such file.
        WrongType: these are no paths.
        InvalidSetting: they are on several file systems, or on one that cannot be reached.
        EmptyInput: there are none.
    """
    fsspec = fsspec_module()
    paths_given = [data] if isinstance(data, str | os.PathLike) else data
    wrong = [path for path in paths_given if not isinstance(path, str | os.PathLike)]
    if wrong:
        raise WrongType(
            f"data is paths of files; got a list with {type(wrong[0]).__name__}: np.asarray(...) makes rows of it"
        )
    given = [os.fspath(path) for path in paths_given]
    if not given or not all(given):
        raise EmptyInput("data names no files: pass at least one")
    try:
        places = [fsspec.core.url_to_fs(path, **(storage_options or {})) for path in given]
    except (ValueError, ImportError) as error:  # no such file system, or its package is not installed
        raise InvalidSetting(f"{given[0]} is on a file system that cannot be reached: {error}") from error
    protocols = {(files.protocol if isinstance(files.protocol, str) else files.protocol[0]) for files, _ in places}
    if len(protocols) > 1:
        raise InvalidSetting(f"the files must lie on one file system; these are on {', '.join(sorted(protocols))}")
    paths = [found for files, path in places for found in _listed(files, path)]
    return Store(protocols.pop(), dict(storage_options or {})), paths


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
        inside = sorted(files.find(match))
        parts = [name[len(match) :].split("/") for name in inside]
        found += [
            name for name, steps in zip(inside, parts, strict=True) if not any(s.startswith((".", "_")) for s in steps)
        ]
    return found


def _folder_format(files: Any, path: str) -> type[Format] | None:
    """The format that has a folder for one data set, if this is one."""
    return next(
        (form for form in Format.registry if any(files.exists(f"{path}/{mark}") for mark in form.folders)), None
    )


def _format_of(files: Any, paths: Sequence[str]) -> type[Format]:
    by_suffix = {suffix: form for form in Format.registry for suffix in form.suffixes}

    def format_of(path: str) -> type[Format] | None:
        by_name = by_suffix.get(PurePosixPath(path).suffix.lower())
        return by_name or (_folder_format(files, path) if files.isdir(path) else None)

    found = {format_of(path) for path in paths}
    if None in found or not found:
        wrong = next((path for path in paths if format_of(path) is None), "nothing")
        raise WrongType(
            f"rows are read from {', '.join(by_suffix)} files and folders of them; got {wrong}: a .npz file is read by "
            "demur score FOLDER --data FILE.npz"
        )
    if len(found) > 1:
        names = ", ".join(sorted(form.__name__ for form in found if form is not None))
        raise InvalidSetting(f"the files are of several formats, {names}: name those of one by a glob, '*.parquet'")
    return found.pop()  # type: ignore[return-value]


def _state(files: Any, path: str) -> list[Any]:
    entry = files.info(path)
    when = entry.get("mtime") or entry.get("LastModified") or entry.get("ETag")
    return [path, entry.get("size"), None if when is None else str(when)]
