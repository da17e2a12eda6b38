"""Arrays on disk: `.npy` files, and Zarr."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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

    @staticmethod
    def opened(store: Store, path: str) -> Any:
        """An array on disk, with a `shape` and `chunks`, slices of which are read when they are asked for."""
        raise NotImplementedError

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read the rows, a batch at a time."""
        array = self.opened(store, self.path)
        for start in range(self.start, self.stop, size):
            stop = min(start + size, self.stop)
            yield Batch(numbered(self.path, start, stop), reading.scaled(np.asarray(array[start:stop])), {})


class Arrays(Format):
    """Files that hold one array, whose first axis is the rows."""

    piece: ClassVar[type[ArrayPiece]]

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut each array between chunks."""
        pieces: list[Piece] = []
        for path in paths:
            array = cls.piece.opened(store, path)
            if asked.ids:
                raise InvalidSetting(f"ids: an array has no columns; rows of {path} are named by their number")
            n, chunk = array.shape[0], array.chunks[0]
            step = max(1, math.ceil(asked.part_rows / chunk)) * chunk
            pieces += [cls.piece(path, start, min(start + step, n)) for start in range(0, n, step)]
        return pieces


class NpyFile:
    """A `.npy` file, of which just the bytes of the rows that are asked for are read."""

    chunks = (1,)

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path
        with store.files.open(path, "rb") as stream:
            try:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                self.shape, is_fortran, self.dtype = read(stream)
            except ValueError as error:
                raise WrongType(f"{path} is no .npy file: {error}") from error
            self.begin = stream.tell()
        if is_fortran or self.dtype.hasobject or not self.shape:
            raise WrongType(f"{path} must hold numbers, row after row: np.save(path, np.ascontiguousarray(X))")

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with self.store.files.open(self.path, "rb") as stream:
            stream.seek(self.begin + rows.start * size)
            contents = stream.read((rows.stop - rows.start) * size)
        return np.frombuffer(contents, self.dtype).reshape(rows.stop - rows.start, *self.shape[1:])


class NpyPiece(ArrayPiece):
    """Rows of a `.npy` file."""

    opened = NpyFile


class Npy(Arrays):
    """NumPy's `.npy`."""

    suffixes = (".npy",)
    piece = NpyPiece


class ZarrPiece(ArrayPiece):
    """Rows of a Zarr array, of which whole chunks are read."""

    @staticmethod
    def opened(store: Store, path: str) -> Any:
        """The array, or an error that names the arrays of a group."""
        place, options = (path, None) if store.is_local else (f"{store.protocol}://{path}", store.options)
        found = imported("zarr", "zarr").open(place, mode="r", storage_options=options)
        if not hasattr(found, "shape"):
            names = ", ".join(f"{path}/{name}" for name in found.array_keys()) or "none"
            raise WrongType(f"{path} is a group of arrays; say which: {names}")
        return found


class Zarr(Arrays):
    """Zarr."""

    suffixes = (".zarr",)
    folders = ("zarr.json", ".zarray", ".zgroup")
    piece = ZarrPiece
