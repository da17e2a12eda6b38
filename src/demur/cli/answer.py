"""`demur score`, `predict` and `correct`: what a detector says of new inputs."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.cli import batch
from demur.cli.files import check_output, read_rows, write_table
from demur.cli.options import Commands, add_command, add_data, add_folder, shows_bar
from demur.errors import ThresholdNotSet
from demur.starting import start_keras

if TYPE_CHECKING:
    import numpy.typing as npt

BATCH_SIZE = 256
COMMANDS = {
    "score": (
        "score inputs: how far the detector's opinion is from the classifier's",
        "Columns: instance_score, in nats. Needs no threshold.",
    ),
    "predict": (
        "flag the inputs on which the classifier should not be trusted",
        "Columns: is_adversarial, instance_score, p_value.",
    ),
    "correct": (
        "flag inputs and give each its class: the detector's where flagged, the classifier's elsewhere",
        "Columns: is_adversarial, instance_score, p_value, corrected, no_defense (the classifier's class), "
        "defense (the detector's).",
    ),
}


def register(commands: Commands) -> None:
    """Add the commands to the parser."""
    for name, (summary, more) in COMMANDS.items():
        parser = add_command(commands, name, run, summary, more)
        if name == "score":
            parser.add_argument("folder", nargs="+", metavar="FOLDER", help="the detector; with --guard, the data")
        else:
            add_folder(parser)
        add_data(parser, "the inputs", batch_size=None if name == "score" else BATCH_SIZE, required=name != "score")
        parser.add_argument(
            "--out",
            type=str if name == "score" else Path,
            metavar="FILE",
            help="write one row an input to this .npz, .csv or .parquet file; without it, only a summary is shown"
            + ("; with --guard, a folder" if name == "score" else ""),
        )
        if name == "score":
            batch.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Have a detector score, flag or correct inputs; write what it says and show a summary."""
    if args.command == "score":
        if args.guard is not None:
            return batch.run(args)
        _as_the_others(args)
    if args.out is not None:
        check_output(args.out)
    X = read_rows(args.data, args.scale)
    start_keras()
    import numpy as np

    from demur.loading import load_detector

    detector = load_detector(args.folder)
    options: dict[str, Any] = {"batch_size": args.batch_size, "verbose": shows_bar(args)}
    columns: dict[str, npt.NDArray[Any]]
    if args.command == "score":
        columns = {"instance_score": detector.score(X, **options)}
    elif detector.threshold is None:
        first = f"demur threshold {shlex.quote(str(args.folder))} --data HELD_OUT.npz"
        raise ThresholdNotSet(f"{args.folder} has no threshold yet; first: {first}")
    else:
        columns = getattr(detector, args.command)(X, **options)["data"]
        if "invalid" in columns:  # the indices of such rows: as a column, whether a row is one
            columns["invalid"] = np.isin(np.arange(len(X)), columns["invalid"])
    if args.out is not None:
        write_table(args.out, columns)
    print(f"{type(detector).__name__}, {len(X):,} inputs")
    for label, text in summary(columns, detector.threshold).items():
        print(f"  {label:<9}  {text}")
    if args.out is not None:
        print(f"written to {args.out}")
    return 0


def _as_the_others(args: argparse.Namespace) -> None:
    """Read the arguments of `demur score FOLDER --data FILE` as those of `predict` and `correct` are."""
    if args.data is None:
        args.parser.error("the following arguments are required: --data, or --guard for many rows on a cluster")
    if len(args.folder) > 1:
        args.parser.error(f"one folder, of one detector; got {' '.join(args.folder)}")
    args.folder = Path(args.folder[0])
    args.out = None if args.out is None else Path(args.out)
    args.batch_size = args.batch_size or BATCH_SIZE


def summary(columns: "dict[str, npt.NDArray[Any]]", threshold: Any) -> dict[str, str]:
    """Say in a few labelled lines what the columns hold."""
    import numpy as np

    score = columns["instance_score"]
    lines = {}
    if "is_adversarial" in columns:
        flagged = int(columns["is_adversarial"].sum())
        share = f"{flagged / len(score):.1%}".replace("%", " %")
        limit = "its class's threshold" if np.ndim(threshold) else f"the threshold of {threshold:.4g} nats"
        lines["flagged"] = f"{flagged:,} ({share}), above {limit}"
    if "corrected" in columns:
        changed = int((columns["corrected"] != columns["no_defense"]).sum())
        lines["corrected"] = f"{changed:,}, given another class than the classifier's"
    quantiles = np.quantile(score, [0, 0.5, 0.9, 0.99, 1], method="lower" if np.isinf(score).any() else "linear")
    names = ("lowest", "median", "90 % below", "99 % below", "highest")
    lines["score"] = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, quantiles, strict=True))
    return lines
