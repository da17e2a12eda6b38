"""`demur evaluate`, `report` and `demo`: how much a saved detector is worth, as figures and as a page to read."""

import argparse
import re
import shlex
from pathlib import Path

from demur.cli import options
from demur.cli.data import data_of, rows_in
from demur.cli.files import check_file, check_writable
from demur.cli.guards import Document, decided, live
from demur.starting import start_keras

NORMS = ("Linf", "L2", "L1")
REPORT = ((".html", ".htm"), "a report is")
"""The endings of the name of a page."""


def register(commands: options.Commands) -> None:
    """Add the commands to the parser."""
    parser = options.add_command(commands, evaluate, options.FOLDER)
    rows = f"test inputs that neither fit nor threshold has seen: {options.FILES}"
    options.add(parser, f"--data FILE[:KEY]: {rows}", required=True)
    options.add_labels(parser, "their true classes", required=True)
    options.add(parser, "--train FILE[:KEY]: normal inputs, to compare with an ordinary autoencoder trained on them")
    options.add(parser, options.COLUMN, options.SCALE)
    options.add(parser, "--out FOLDER: where to write", default=Path("evaluation"))
    budget = "how long it may take, such as 10min: threats are then tried on fewer inputs, or left out"
    options.derive(parser, "evaluate", f"budget TIME: {budget}", type=str)
    options.add(
        parser,
        "--epsilon NORM=SIZE: the largest change an attack may make, such as Linf=0.03; may be given for each of Linf, "
        "L2 and L1",
        type=_epsilon,
        action="append",
    )
    options.add_bounds(parser, "the smallest and largest value in the inputs")
    for name in ("attacks", "corruptions"):
        text = f"{name} NAME,NAME: only these {name}, by name, or 'none'; default: all"
        options.derive(parser, "evaluate", text, type=_names)
    options.add(parser, "--report FILE.html: write the page that demur report makes, too")
    names = "class_names NAME,NAME: what the classes are called, for the report"
    options.derive(parser, "evaluate", names, "seed N")
    options.add(parser, "--quiet: no progress")
    options.add_classifier(parser)

    parser = options.add_command(commands, report)
    what = "evaluation: what an evaluation was written to"
    options.add(parser, what, action="store", type=Path, metavar="EVALUATION.json")
    options.add(parser, "-o --out FILE.html: where to write the page; default: the evaluation's name with .html")
    options.add(parser, "--title TEXT: of the page; default: the detector's name")


def register_demo(commands: options.Commands) -> None:
    """Add the demonstration to the parser."""
    parser = options.add_command(commands, demo)
    options.derive(parser, "demo", "dataset: the images", choices=["digits", "fashion_mnist", "mnist"])
    options.derive(parser, "demo", "seed N")
    options.add(parser, "--out FOLDER: for the results", default=Path("demur-demo"))


def evaluate(args: argparse.Namespace) -> int:
    """Tell how much a guard is worth: attackers who know it and who do not, corruption, cost.

    Writes evaluation.json to a folder, for demur report. Interrupted, the same command goes on where it stopped.
    """
    how = Document(args.folder).how
    data = data_of(args, args.data, how)
    X, y, X_train = data.rows(how), data.labels(args.labels), rows_in(args, args.train, how)
    check_writable(args.out)
    if args.report is not None:
        check_file(args.report, *REPORT)
    detector = decided(live(args.folder, args), args.folder)
    from demur.evaluation import run

    evaluation = run.evaluate(
        detector,
        X,
        y,
        X_train=X_train,
        epsilons=dict(args.epsilon or {}),
        bounds=None if args.bounds is None else tuple(args.bounds),
        class_names=None if args.class_names is None else args.class_names.split(","),
        out=args.out,
        verbose=not args.quiet,
        **options.values(args, ("attacks", "corruptions", "budget", "seed")),
    )
    print(f"\n{evaluation.summary()}\n\nwritten to {args.out / 'evaluation.json'}")
    if args.report is None:
        print(f"next:\n  demur report {shlex.quote(str(args.out / 'evaluation.json'))} -o report.html")
    else:
        from demur.report import write_report

        print(f"written to {write_report(evaluation, args.report)}")
    return 0


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
    print(f"{evaluation.summary()}\nwritten to {path}")
    return 0


def demo(args: argparse.Namespace) -> int:
    """Train, attack, detect and correct, on real images.

    Writes its results to a folder.
    """
    start_keras()
    from demur.demo import main

    return main(dataset=args.dataset, seed=args.seed, out=args.out)


def _names(text: str) -> list[str] | str | None:
    """Read names with commas between them; "none" for none, "default" for all."""
    if text in ("none", "default"):
        return None if text == "none" else text
    # Some names hold a comma themselves, with a space after it.
    return [name.strip() for name in re.split(r",(?! )", text)]


def _epsilon(text: str) -> tuple[str, float]:
    """Read `NORM=SIZE`."""
    from demur.checks import plain

    name, _, size = text.partition("=")
    norm = {plain(norm): norm for norm in NORMS}.get(plain(name))
    if norm is None:
        raise argparse.ArgumentTypeError(
            f"must be a norm, one of {', '.join(NORMS)}, and a size, NORM=SIZE; got {text!r}"
        )
    try:
        return norm, float(size)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must end in a number, NORM=SIZE; got {text!r}") from None
