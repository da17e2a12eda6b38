"""The files of the command line: arrays in, results out."""

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from demur.atomic import whole
from demur.errors import InvalidSetting, WrongType
from demur.extras import extra

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]


def read_array(path: Path, key: str | None, scale: float | None = None) -> "npt.NDArray[Any]":
    """Read an array; a `.npy` file stays on disk until its rows are needed.

    Args:
        path: a `.npy` file, or a `.npz` file.
        key: which array of a `.npz` file; None where it holds one.
        scale: what to multiply the array by, as float32.

    Raises:
        WrongType: it is no file of NumPy's, or holds something else than numbers and text.
        InvalidSetting: a key is missing, unknown or given where there is none.
    """
    import numpy as np

    try:
        rows = _read(path, key)
    except InvalidSetting:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WrongType(
            f"{path} cannot be read: it is damaged, or no NumPy file, or holds Python objects, which are never loaded"
        ) from error
    if scale is None:
        return rows
    if rows.dtype.kind not in "buif":
        raise WrongType(f"{path} must hold real numbers to be scaled; got dtype {rows.dtype}")
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and the detector names their rows
        scaled: npt.NDArray[Any] = rows.astype("float32")
        scaled *= np.float32(scale)
    return scaled


def _read(path: Path, key: str | None) -> "npt.NDArray[Any]":
    import numpy as np

    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if key is not None:
            raise InvalidSetting(f"{path} holds one array without a name; leave out ':{key}'")
        return loaded
    with loaded:
        if key is None and len(loaded.files) != 1:
            raise InvalidSetting(f"{path} holds {len(loaded.files)} arrays; say which: {_keys(path, loaded.files)}")
        if key is not None and key not in loaded.files:
            raise InvalidSetting(f"{path} has no array {key!r}; it has {_keys(path, loaded.files)}")
        rows: npt.NDArray[Any] = loaded[loaded.files[0] if key is None else key]
        return rows


def _keys(path: Path, keys: list[str]) -> str:
    return ", ".join(f"{path}:{key}" for key in keys) or "none"


def check_output(path: Path) -> None:
    """Raise what `write_table` would, before any work is done.

    Raises:
        InvalidSetting: the path's extension is none of the three, or it is a folder.
        FileNotFoundError, PermissionError: its folder does not exist or cannot be written to.
        MissingExtra: it ends in `.parquet` and there is no pyarrow.
    """
    check_file(path, WRITERS, "results are")
    if path.suffix.lower() == ".parquet":
        _parquet()


def check_file(path: Path, suffixes: Collection[str], what: str) -> None:
    """Raise, before any work is done, where no file of these kinds can be written.

    Raises:
        InvalidSetting: the path's extension is none of them, or it is a folder.
        FileNotFoundError, PermissionError: its folder does not exist or cannot be written to.
    """
    if path.suffix.lower() not in suffixes:
        raise InvalidSetting(f"{what} written to {', '.join(suffixes)} files; got {path}")
    if path.is_dir():
        raise InvalidSetting(f"{path} is a folder; {what} written to a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    check_writable(path.parent)


def check_writable(folder: Path) -> None:
    """Raise PermissionError unless files can be made in a folder or, where it does not exist, the folder itself."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write to {existing}")


def write_table(path: Path, columns: "Columns") -> None:
    """Write columns `(n,)` by name, in the format of the path's extension, whole or not at all."""
    with whole(path) as stream:
        WRITERS[path.suffix.lower()](stream, columns)


def _write_npz(stream: IO[bytes], columns: "Columns") -> None:
    import numpy as np

    # Text as NumPy keeps it: objects would need pickle.
    arrays: dict[str, Any] = {name: np.asarray(x, str if x.dtype == object else None) for name, x in columns.items()}
    np.savez(stream, allow_pickle=False, **arrays)


def _write_csv(stream: IO[bytes], columns: "Columns") -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    table = csv.writer(text, lineterminator="\n")
    numbered = _numbered(columns)
    table.writerow(numbered)
    table.writerows(zip(*numbered.values(), strict=True))
    text.flush()
    text.detach()


def _write_parquet(stream: IO[bytes], columns: "Columns") -> None:
    arrow, parquet = _parquet()
    parquet.write_table(arrow.table(_numbered(columns)), stream)


def _numbered(columns: "Columns") -> "Columns":
    """The columns after one with the numbers of the rows, unless they have one of that name."""
    import numpy as np

    return {"row": np.arange(len(next(iter(columns.values())))), **columns}


def _parquet() -> tuple[Any, Any]:
    with extra("pyarrow", "parquet"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


WRITERS: dict[str, Callable[[IO[bytes], "Columns"], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
