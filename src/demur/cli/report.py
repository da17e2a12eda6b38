"""`demur report`: an evaluation as a page to read, print and pass on."""

import argparse
from pathlib import Path

from demur.cli.files import check_writable
from demur.cli.options import Commands, add_command
from demur.errors import InvalidSetting


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "report",
        run,
        "write an evaluation as one page for the browser",
        "The page is one file: it needs no network, no script and no other file, and prints well.",
    )
    parser.add_argument("evaluation", type=Path, metavar="EVALUATION.json", help="what an evaluation was written to")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE.html",
        help="where to write the page; default: the evaluation's name with .html",
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page; default: the detector's name")


def run(args: argparse.Namespace) -> int:
    """Write the page, and show its summary."""
    path: Path = args.evaluation.with_suffix(".html") if args.out is None else args.out
    _check_page(path)
    from demur.evaluation.result import Evaluation
    from demur.report import summary, write_report

    evaluation = Evaluation.from_json(args.evaluation)
    write_report(evaluation, path, title=args.title)
    for sentence in summary(evaluation):
        print(sentence)
    print(f"written to {path}")
    return 0


def _check_page(path: Path) -> None:
    """Raise, before any work is done, where no page can be written."""
    if path.suffix.lower() not in {".html", ".htm"}:
        raise InvalidSetting(f"a report is written to a .html file; got {path}")
    if path.is_dir():
        raise InvalidSetting(f"{path} is a folder; a report is written to a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to: make it first")
    check_writable(path.parent)
