"""The command line: `demur fit`, `threshold`, `score`, `predict`, `correct`, `drift`, and others.

Keras and NumPy are imported by the functions that compute, never by a module here, so that `--help` answers at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demur._version import __version__
from demur.cli import answers, calibration, drift, evaluation, export, fit, info, server
from demur.cli.options import Parser
from demur.errors import DemurError, DemurWarning

ABOUT = """\
A second opinion on a trained classifier: train a detector on normal data, and have it flag the inputs on which the
classifier should not be trusted, and correct what it can.
"""

EXAMPLE = """\
in this order:
  demur fit classifier.keras --data train.npz:images --out guard
  demur threshold guard --data held_out.npy --fpr 0.05
  demur correct guard --data new.npy --out answers.csv

with a classifier of another kind, and a table:
  demur fit forest.skops --data train.csv --label-column approved --out guard
  demur threshold guard --classifier forest.skops --data held_out.csv --fpr 0.05
  demur correct guard --classifier forest.skops --data new.csv --id customer --out answers.csv

data:
  A .npy file; a .npz file and the name of the array in it, data.npz:images; or a table, .csv, .tsv or .parquet. Pass it
  as the classifier takes it: demur rescales only what --scale says; what demur fit was told, the guard remembers.

The variable KERAS_BACKEND says what Keras computes with: tensorflow, jax or torch.
"""


def build_parser() -> Parser:
    """The parser with all commands."""
    parser = Parser(
        prog="demur", description=ABOUT, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"demur {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in (fit, calibration, info, answers, drift):
        module.register(commands)
    calibration.register_accuracy(commands)
    for module in (evaluation, export, server):
        module.register(commands)
    evaluation.register_demo(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0; 1 after an error; 3 for drift; 130 after Ctrl-C.

    Args:
        argv: the arguments; by default the process's.

    Raises:
        SystemExit: from argparse, with status 2 for arguments that cannot be understood and 0 for `--help`.
    """
    args = build_parser().parse_args(argv)
    written, warnings.formatwarning = warnings.formatwarning, _warning
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ndemur: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has left, as `head` does; Python would complain at its exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DemurError, OSError) as error:
        print(f"demur: error: {_message(error)}", file=sys.stderr)
        return 1
    finally:
        warnings.formatwarning = written
    return status


def _warning(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning as the user of a program reads it: demur's own without a place in the source code."""
    is_own = issubclass(category, DemurWarning) or Path(filename).is_relative_to(Path(__file__).parents[1])
    if issubclass(category, UserWarning) and is_own:
        return f"demur: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n{f'  {line}' if line else ''}"


def _message(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror + (f": {error.filename}" if error.filename is not None else "")
    first, *more = str(error).splitlines() or [repr(error)]
    return f"{first} ..." if more else first
