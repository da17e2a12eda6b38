"""Parquet files: cut at row groups, and within those that are large."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from demur.batch.formats.base import Asked, Format, Piece, Store, numbered
from demur.batch.tables import Batch, Reading, arrow, rows_of
from demur.errors import InvalidSetting, WrongType
from demur.rows.layout import Columns

READERS = 16
"""Files whose footers are read at a time."""
SPLIT = 4
"""A row group is cut where it has as many times the rows of a piece: what is before a cut is read in vain."""


class Span(NamedTuple):
    """Rows of one row group."""

    path: str
    group: int
    start: int
    """Of the group's rows, the first."""
    stop: int
    first: int
    """Number, in the file, of the group's first row."""


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Rows of a few row groups.

    Attributes:
        spans: which.
        ids: columns that name the rows; none for their file and number.
    """

    spans: tuple[Span, ...]
    ids: tuple[str, ...]

    def batches(self, store: Store, reading: Reading, size: int) -> Iterator[Batch]:
        """Read the rows, a page at a time."""
        for span in self.spans:
            with store.files.open(span.path, "rb") as stream:
                file = _opened(stream, span.path)
                columns = self._columns(file.schema_arrow.names, reading)
                start = 0
                read = file.iter_batches(size, row_groups=[span.group], columns=columns, use_threads=False)
                for record in read:
                    begin, end = max(span.start - start, 0), min(span.stop - start, len(record))
                    if begin < end:
                        yield self._batch(record.slice(begin, end - begin), reading, span, start + begin)
                    start += len(record)
                    if start >= span.stop:
                        break

    def _columns(self, present: list[str], reading: Reading) -> list[str] | None:
        """What has to be read; None for everything."""
        layout = reading.layout
        named = layout.names if isinstance(layout, Columns) else tuple(layout) if isinstance(layout, dict) else None
        wanted = named or reading.columns
        return None if wanted is None else [name for name in present if name in {*wanted, *self.ids}]

    def _batch(self, record: Any, reading: Reading, span: Span, start: int) -> Batch:
        table = arrow().Table.from_batches([record])
        rows, faults = rows_of(table, reading, self.ids)
        first = span.first + start
        ids = table.select(list(self.ids)) if self.ids else numbered(span.path, first, first + len(record))
        return Batch(ids, rows, faults)


class Parquet(Format):
    """Parquet: columns of numbers, of lists or tensors, of raw bytes or of encoded images."""

    suffixes = (".parquet", ".parq", ".pq")

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut at row groups; small ones, of several files perhaps, are put together."""
        files = store.files

        def groups(path: str) -> tuple[list[int], list[str]]:
            with files.open(path, "rb") as stream:
                file = _opened(stream, path)
                found = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                return found, file.schema_arrow.names

        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(groups, paths))
        spans: list[Span] = []
        for path, (rows, names) in zip(paths, read, strict=True):
            missing = [name for name in (*asked.ids, *asked.columns) if name not in names]
            if missing:
                raise InvalidSetting(f"{path} has no column {', '.join(missing)}; it has {', '.join(names)}")
            first = 0
            for group, n in enumerate(rows):
                whole = n < SPLIT * asked.part_rows
                step = max(1, n if whole else asked.part_rows)
                spans += [
                    Span(path, group, start, min(start + step, n), first) for start in range(0, n, step) if start < n
                ]
                first += n
        return _together(spans, asked)


def _together(spans: list[Span], asked: Asked) -> list[Piece]:
    pieces: list[Piece] = []
    gathered: list[Span] = []
    rows = 0
    for span in spans:
        n = span.stop - span.start
        if gathered and rows + n > asked.part_rows:
            pieces.append(ParquetPiece(tuple(gathered), asked.ids))
            gathered, rows = [], 0
        gathered.append(span)
        rows += n
    return [*pieces, *([ParquetPiece(tuple(gathered), asked.ids)] if gathered else [])]


def _opened(stream: Any, path: str) -> Any:
    pa = arrow()
    import pyarrow.parquet as pq

    try:
        # A buffer, so that a column of a row group is never in memory as a whole.
        return pq.ParquetFile(stream, buffer_size=2**20, pre_buffer=False)
    except pa.ArrowInvalid as error:
        reason = re.split(r"[\n.]", str(error))[0]
        raise WrongType(f"{path} cannot be read as Parquet: {reason}") from error
