"""Options of the command line: how they are written down, derived from signatures, and how their values are read."""

import argparse
import csv
import difflib
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from demur.cli.signatures import parameters

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001
"""What `add_subparsers` returns; argparse has no public name for it."""
Container: TypeAlias = "argparse._ActionsContainer"  # noqa: SLF001
"""A parser, or a group of options in a parser."""


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their whole names alone, and names the nearest one of a misspelt option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)
        self._given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what is left over is an error of the command that it was given to, whose options are known."""
        self._given = sys.argv[1:] if args is None else args
        known, left = super().parse_known_args(args, namespace)
        if left:
            is_word = not left[0].startswith("-") and "--data" in self.format_usage()
            hint = f": rows are given as --data {left[0]}" if is_word else ""
            self.error(f"unrecognized arguments: {' '.join(left)}{hint}")
        return known, left

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and end with status 2."""
        known = re.findall(r"--[a-z0-9-]+", self.format_usage())
        unknown = {word.partition("=")[0] for word in self._given if word.startswith("--")}.difference(known)
        near = [match for name in sorted(unknown) for match in difflib.get_close_matches(name, known, 1)]
        super().error(message + (f" (did you mean {', '.join(near)}?)" if near else ""))


def add_command(
    commands: Commands,
    run: Callable[[argparse.Namespace], int],
    *specs: str,
    name: str | None = None,
    text: str | None = None,
) -> Parser:
    """Add a command, with the name and the docstring of the function which carries it out, or with others.

    The first line of the docstring is what the list of commands says; the specs are as those of `add`. `args.parser`
    becomes the command's parser.
    """
    first, _, rest = (text or run.__doc__ or "").partition("\n")
    name = name or run.__name__.replace("_", "-")
    summary = f"{first[:1].lower()}{first[1:]}".removesuffix(".")
    parser = commands.add_parser(name, help=summary, description=f"{first} {' '.join(rest.split())}")
    parser.set_defaults(run=run, parser=parser)
    add(parser, *specs)
    return parser


def add(to: Container, *specs: str, **settings: Any) -> None:
    """Add arguments and options that are written down as they are shown.

    A spec is "-o --out FILE: help", "--quiet: help" for a flag, or "folder FOLDER: help" for an argument. The name of
    the value says how it is read, as in `TYPES`; FILE, FOLDER and so on are paths. The settings are `add_argument`'s.
    """
    for spec in specs:
        head, _, text = spec.partition(": ")
        names = [word for word in head.split() if word.startswith("-")] or head.split()[:1]
        value, own = head.split()[-1], dict(settings)
        if "action" not in own and value == names[-1]:
            own["action"] = "store_true"
        elif value != names[-1]:
            own.setdefault("metavar", value)
        if value in TYPES:
            own.setdefault("type", TYPES[value])
        elif re.fullmatch(r"(FILE|FOLDER|GUARD|CLASSIFIER|EVALUATION)(\.\w+)?", value):
            own.setdefault("type", Path)
        to.add_argument(*names, help=_with_default(text, own.get("default")).replace("%", "%%"), **own)


def _with_default(text: str, default: Any) -> str:
    if default is None or isinstance(default, bool | list | tuple) or "default" in text:
        return text
    return f"{text}; default: {default:g}" if isinstance(default, float) else f"{text}; default: {default}"


def derive(to: Container, source: str, *specs: str, **settings: Any) -> None:
    """Add options that set parameters: names, defaults, kinds of values and help are the parameters' own.

    A flag that is on by default becomes an option "--no-...", and an option that takes several values may be repeated.
    The parameters are those of `source`, a name in `signatures.SOURCES`. A spec is "name", "name VALUE" to call the
    value so, or "name VALUE: help" where the docstring speaks of Python. The settings are `add_argument`'s, in the
    place of the parameters' own; `default=None` tells what is not given.
    """
    for spec in specs:
        head, _, text = spec.partition(": ")
        name, *value = head.split()
        parameter = parameters(source)[name]
        default = parameter.default
        own: dict[str, Any] = {"dest": name, "default": default, "action": "store"}
        option = f"--{name.replace('_', '-')}"
        kinds = re.split(r"\W+", parameter.kind)
        if "bool" in kinds:
            own["action"] = "store_false" if default else "store_true"
            option = option.replace("--", "--no-") if default else option
        elif "tuple" in kinds:
            own |= {"action": "append", "default": []}
            option = option.removesuffix("s")
        elif kinds[0] == "Literal":
            own["choices"] = re.findall(r"'([^']+)'", parameter.kind)
        elif "int" in kinds:
            own["type"] = natural_number if default == 0 else whole_number
        elif "float" in kinds or "str" in kinds:
            own["type"] = float if "float" in kinds else str
        text = _with_default(text or parameter.text, default)
        add(to, f"{' '.join([option, *value])}: {text}", **own | settings)


def values(args: argparse.Namespace, specs: Iterable[str]) -> dict[str, Any]:
    """The values of the options that `derive` made of these specs, by the names of the parameters."""
    return {name: getattr(args, name) for name in map(name_of, specs)}


def name_of(spec: str) -> str:
    """The name of the parameter that a spec of `derive` is about."""
    return re.split(r"\W", spec)[0]


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


# Values ---------------------------------------------------------------------------------------------------------------


def names_in(text: str | None) -> list[str] | None:
    """Names with commas between them; a name that holds a comma stands in quotation marks, as in CSV."""
    return None if text is None else [name.strip() for name in next(csv.reader([text], skipinitialspace=True))]


