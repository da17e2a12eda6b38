"""Options that several commands share, and how their values are read."""

import argparse
import csv
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What `add_subparsers` returns; argparse has no public name for it."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], summary: str, more: str
) -> argparse.ArgumentParser:
    """Add a command that `run` carries out; `args.parser` is its parser, for errors of usage."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}", allow_abbrev=False
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


GUARD = "the guard's folder, as demur fit has saved it"


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a saved detector."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=GUARD)


def add_data(parser: argparse.ArgumentParser, what: str, batch_size: int | None, *, required: bool = True) -> None:
    """Add the options that say which rows to work on, and how."""
    parser.add_argument("--data", required=required, metavar="FILE[:KEY]", help=f"{what}: {FILES}")
    add_columns(parser)
    parser.add_argument(
        "--batch-size",
        type=whole_number,
        default=batch_size,
        metavar="N",
        help=f"rows a step; default: {'256, or what memory allows' if batch_size is None else batch_size}",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


FILES = ".npy; .npz and an array in it; a table, .csv, .tsv or .parquet"


def add_columns(parser: argparse.ArgumentParser, *, ids: bool = True) -> None:
    """Add the options that say how rows are made of what is in a file."""
    parser.add_argument(
        "--column",
        metavar="NAME,...",
        help="the columns of a table that a row is made of, in order; default: those that the guard or the classifier "
        "knows, otherwise all but --id and --label-column",
    )
    if ids:
        parser.add_argument(
            "--id", metavar="NAME,...", help="columns that name the rows: kept in --out, and no part of the rows"
        )
    add_scale(parser)


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Add the option that scales data."""
    parser.add_argument(
        "--scale",
        type=scale_factor,
        metavar="FACTOR",
        help="multiply the data by this, as float32 (0.00392157 takes bytes to 0..1); the guard remembers what demur "
        "fit was told, and 1 leaves data as they are",
    )


def add_labels(parser: argparse.ArgumentParser, what: str, *, required: bool = False) -> None:
    """Add the two ways to name true classes: a file of their own, or a column of the data."""
    which = parser.add_mutually_exclusive_group(required=required)
    which.add_argument("--labels", metavar="FILE[:KEY]", help=f"{what}: an array, or a column of a table")
    which.add_argument("--label-column", metavar="NAME", help="the same, in a column of the data")


def add_scores(parser: argparse.ArgumentParser) -> None:
    """Add the options for scores that are ready."""
    parser.add_argument(
        "--scores",
        metavar="FILE[:KEY]",
        help="scores that are ready, in place of rows: an array or a column, by default instance_score, as demur score "
        "writes it. Neither Keras nor the classifier is loaded",
    )
    parser.add_argument(
        "--predicted",
        metavar="FILE[:KEY]",
        help="with --scores, the classes that the classifier predicted, for a guard with a threshold for each; "
        "default: the column no_defense beside the scores",
    )


def names_in(text: str | None) -> list[str] | None:
    """Names with commas between them; one that holds a comma in quotation marks, as in CSV."""
    return None if text is None else [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]


def shows_bar(args: argparse.Namespace) -> bool:
    """Whether a progress bar is wanted."""
    return not args.quiet


def show_next(args: argparse.Namespace, when: str, command: str, data: str = "", more: str = "") -> None:
    """Print what to do next, with the same kind of file and the same classifier.

    Args:
        args: of this command.
        when: and with what.
        command: to run.
        data: what the next command's data is called; none for a command that takes none.
        more: options that come last.
    """
    if data:
        command += f" --data {data}{suffix_of(args.data)}{classifier_options(args)}"
    print(f"next, {when}:\n  demur {command}{more}")


def suffix_of(data: str | None) -> str:
    """The suffix of a table; .npz for arrays, which others are likely to lie beside, and its key."""
    found = re.search(r"\.(csv|tsv|parquet|parq|pq)(\.gz)?(?=:|$)", data or "", re.IGNORECASE)
    key = re.search(r"\.npz(:\w+)$", data or "", re.IGNORECASE)
    return found[0] if found else f".npz{key[1] if key else ''}"


def classifier_options(args: argparse.Namespace) -> str:
    """The options that later commands need for a classifier which the guard's folder does not hold."""
    file: Path | None = args.classifier
    given = []
    if file is not None and file.suffix.lower() not in (
        ".keras",
        ".safetensors",
    ):  # the folder has their weights
        given += ["--classifier", str(file)]
    if args.module is not None:
        given += ["--module", args.module]
    for name in args.trust:
        given += ["--trust", name]
    return "".join(f" {shlex.quote(part)}" for part in given)


def whole_number(text: str) -> int:
    """Read a whole number of at least 1."""
    return _integer(text, 1)


def natural_number(text: str) -> int:
    """Read a whole number of at least 0."""
    return _integer(text, 0)


def hidden_layer(text: str) -> tuple[int | str, int]:
    """Read `NAME=DIM`; a name that is a whole number is a layer's index."""
    name, equals, dimension = text.rpartition("=")
    if not (equals and name):
        raise argparse.ArgumentTypeError(f"must be a layer and its output dimension, NAME=DIM; got {text!r}")
    try:
        layer: int | str = int(name)
    except ValueError:
        layer = name
    return layer, _integer(dimension, 2)


def class_list(text: str) -> list[str] | list[int]:
    """Read what classes are called, with commas between them: whole numbers, if all of them are."""
    names = [name.strip() for name in text.split(",")]
    try:
        return [int(name) for name in names]
    except ValueError:
        return names


def _integer(text: str, least: int) -> int:
    if not (text.isdecimal() and int(text) >= least):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}; got {text!r}")
    return int(text)


def scale_factor(text: str) -> float:
    """Read a finite number other than 0."""
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not math.isfinite(factor) or factor == 0:
        raise argparse.ArgumentTypeError(f"must be a finite number other than 0; got {text!r}")
    return factor
