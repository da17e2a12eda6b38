"""The rows of the command line: arrays and tables, as the guard or the classifier takes them, with labels and ids."""

import argparse
import re
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from demur.cli import tables
from demur.cli.options import names_in
from demur.errors import InvalidSetting, WrongType

if TYPE_CHECKING:
    import numpy.typing as npt

    from demur.rows.classes import Classes
    from demur.rows.layout import Layout

SUFFIXES = (".npy", ".npz", *tables.SUFFIXES)
DATA = re.compile(rf"(?P<path>.*?(?:{'|'.join(map(re.escape, SUFFIXES))}))(?::(?P<key>.*))?", re.IGNORECASE | re.DOTALL)
SCORES, PREDICTED = "instance_score", "no_defense"
"""The columns of results that ready scores and predicted classes are read from."""


class How(NamedTuple):
    """How rows are made of a table: what one row is, the columns that it is made of and their kinds, if they are known.

    Arrays are multiplied by the scale that `demur fit` was told, unless the command has another.
    """

    layout: "Layout | None"
    kinds: dict[str, str] | None
    scale: float | None = None


class Data:
    """What `FILE[:KEY]` names: an array, or a table that is made into rows once it is known how.

    A row is made of the columns that are named or, where none are, of all that neither name the rows (`ids`) nor hold
    their classes (`label`).
    """

    def __init__(
        self,
        text: str,
        how: How | None = None,
        *,
        scale: float | None = None,
        column: list[str] | None = None,
        ids: list[str] | None = None,
        label: str | None = None,
    ) -> None:
        self.path, key = located(text)
        how = how or How(None, None)
        self.scale, self.ids, self.label = how.scale if scale is None else scale, ids or [], label
        self.is_table = is_table(self.path)
        if not self.is_table:
            for option, given in {"--column": column, "--id": ids, "--label-column": label}.items():
                if given is not None:
                    other = "pass --labels FILE[:KEY]" if option == "--label-column" else "leave it out"
                    raise InvalidSetting(f"{option} names columns of a table, and {self.path} is an array: {other}")
            self.array = read_array(self.path, key, self.scale)
            return
        self.table = tables.read_table(self.path, how.kinds)
        self.chosen = column or ([key] if key else None)
        tables.check_columns(self.table, [*(self.chosen or []), *self.ids, *([label] if label else [])], self.path)

    def __len__(self) -> int:
        return self.table.num_rows if self.is_table else len(self.array)

    def names(self) -> list[str]:
        """The columns that a row is made of, where nobody but the user has said which."""
        out = {*self.ids, self.label}
        return self.chosen or [name for name in self.table.column_names if name not in out]

    def rows(self, how: How) -> Any:
        """The rows."""
        if not self.is_table:
            return self.array
        from demur.rows.layout import Field

        if isinstance(how.layout, Field) and how.kinds is None and self.chosen is None:
            raise InvalidSetting(
                f"the guard does not know which columns of {self.path} a row is made of, nor their order: name them in "
                f"order, --column {','.join(self.names()[:3])},..."
            )
        names = self.chosen or list(how.kinds or self.names())
        tables.check_columns(self.table, names, self.path)
        return rows_of(self.table, how.layout, names, self.scale)

    def labels(self, given: str | None) -> Any:
        """The classes, in the file of `--labels` or the column of `--label-column`, as they are there."""
        if given is not None:
            return read_values(given)
        return None if self.label is None else tables.values_of(self.table, self.label, self.path)

    def id_columns(self) -> "dict[str, npt.NDArray[Any]]":
        """The columns that name the rows."""
        return {name: tables.values_of(self.table, name, self.path, missing=True) for name in self.ids}


def data_of(args: argparse.Namespace, text: str, how: How | None = None, *, label: bool = True) -> Data:
    """The data of `FILE[:KEY]`, with the options of the command."""
    return Data(
        text,
        how,
        scale=args.scale,
        column=names_in(getattr(args, "column", None)),
        ids=names_in(getattr(args, "id", None)),
        label=getattr(args, "label_column", None) if label else None,
    )


