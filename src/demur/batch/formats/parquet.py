"""Parquet files: cut at row groups, and within large row groups."""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from demur.batch.columns import Batch, Reading, arrow, check_columns, rows_of
from demur.batch.formats.base import Asked, Format, Piece, Store, numbered
from demur.errors import InvalidSetting, WrongType
from demur.rows.layout import Columns

READERS = 16
"""Files whose footers are read at a time."""
SPLIT = 4
"""A row group is cut if it has this many times the rows of a piece: rows before a cut are read in vain."""


class Span(NamedTuple):
    """The rows from `start` to `stop` of a row group of a file, whose first row has the number `first` in the file."""

    path: str
    group: int
    start: int
    stop: int
    first: int


@dataclass(frozen=True)
class ParquetPiece(Piece):
    """Rows of a few row groups, named by the columns `ids`, or by file and number where there are none."""

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
                        table = arrow().Table.from_batches([record.slice(begin, end - begin)])
                        rows, faults = rows_of(table, reading, self.ids)
                        first = span.first + start
                        ids = numbered(span.path, first + begin, first + end)
                        yield Batch(table.select(list(self.ids)) if self.ids else ids, rows, faults)
                    start += len(record)
                    if start >= span.stop:
                        break

    def _columns(self, present: list[str], reading: Reading) -> list[str] | None:
        """The columns that have to be read; None for all."""
        layout = reading.layout
        named = layout.names if isinstance(layout, Columns) else tuple(layout) if isinstance(layout, dict) else None
        wanted = named or reading.columns
        return None if wanted is None else [name for name in present if name in {*wanted, *self.ids}]


class Parquet(Format):
    """Parquet: columns of numbers, of lists or tensors, of raw bytes or of encoded images."""

    suffixes = (".parquet", ".parq", ".pq")

    @classmethod
    def pieces(cls, store: Store, paths: Sequence[str], asked: Asked) -> list[Piece]:
        """Cut at row groups; small ones, perhaps of several files, share a piece."""
        files = store.files

        def groups(path: str) -> list[int]:
            with files.open(path, "rb") as stream:
                file = _opened(stream, path)
                text = f"{path} has no column {{}}; it has {{}}"
                check_columns((*asked.ids, *asked.columns), file.schema_arrow.names, text, InvalidSetting)
                return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]

        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(groups, paths))
        spans: list[Span] = []
        for path, rows in zip(paths, read, strict=True):
            first = 0
            for group, n in enumerate(rows):
                step = max(1, n if n < SPLIT * asked.part_rows else asked.part_rows)
                spans += [Span(path, group, start, min(start + step, n), first) for start in range(0, n, step)]
                first += n
        together: list[list[Span]] = []
        room = 0
        for span in spans:
            n = span.stop - span.start
            if n > room:
                together.append([])
                room = asked.part_rows
            together[-1].append(span)
            room -= n
        return [ParquetPiece(tuple(some), asked.ids) for some in together]


def _opened(stream: Any, path: str) -> Any:
    pa = arrow()
    import pyarrow.parquet as pq

    try:
        # A buffer, so that a column of a row group is never in memory as a whole.
        return pq.ParquetFile(stream, buffer_size=2**20, pre_buffer=False)
    except pa.ArrowInvalid as error:
        reason = re.split(r"[\n.]", str(error))[0]
        raise WrongType(f"{path} cannot be read as Parquet: {reason}") from error
