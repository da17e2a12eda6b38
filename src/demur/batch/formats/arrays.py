"""Arrays on disk: `.npy` files, and Zarr."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.batch.columns import Batch, Reading
from demur.batch.formats.base import Asked, Format, Piece, Store, numbered
from demur.errors import InvalidSetting, WrongType
from demur.extras import imported


@dataclass(frozen=True)
class ArrayPiece(Piece):
    """The rows from `start` to `stop` of the array at `path`."""

    path: str
    start: int
    stop: int

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read the rows, a batch at a time."""
        for start in range(self.start, self.stop, size):
            stop = min(start + size, self.stop)
            yield Batch(numbered(self.path, start, stop), reading.scaled(self.read(store, start, stop)), {})

    def read(self, store: Store, start: int, stop: int) -> npt.NDArray[Any]:
        """Read some of the rows."""
        raise NotImplementedError


def cut(piece: type[ArrayPiece], path: str, rows: int, asked: Asked, multiple: int = 1) -> list[Piece]:
    """Cut an array into pieces, at multiples of a number of rows."""
    if asked.ids:
        raise InvalidSetting(f"ids: an array has no columns; rows of {path} are named by their number")
    step = max(1, math.ceil(asked.part_rows / multiple)) * multiple
    return [piece(path, start, min(start + step, rows)) for start in range(0, rows, step)]


@dataclass(frozen=True)
class NpyPiece(ArrayPiece):
    """Rows of a `.npy` file."""

    def read(self, store: Store, start: int, stop: int) -> npt.NDArray[Any]:
        """Read just the bytes of the rows."""
        with store.files.open(self.path, "rb") as stream:
            shape, dtype = _header(stream, self.path)
            size = math.prod(shape[1:]) * dtype.itemsize
            stream.seek(stream.tell() + start * size)
            contents = stream.read((stop - start) * size)
        return np.frombuffer(contents, dtype).reshape(stop - start, *shape[1:])


class Npy(Format):
    """NumPy's `.npy`: one array, whose first axis is the rows."""

    suffixes = (".npy",)

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut each file."""
        pieces: list[Piece] = []
        for path in paths:
            with store.files.open(path, "rb") as stream:
                shape, _ = _header(stream, path)
            pieces += cut(NpyPiece, path, shape[0], asked)
        return pieces


def _header(stream: Any, path: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type of the array that follows in the stream."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
    except ValueError as error:
        raise WrongType(f"{path} is no .npy file: {error}") from error
    if is_fortran or dtype.hasobject or not shape:
        raise WrongType(f"{path} must hold numbers, row after row: np.save(path, np.ascontiguousarray(X))")
    return shape, dtype


@dataclass(frozen=True)
class ZarrPiece(ArrayPiece):
    """Rows of a Zarr array."""

    def read(self, store: Store, start: int, stop: int) -> npt.NDArray[Any]:
        """Read the chunks that the rows are in."""
        rows: npt.NDArray[Any] = np.asarray(_zarr(store, self.path)[start:stop])
        return rows


class Zarr(Format):
    """Zarr: one array, whose first axis is the rows. Pieces are whole chunks."""

    suffixes = (".zarr",)
    folders = ("zarr.json", ".zarray", ".zgroup")

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut each array between chunks."""
        pieces: list[Piece] = []
        for path in paths:
            array = _zarr(store, path)
            pieces += cut(ZarrPiece, path, array.shape[0], asked, array.chunks[0])
        return pieces


def _zarr(store: Store, path: str) -> Any:
    place, options = (path, None) if store.is_local else (f"{store.protocol}://{path}", store.options)
    found = imported("zarr", "zarr").open(place, mode="r", storage_options=options)
    if not hasattr(found, "shape"):
        names = ", ".join(f"{path}/{name}" for name in found.array_keys()) or "none"
        raise WrongType(f"{path} is a group of arrays; say which: {names}")
    return found
