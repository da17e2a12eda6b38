"""Tables of the command line: CSV and Parquet files, whose columns keep their kinds from one file to the next.

A guard remembers, of the columns that its rows were made of, whether they hold whole numbers, numbers, truth values,
text, or numbers that stand for categories. Later files are read with these kinds: a CSV file does not tell them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demur.errors import InvalidSetting, ShapeMismatch, WrongType
from demur.extras import imported

WHOLE, NUMBER, TRUTH, TEXT, CODE, OTHER = "whole", "number", "truth", "text", "code", "other"
"""Kinds of columns. A code is a number that stands for a category; other columns stay as the file has them."""
DESCRIBED = {
    TRUTH: "truth values",
    WHOLE: "whole numbers",
    NUMBER: "numbers",
    TEXT: "text",
    CODE: "numbers that stand for categories",
}
ARROW = {TRUTH: "bool", WHOLE: "int64", NUMBER: "double", TEXT: "string"}
"""Arrow's names of types."""
MISSING = ["", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
"""What stands for a missing value in a CSV file, as for pandas."""
CSV, PARQUET = (".csv", ".csv.gz", ".tsv", ".tsv.gz"), (".parquet", ".parq", ".pq")
SUFFIXES = (*CSV, *PARQUET)


def read_table(path: Path, kinds: Mapping[str, str] | None = None) -> Any:
    """Read a CSV or Parquet file as a `pyarrow.Table`; without columns that have no name, such as pandas' index.

    The kinds of columns that are not given follow from the file.

    Raises:
        WrongType: the file is damaged, or a column is of another kind than it was.
        MissingExtra: pyarrow is not installed.
    """
    arrow = arrow_module()
    is_csv = str(path).lower().endswith(CSV)
    try:
        table = _csv(path) if is_csv else _parquet(path)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise WrongType(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise WrongType(f"{path} has more than one column {', '.join(twice)}: rename or drop all but one")
    return _typed_table(table, kinds or {}, guess=is_csv)


def table_of(records: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> Any:
    """A table of rows as JSON has them, objects by the names of columns.

    Raises:
        WrongType: a column holds values of several types, or of another kind than it was.
    """
    arrow = arrow_module()
    try:
        table = arrow.Table.from_pylist(list(records))
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise WrongType(f"rows must be objects whose columns each hold one type: {error}") from error
    return _typed_table(table, kinds)


def kinds_of(table: Any) -> dict[str, str]:
    """The kind of each column."""
    return {field.name: _kind(field.type) for field in table.schema}


def frame_of(table: Any) -> Any:
    """A table as a pandas DataFrame; text, and numbers that stand for categories, as pandas' categories."""
    imported("pandas", "tables")
    frame = table.to_pandas(ignore_metadata=True)
    for name, kind in kinds_of(table).items():
        if kind == TEXT:
            frame[name] = frame[name].astype("category")
    return frame


def check_columns(table: Any, names: Sequence[str], path: Path) -> None:
    """Raise ShapeMismatch unless a table has columns of these names."""
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ShapeMismatch(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}")


def values_of(table: Any, name: str, path: Path, *, missing: bool = False) -> Any:
    """One column of a `pyarrow.Table` as an array: of numbers, or of the text as it is.

    Raises:
        ShapeMismatch: there is no such column.
        InvalidSetting: a value is missing, and none may be.
    """
    check_columns(table, [name], path)
    column = table[name]
    if column.null_count and not missing:
        raise InvalidSetting(f"column {name} of {path} has no value in {column.null_count} of {len(column)} rows")
    return _plain(column).to_numpy()


def arrow_module() -> Any:
    """Import pyarrow; raises MissingExtra where it is missing."""
    return imported("pyarrow", "tables")


def _csv(path: Path) -> Any:
    """A table whose columns are all text."""
    arrow = arrow_module()
    from pyarrow import csv

    parsing = csv.ParseOptions(delimiter="\t" if ".tsv" in path.name.lower() else ",", newlines_in_values=True)
    with csv.open_csv(path, parse_options=parsing) as head:
        names = head.schema.names
    as_text = csv.ConvertOptions(
        column_types=dict.fromkeys(names, arrow.string()),
        null_values=MISSING,
        strings_can_be_null=True,
        include_columns=[name for name in names if name],
    )
    return csv.read_csv(path, parse_options=parsing, convert_options=as_text)


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    table = parquet.read_table(path)
    described = table.schema.pandas_metadata or {}
    index = {name for name in described.get("index_columns", []) if isinstance(name, str)}
    return table.select([name for name in table.column_names if name not in index])


def _typed_table(table: Any, kinds: Mapping[str, str], *, guess: bool = False) -> Any:
    names = table.column_names
    return arrow_module().table({name: _typed(table[name], kinds.get(name), name, guess=guess) for name in names})


def _typed(column: Any, kind: str | None, name: str, *, guess: bool) -> Any:
    """A column as one of a kind; None for the kind that it is of.

    With `guess`, text without a known kind becomes numbers or truth values if all of it can be read so. Raises
    WrongType if the column holds something else; the message calls the column `name`.
    """
    found = _kind(column.type)
    if kind is None and guess and found == TEXT:
        kinds: Sequence[str] = (TRUTH, WHOLE, NUMBER, TEXT)
    else:
        kind = kind or found
        if kind == OTHER or (kind == found and not arrow_module().types.is_null(column.type) and found != NUMBER):
            return column
        kinds = (WHOLE, NUMBER) if kind == WHOLE else (kind,)
    for one in kinds:
        made = _read_as(column, one)
        if made is not None:
            return made
    example = _example(column, kinds[-1])
    raise WrongType(f"column {name} held {DESCRIBED[kind or TEXT]} when the guard learned, and now holds {example}")


def _kind(kind: Any) -> str:
    """The kind of columns of an Arrow type."""
    types = arrow_module().types
    if types.is_boolean(kind):
        return TRUTH
    if types.is_integer(kind):
        return WHOLE
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return NUMBER
    if types.is_dictionary(kind):
        return TEXT if _kind(kind.value_type) == TEXT else CODE
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return TEXT if is_text else OTHER


def _plain(column: Any) -> Any:
    """A column without Arrow's coding of repeated values."""
    return column.cast(column.type.value_type) if arrow_module().types.is_dictionary(column.type) else column


def _read_as(column: Any, kind: str) -> Any:
    """A column as one of a kind; None if it cannot be."""
    arrow = arrow_module()
    from pyarrow import compute

    is_text = _kind(column.type) == TEXT
    if is_text:
        column = _plain(column)
        column = column if kind == TEXT else compute.utf8_trim_whitespace(column)
    if kind == TRUTH and is_text:
        words = compute.is_in(column, arrow.array(["True", "False", "TRUE", "FALSE", "true", "false"], column.type))
        if column.null_count == len(column) or not compute.all(compute.or_(words, compute.is_null(column))).as_py():
            return None
        column = compute.utf8_lower(column)
    if kind == WHOLE and column.null_count == len(column):
        return None  # without a value nothing tells: numbers
    try:
        if kind == CODE:
            whole = _read_as(column, WHOLE)
            return (column.cast("double") if whole is None else whole).dictionary_encode()
        return column.cast(ARROW[kind])
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        return None


def _example(column: Any, kind: str) -> str:
    """The first value that cannot be read as one of a kind."""
    for number, part in enumerate(column.to_pylist()):
        if part is not None and _read_as(arrow_module().chunked_array([[part]]), kind) is None:
            return f"{part!r} in row {number}"
    return str(column.type)
