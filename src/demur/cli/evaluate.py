"""`demur evaluate`: how much a saved detector is worth on labelled test data."""

import argparse
import re
import shlex
from pathlib import Path

from demur.checks import plain
from demur.cli.data import data_of
from demur.cli.files import check_file, check_writable
from demur.cli.guards import Document, add_classifier, live, no_threshold
from demur.cli.options import FILES, Commands, add_columns, add_command, add_folder, add_labels, natural_number
from demur.cli.report import REPORT

NORMS = ("Linf", "L2", "L1")


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        "tell how much a guard is worth: attackers who know it and who do not, corruption, cost",
        "Writes evaluation.json to a folder, for demur report. Interrupted, the same command goes on where it stopped.",
    )
    add_folder(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE[:KEY]",
        help=f"test inputs that neither fit nor threshold has seen: {FILES}",
    )
    add_labels(parser, "their true classes", required=True)
    parser.add_argument(
        "--train", metavar="FILE[:KEY]", help="normal inputs, to compare with an ordinary autoencoder trained on them"
    )
    add_columns(parser, ids=False)
    parser.add_argument("--out", type=Path, default=Path("evaluation"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help="how long it may take, such as 10min: threats are then tried on fewer inputs, or left out",
    )
    parser.add_argument(
        "--epsilon",
        type=_epsilon,
        action="append",
        metavar="NORM=SIZE",
        help="the largest change an attack may make, such as Linf=0.03; may be given for each of Linf, L2 and L1",
    )
    parser.add_argument(
        "--bounds", type=float, nargs=2, metavar=("LOW", "HIGH"), help="the smallest and largest value in the inputs"
    )
    for name in ("attacks", "corruptions"):
        parser.add_argument(
            f"--{name}",
            type=_names,
            default="default",
            metavar="NAME,NAME",
            help=f"only these {name}, by name, or 'none'; default: all",
        )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write the page that demur report makes, too")
    parser.add_argument("--class-names", metavar="NAME,NAME", help="what the classes are called, for the report")
    parser.add_argument("--seed", type=natural_number, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_classifier(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate a detector, write the evaluation and say the gist of it."""
    how = Document(args.folder).how
    data = data_of(args, args.data, how)
    X, y = data.rows(how), data.labels(args.labels)
    X_train = None if args.train is None else data_of(args, args.train, how, label=False).rows(how)
    check_writable(args.out)
    if args.report is not None:
        check_file(args.report, *REPORT)
    detector = live(args.folder, args)
    if detector.threshold is None:
        raise no_threshold(args.folder)
    from demur.evaluation.running import evaluate

    evaluation = evaluate(
        detector,
        X,
        y,
        attacks=args.attacks,
        corruptions=args.corruptions,
        X_train=X_train,
        budget=args.budget,
        epsilons=dict(args.epsilon or {}),
        bounds=None if args.bounds is None else tuple(args.bounds),
        class_names=None if args.class_names is None else args.class_names.split(","),
        seed=args.seed,
        out=args.out,
        verbose=not args.quiet,
    )
    print(f"\n{evaluation.summary()}\n\nwritten to {args.out / 'evaluation.json'}")
    if args.report is None:
        print(f"next:\n  demur report {shlex.quote(str(args.out / 'evaluation.json'))} -o report.html")
    else:
        from demur.report import write_report

        print(f"written to {write_report(evaluation, args.report)}")
    return 0


def _names(text: str) -> list[str] | str | None:
    """Read names with commas between them; "none" for none, "default" for all."""
    if text in ("none", "default"):
        return None if text == "none" else text
    # Some names hold a comma themselves, with a space after it.
    return [name.strip() for name in re.split(r",(?! )", text)]


def _epsilon(text: str) -> tuple[str, float]:
    """Read `NORM=SIZE`."""
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
