"""The files that commands write: checked before any work is done, and written whole or not at all."""

import csv
import io
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from demur.atomic import whole
from demur.errors import InvalidSetting
from demur.extras import imported

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
    """Columns `(n,)` by name."""


def check_output(path: Path) -> None:
    """Raise the errors of `check_file` for results; MissingExtra for a `.parquet` file without pyarrow."""
    check_file(path, WRITERS, "results are")
    if path.suffix.lower() == ".parquet":
        imported("pyarrow", "parquet")


def check_file(path: Path, suffixes: Collection[str], what: str) -> None:
    """Raise an error, before any work is done, where no file of these kinds can be written.

    Raises:
        InvalidSetting: the path has another extension, or is a folder.
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


def write_table(path: Path, columns: "Arrays") -> None:
    """Write columns in the format of the path's extension, whole or not at all."""
    with whole(path) as stream:
        WRITERS[path.suffix.lower()](stream, columns)


def _write_npz(stream: IO[bytes], columns: "Arrays") -> None:
    import numpy as np

    # Text as NumPy keeps it: objects would need pickle.
    arrays: dict[str, Any] = {name: np.asarray(x, str if x.dtype == object else None) for name, x in columns.items()}
    np.savez(stream, allow_pickle=False, **arrays)


def _write_csv(stream: IO[bytes], columns: "Arrays") -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    table = csv.writer(text, lineterminator="\n")
    numbered = _numbered(columns)
    table.writerow(numbered)
    table.writerows(zip(*numbered.values(), strict=True))
    text.flush()
    text.detach()


def _write_parquet(stream: IO[bytes], columns: "Arrays") -> None:
    table = imported("pyarrow", "parquet").table(_numbered(columns))
    imported("pyarrow.parquet", "parquet").write_table(table, stream)


def _numbered(columns: "Arrays") -> "Arrays":
    """The columns after one with the numbers of the rows, unless they have one of that name."""
    import numpy as np

    return {"row": np.arange(len(next(iter(columns.values())))), **columns}


WRITERS: dict[str, Callable[[IO[bytes], "Arrays"], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
