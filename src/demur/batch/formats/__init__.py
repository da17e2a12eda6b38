"""File formats of rows, one file a kind. A new one is a file with a `Format` subclass and an import line here."""

from demur.batch.formats.arrays import Npy, Zarr
from demur.batch.formats.base import Asked, Format, Piece, Store
from demur.batch.formats.images import Images
from demur.batch.formats.parquet import Parquet

__all__ = ["Asked", "Format", "Images", "Npy", "Parquet", "Piece", "Store", "Zarr"]
