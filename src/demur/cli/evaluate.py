"""`demur evaluate`: how much a saved detector is worth on labelled test data."""

import argparse
import re
import shlex
from pathlib import Path

from demur.cli.files import check_writable, read_rows
from demur.cli.options import Commands, add_command, add_folder, natural_number, scale_factor
from demur.errors import ThresholdNotSet
from demur.starting import start_keras

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
        "--data", required=True, metavar="FILE[:KEY]", help="test inputs that neither fit nor threshold has seen"
    )
    parser.add_argument("--labels", required=True, metavar="FILE[:KEY]", help="their true classes")
    parser.add_argument(
        "--train", metavar="FILE[:KEY]", help="normal inputs, to compare with an ordinary autoencoder trained on them"
    )
    parser.add_argument(
        "--scale", type=scale_factor, metavar="FACTOR", help="multiply the inputs by this, as with the other commands"
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help="how long it may take, such as 10min: fewer inputs are tried then",
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
    parser.add_argument("--class-names", metavar="NAME,NAME", help="what the classes are called, for the report")
    parser.add_argument("--seed", type=natural_number, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Evaluate a detector, write the evaluation and say the gist of it."""
    X = read_rows(args.data, args.scale)
    y = read_rows(args.labels)
    X_train = None if args.train is None else read_rows(args.train, args.scale)
    check_writable(args.out)
    start_keras()
    from demur.evaluation.running import evaluate
    from demur.loading import load_detector

    detector = load_detector(args.folder)
    if detector.threshold is None:
        first = f"demur threshold {shlex.quote(str(args.folder))} --data HELD_OUT.npz --fpr 0.05"
        raise ThresholdNotSet(f"{args.folder} has no threshold yet; first: {first}")
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
    from demur.report import summary

    print()
    for sentence in summary(evaluation):
        print(sentence)
    print(f"\nwritten to {args.out / 'evaluation.json'}")
    print(f"next:\n  demur report {shlex.quote(str(args.out / 'evaluation.json'))} -o report.html")
    return 0


def _names(text: str) -> list[str] | str | None:
    """Read names with commas between them; "none" for none, "default" for all."""
    if text in ("none", "default"):
        return None if text == "none" else text
    # Some names hold a comma themselves, with a space after it.
    return [name.strip() for name in re.split(r",(?! )", text)]


def _epsilon(text: str) -> tuple[str, float]:
    """Read `NORM=SIZE`."""
    norm, _, size = text.partition("=")
    if norm not in NORMS:
        raise argparse.ArgumentTypeError(
            f"must be a norm, one of {', '.join(NORMS)}, and a size, NORM=SIZE; got {text!r}"
        )
    try:
        return norm, float(size)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must end in a number, NORM=SIZE; got {text!r}") from None
