"""Options that several commands share, and how their values are read."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
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


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a saved detector."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the detector, as demur fit has saved it")


def add_data(parser: argparse.ArgumentParser, what: str, batch_size: int | None, *, required: bool = True) -> None:
    """Add the options that say which rows to work on, and how."""
    parser.add_argument(
        "--data", required=required, metavar="FILE[:KEY]", help=f"{what}: .npy, or .npz and an array in it"
    )
    parser.add_argument(
        "--scale",
        type=scale_factor,
        metavar="FACTOR",
        help="multiply the data by this, as float32 (0.00392157 takes bytes to 0..1); "
        "demur never rescales by itself, so use the same with every command",
    )
    parser.add_argument(
        "--batch-size",
        type=whole_number,
        default=batch_size,
        metavar="N",
        help=f"rows a step; default: {'256, or what memory allows' if batch_size is None else batch_size}",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def shows_bar(args: argparse.Namespace) -> bool:
    """Whether a progress bar is wanted."""
    return not args.quiet


def show_next(args: argparse.Namespace, when: str, command: str) -> None:
    """Print what to do next, with the same scale."""
    scale = "" if args.scale is None else f" --scale {args.scale!r}"
    print(f"next, {when}:\n  demur {command}{scale}")


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