def rows_in(args: argparse.Namespace, text: str | None, how: How) -> Any:
    """The rows of `FILE[:KEY]`, which needs no labels; None where the user names no file."""
    return None if text is None else data_of(args, text, how, label=False).rows(how)


def rows_of(table: Any, layout: "Layout | None", names: list[str], scale: float | None) -> Any:
    """Rows of the columns of a table that are named, in that order."""
    from demur.rows.layout import Columns

    if layout is None:
        raise WrongType("the guard was saved by a demur that did not tell what rows are: pass an array, .npy or .npz")
    if isinstance(layout, Columns):
        if scale is not None:
            raise InvalidSetting("--scale multiplies arrays of numbers, and the classifier takes a table with columns")
        return tables.frame_of(table.select(names))
    from demur.batch import columns

    rows, faults = columns.rows_of(table.select(names), columns.Reading(layout, tuple(names), scale))
    if faults:
        number, reason = next(iter(faults.items()))
        raise WrongType(f"row {number}: {reason}")
    return rows


def rows_of_records(records: list[dict[str, Any]], how: How) -> Any:
    """Rows of objects by the names of columns, as JSON has them."""
    table = tables.table_of(records, how.kinds or {})
    names = list(how.kinds or table.column_names)
    if missing := [name for name in names if name not in table.column_names]:
        raise InvalidSetting(f"a row has no {', '.join(missing)}; it needs {', '.join(names)}")
    return rows_of(table, how.layout, names, how.scale)


def how_for(model: Any, data: Data) -> How:
    """How the rows of new training data are made for a classifier.

    A classifier that knows the names of its columns gets those, in its order. Others get all columns that neither name
    the rows nor hold their classes, in the order of the file.
    """
    from demur.classifiers import source_of
    from demur.rows.layout import Columns, Field

    layout = source_of(model).known_layout(model)
    if not data.is_table:
        return How(layout, None)
    knows_some = hasattr(model, "columns_in") and model.names is not None
    if knows_some:
        names = model.columns_in(data.table.column_names)
    elif getattr(model, "feature_names_in_", None) is not None:
        names = [str(name) for name in model.feature_names_in_]
    else:
        names = data.names()
    tables.check_columns(data.table, names, data.path)
    kinds = tables.kinds_of(data.table.select(names))
    if layout is None:
        plain = set(kinds.values()) <= {tables.WHOLE, tables.NUMBER, tables.TRUTH}
        takes_array = plain and not knows_some and not hasattr(model, "feature_names_in_")
        layout = Field((len(names),), None) if takes_array else Columns(tuple(names))
    return How(layout, kinds)


# Files ----------------------------------------------------------------------------------------------------------------


def located(text: str) -> tuple[Path, str | None]:
    """The path and the key of `FILE[:KEY]`.

    Raises:
        WrongType: the file is of a format that is not read.
        FileNotFoundError: there is no such file.
    """
    parts = DATA.fullmatch(text)
    if parts is None:
        raise WrongType(f"data is read from {', '.join(SUFFIXES)} files; got {text}")
    path = Path(parts["path"])
    if not path.exists():
        raise FileNotFoundError(f"there is no data at {path}: no such file")
    return path, parts["key"]


def is_table(path: Path) -> bool:
    """Whether a file holds a table."""
    return path.name.lower().endswith(tables.SUFFIXES)


