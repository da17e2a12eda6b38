"""`demur report`: an evaluation as a page to read, print and pass on."""

import argparse
from pathlib import Path

from demur.cli.files import check_file
from demur.cli.options import Commands, add, add_command

REPORT = ((".html", ".htm"), "a report is")
"""How the file of a page may be called."""


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, report)
    add(parser, "evaluation: what an evaluation was written to", action="store", type=Path, metavar="EVALUATION.json")
    add(parser, "-o --out FILE.html: where to write the page; default: the evaluation's name with .html")
    add(parser, "--title TEXT: of the page; default: the detector's name")


def report(args: argparse.Namespace) -> int:
    """Write an evaluation as one page for the browser.

    The page is one file: it needs no network, no script and no other file, and prints well.
    """
    path: Path = args.evaluation.with_suffix(".html") if args.out is None else args.out
    check_file(path, *REPORT)
    from demur.evaluation.result import Evaluation
    from demur.report import write_report

    evaluation = Evaluation.from_json(args.evaluation)
    write_report(evaluation, path, title=args.title)
    print(evaluation.summary())
    print(f"written to {path}")
    return 0
