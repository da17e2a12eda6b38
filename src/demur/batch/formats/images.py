"""Image files: each is one row, named by its path."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from demur.batch.columns import Batch, Faults, Reading, arrow, decoded, stacked
from demur.batch.formats.base import FILE, Asked, Format, Piece, Store
from demur.errors import InvalidSetting, ShapeMismatch
from demur.rows.layout import Field


@dataclass(frozen=True)
class ImagePiece(Piece):
    """Some image files."""

    paths: tuple[str, ...]

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read and decode the files."""
        layout = reading.layout
        if not (isinstance(layout, Field) and len(layout.shape) in (2, 3)):
            raise ShapeMismatch("image files are for a classifier that takes images")
        files = store.files
        for start in range(0, len(self.paths), size):
            paths, faults = self.paths[start : start + size], Faults()
            images = (_image(files, path, layout, reading) for path in paths)
            rows = reading.scaled(stacked(images, layout, faults))
            yield Batch(arrow().table({FILE: list(paths)}), rows, faults)


def _image(files: Any, path: str, field: Field, reading: Reading) -> npt.NDArray[Any] | str:
    """The image in a file, or the reason why it cannot be read."""
    try:
        contents = files.cat_file(path)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return decoded(contents, field.shape, reading.channels_first)


class Images(Format):
    """PNG, JPEG and other images that Pillow reads."""

    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:  # noqa: ARG003 - nothing is read yet
        """Put some files into each piece."""
        if asked.ids:
            raise InvalidSetting("ids: image files have no columns; they are named by their path")
        starts = range(0, len(paths), asked.part_rows)
        return [ImagePiece(tuple(paths[start : start + asked.part_rows])) for start in starts]