def read_array(path: Path, key: str | None, scale: float | None = None) -> "npt.NDArray[Any]":
    """Read the array of a `.npy` file, or of this key in a `.npz` file, and multiply it by the scale, as float32.

    An array in a `.npy` file that is not scaled stays on disk until its rows are needed.

    Raises:
        WrongType: the file is not NumPy's, or holds something else than numbers and text.
        InvalidSetting: a key is missing, unknown or given where there is none.
    """
    import numpy as np

    rows: npt.NDArray[Any]
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            rows = loaded
        else:
            with loaded:
                rows = loaded[_chosen(path, loaded.files, key)]
    except InvalidSetting:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WrongType(
            f"{path} cannot be read: it is damaged, or no NumPy file, or holds Python objects, which are never loaded"
        ) from error
    if isinstance(loaded, np.ndarray) and key is not None:
        raise InvalidSetting(f"{path} holds one array without a name; leave out ':{key}'")
    if scale is None:
        return rows
    if rows.dtype.kind not in "buif":
        raise WrongType(f"{path} must hold real numbers to be scaled; got dtype {rows.dtype}")
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite, and the detector names their rows
        scaled: npt.NDArray[Any] = rows.astype("float32")
        scaled *= np.float32(scale)
    return scaled


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    """The name of the array that is asked for, or of the only one."""
    listed = ", ".join(f"{path}:{name}" for name in names) or "none"
    if key is None and len(names) != 1:
        raise InvalidSetting(f"{path} holds {len(names)} arrays; say which: {listed}")
    if key is not None and key not in names:
        raise InvalidSetting(f"{path} has no array {key!r}; it has {listed}")
    return names[0] if key is None else key


def read_values(text: str, usual: str | None = None) -> Any:
    """One value a row, `(n,)`, from an array or a column: the one that is named, the usual one, or the only one.

    Raises:
        InvalidSetting: there are several columns, and none is named.
    """
    path, key = located(text)
    if not is_table(path):
        return read_array(path, key or (usual if _holds(path, usual) else None)).reshape(-1)
    table = tables.read_table(path)
    present = table.column_names
    name = key or (usual if usual in present else present[0] if len(present) == 1 else None)
    if name is None:
        columns = ", ".join(f"{path}:{name}" for name in present)
        raise InvalidSetting(f"{path} has {len(present)} columns; say which: {columns}")
    return tables.values_of(table, name, path)


def _holds(path: Path, name: str | None) -> bool:
    """Whether a file is a `.npz` file with an array of this name."""
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return f"{name}.npy" in file.namelist()


def read_scores(text: str) -> Any:
    """Ready scores, in nats: `(n,)`."""
    import numpy as np

    scores = np.asarray(read_values(text, SCORES))
    if scores.dtype.kind not in "fiu":
        raise WrongType(f"scores are numbers, in nats; {text} holds {scores.dtype}")
    return scores.astype("float32")


def read_predicted(given: str | None, scores: str) -> Any:
    """The classes that the classifier predicted: from their own file, or beside the scores if they are there."""
    if given is not None:
        return read_values(given, PREDICTED)
    path, _ = located(scores)
    if is_table(path):
        table = tables.read_table(path)
        return tables.values_of(table, PREDICTED, path) if PREDICTED in table.column_names else None
    return read_array(path, PREDICTED) if _holds(path, PREDICTED) else None


def ready_scores(args: argparse.Namespace, labels: "Classes", *, needs_classes: bool) -> Any:
    """The scores of `--scores`, with the predicted classes where they are needed, as of a guard that has scored rows.

    Raises:
        InvalidSetting: the predicted classes are needed and not there.
    """
    scores = read_scores(args.scores)
    import numpy as np

    from demur.guards.results import Scored

    y = np.zeros(len(scores), "int64")
    if needs_classes:
        predicted = read_predicted(args.predicted, args.scores)
        if predicted is None:
            raise InvalidSetting(
                "the classes that the classifier predicted are needed beside the scores: --predicted FILE[:KEY], or a "
                f"column {PREDICTED}"
            )
        y = labels.indices(predicted, len(scores), "--predicted", "a class, for each of the {n} scores")
    return Scored(scores, y, y, np.empty(0, "int64"))