def number(text: str, what: str, allows: Callable[[float], bool], kind: type[float] = float) -> float:
    """Read a finite number of some kind."""
    try:
        found = kind(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and allows(found)):
        raise argparse.ArgumentTypeError(f"must be {what}; got {text!r}")
    return found


def whole_number(text: str, least: int = 1) -> int:
    """Read a whole number."""
    return int(number(text, f"a whole number of at least {least}", lambda found: found >= least, int))


def natural_number(text: str) -> int:
    """Read a whole number of at least 0."""
    return whole_number(text, 0)


def scale_factor(text: str) -> float:
    """Read a finite number other than 0."""
    return number(text, "a finite number other than 0", lambda factor: factor != 0)


TYPES: dict[str, Callable[[str], Any]] = {"N": whole_number, "FACTOR": scale_factor, "EPSILON": float, "RADIUS": float}
"""How values of these names are read."""

# Options of several commands ------------------------------------------------------------------------------------------

FILES = ".npy; .npz and an array in it; a table, .csv, .tsv or .parquet"
FOLDER = "folder FOLDER: the guard's folder, as demur fit has saved it"
COLUMN = (
    "--column NAME,...: the columns of a table that a row is made of, in order; default: those that the guard or the "
    "classifier knows, otherwise all but --id and --label-column"
)
ID = "--id NAME,...: columns that name the rows: kept in --out, and no part of the rows"
SCALE = (
    "--scale FACTOR: multiply the data by this, as float32 (0.00392157 takes bytes to 0..1); the guard remembers what "
    "demur fit was told, and 1 leaves data as they are"
)
SCORES = (
    "--scores FILE[:KEY]: scores that are ready, in place of rows: an array or a column, by default instance_score, as "
    "demur score writes it. Neither Keras nor the classifier is loaded",
    "--predicted FILE[:KEY]: with --scores, the classes that the classifier predicted, for a guard with a threshold "
    "for each; default: the column no_defense beside the scores",
)


def add_data(parser: Container, what: str, batch_size: int | None, *, required: bool = True) -> None:
    """Add the options that say which rows to work on, and how."""
    add(parser, f"--data FILE[:KEY]: {what}: {FILES}", required=required)
    add(parser, COLUMN, ID, SCALE)
    steps = "rows a step" + ("; default: 256, or what memory allows" if batch_size is None else "")
    add(parser, f"--batch-size N: {steps}", default=batch_size)
    add(parser, "--quiet: no progress bar")


def add_labels(parser: Parser, what: str, *, required: bool = False) -> None:
    """Add the two ways to name true classes: a file of their own, or a column of the data."""
    which = parser.add_mutually_exclusive_group(required=required)
    labels = f"--labels FILE[:KEY]: {what}: an array, or a column of a table"
    add(which, labels, "--label-column NAME: the same, in a column of the data")


def add_bounds(parser: Container, what: str) -> None:
    """Add the option that limits what numbers may become."""
    add(parser, f"--bounds: {what}", action="store", type=float, nargs=2, metavar=("LOW", "HIGH"))


def add_classifier(parser: Parser) -> None:
    """Add the options that name a classifier which is not in the guard's folder."""
    group = parser.add_argument_group(
        "the classifier", "For a guard whose classifier is no Keras model: its folder holds the companion alone"
    )
    add(group, "--classifier FILE: the classifier's file, as demur fit was given it")
    add_module_and_trust(group)


def add_module_and_trust(group: Container) -> None:
    """Add what some formats of classifiers need to be read."""
    add(
        group,
        "--module MODULE:FUNCTION: for .safetensors: what makes the PyTorch module, without arguments; it is "
        "imported, from the current folder too",
    )
    trust = (
        "--trust TYPE: for .skops: a type in the file that skops does not trust by itself, and you do; may be repeated"
    )
    add(group, trust, action="append", default=[])


# What comes next ------------------------------------------------------------------------------------------------------


def show_next(args: argparse.Namespace, when: str, command: str, path: Path, data: str = "", more: str = "") -> None:
    """Print the command to run next on what this one has written to the path.

    The data of the next command, if it takes any, are a file of the kind that this one has read, and its classifier is
    the same.
    """
    command += f" {shlex.quote(str(path))}"
    if data:
        command += f" --data {data}{suffix_of(args.data)}{classifier_options(args)}"
    print(f"next, {when}:\n  demur {command}{more}")


def suffix_of(data: str | None) -> str:
    """The suffix of a table; .npz for arrays, which others are likely to lie beside, and the array's key."""
    found = re.search(r"\.(csv|tsv|parquet|parq|pq)(\.gz)?(?=:|$)", data or "", re.IGNORECASE)
    key = re.search(r"\.npz(:\w+)$", data or "", re.IGNORECASE)
    return found[0] if found else f".npz{key[1] if key else ''}"


def classifier_options(args: argparse.Namespace) -> str:
    """The options that later commands need for a classifier which the guard's folder does not hold."""
    file: Path | None = args.classifier
    named = []
    if file is not None and file.suffix.lower() not in (".keras", ".safetensors"):  # the folder has their weights
        named += ["--classifier", str(file)]
    if args.module is not None:
        named += ["--module", args.module]
    for name in args.trust:
        named += ["--trust", name]
    return "".join(f" {shlex.quote(part)}" for part in named)
