"""File formats of rows, one file a kind. A new one is a file here with a `Format` subclass."""

from demur.batch.formats.base import Asked, Format, Found, Piece, Store, find, located

__all__ = ["Asked", "Format", "Found", "Piece", "Store", "find", "located"]
