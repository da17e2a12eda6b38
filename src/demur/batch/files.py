"""A data set in files: from a path, a glob or a list of them to files of one format, cut into pieces of work."""

import os
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from demur.batch.formats import Asked, Format, Piece, Store
from demur.errors import EmptyInput, InvalidSetting, WrongType
from demur.extras import imported


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
    """The one format of files."""
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
    """What a file has alone as long as it is not changed."""
    entry = files.info(path)
    when = entry.get("mtime") or entry.get("LastModified") or entry.get("ETag")
    return [path, entry.get("size"), None if when is None else str(when)]
