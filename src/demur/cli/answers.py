"""`demur score`, `predict` and `correct`: what a detector says of new inputs."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from demur.cli import batch
from demur.cli.data import classes_of, data_of, read_scores
from demur.cli.files import check_output, write_table
from demur.cli.guards import how_of, no_threshold, opened
from demur.cli.options import Commands, add, add_classifier, add_command, add_data, add_scores
from demur.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

BATCH_SIZE = 256
GUARD = "the guard: its folder, or the .onnx file that demur export wrote"
COMMANDS = {
    "score": """Score inputs: how far the detector's opinion is from the classifier's.
        Columns: instance_score, in nats. Needs no threshold.""",
    "predict": """Flag the inputs on which the classifier should not be trusted.
        Columns: is_adversarial, instance_score, p_value.""",
    "correct": """Flag inputs and give each its class: the detector's where flagged, the classifier's elsewhere.
        Columns: is_adversarial, instance_score, p_value, corrected, no_defense (the classifier's class), defense (the
        detector's).""",
}


def register(commands: Commands) -> None:
    """Add the commands to the parser."""
    for name, text in COMMANDS.items():
        parser = add_command(commands, run, name, text)
        if name == "score":
            add(parser, f"folder: {GUARD}; with --guard, the data", action="store", nargs="+", metavar="GUARD")
        else:
            add(parser, f"folder GUARD: {GUARD}")
        add_data(parser, "the inputs", batch_size=None if name == "score" else BATCH_SIZE, required=name == "correct")
        if name == "predict":
            add_scores(parser)
        add(
            parser,
            "--out FILE: write one row an input to this .npz, .csv or .parquet file; without it, only a summary is "
            f"shown{'; with --guard, a folder' if name == 'score' else ''}",
            type=str if name == "score" else Path,
        )
        if name == "score":
            batch.add_options(parser)
        add_classifier(parser)


def run(args: argparse.Namespace) -> int:
    """Have a detector score, flag or correct inputs; write what it says and show a summary."""
    if args.command == "score":
        if args.guard is not None:
            return batch.run(args)
        _as_the_others(args)
    if args.out is not None:
        check_output(args.out)
    found, ids = _from_scores(args) if getattr(args, "scores", None) else _from_rows(args)
    if args.out is not None:
        write_table(args.out, with_ids(ids, found["data"]))
    print(found.summary())
    if args.out is not None:
        print(f"written to {args.out}")
    return 0


def _from_rows(args: argparse.Namespace) -> tuple[Any, "Arrays"]:
    """What the guard says of rows, and the columns that name these."""
    if args.data is None:
        args.parser.error("the following arguments are required: --data, or --scores for scores that are ready")
    how = how_of(args.folder)
    data = data_of(args, args.data, how)
    X = data.rows(how)
    guard = opened(args.folder, args)
    import numpy as np

    from demur.guards.results import Result

    guard.check_scale(X)
    options: dict[str, Any] = {"batch_size": args.batch_size, "verbose": not args.quiet}
    if args.command == "score":
        found: Any = Result.of(guard.meta, {"instance_score": guard.score(X, **options)})
    elif guard.threshold is None:
        raise no_threshold(args.folder)
    else:
        found = getattr(guard, args.command)(X, **options)
        if "invalid" in found["data"]:  # the indices of such rows: as a column, whether a row is one
            found["data"]["invalid"] = np.isin(np.arange(len(data)), found["data"]["invalid"])
    return found, data.id_columns()


def _from_scores(args: argparse.Namespace) -> tuple[Any, "Arrays"]:
    """The same of scores that are ready: neither Keras nor the classifier is loaded."""
    if args.data is not None:
        args.parser.error("--scores takes the place of --data: pass one of them")
    scores = read_scores(args.scores)
    from demur.cli.calibrated import Calibrated

    guard = Calibrated(args.folder, args)
    if guard.threshold is None:
        raise no_threshold(args.folder)
    import numpy as np

    from demur.drift.reference import scores_of
    from demur.guards.decision import decide
    from demur.guards.results import PredictResult, Scored

    needs_classes = guard.calibration.by_class or np.ndim(guard.threshold)
    y = classes_of(args, scores, guard.labels) if needs_classes else np.zeros(len(scores), "int64")
    valid = scores_of(guard, None, scores).valid  # raises where the guard does for what is not finite
    invalid = np.flatnonzero(~valid)
    data = decide(Scored(scores, y, y, invalid), guard.threshold, guard.calibration, None, 0.05)
    if guard.harm is not None:
        data["harm_probability"] = guard.harm.probability(scores)
    meta: Any = guard.meta
    return PredictResult.of(meta, data, threshold=guard.threshold), {}


def with_ids(ids: "Arrays", columns: "Arrays") -> "Arrays":
    """The columns after those that name the rows.

    Raises:
        InvalidSetting: two have one name.
    """
    if both := sorted(set(ids) & set(columns)):
        raise InvalidSetting(f"the results have a column {', '.join(both)} too: rename it in the data")
    return {**ids, **columns}


def _as_the_others(args: argparse.Namespace) -> None:
    """Read the arguments of `demur score FOLDER --data FILE` as those of `predict` and `correct` are."""
    if args.data is None:
        args.parser.error("the following arguments are required: --data, or --guard for many rows on a cluster")
    if len(args.folder) > 1:
        args.parser.error(f"one guard; got {' '.join(args.folder)}")
    args.folder = Path(args.folder[0])
    args.out = None if args.out is None else Path(args.out)
    args.batch_size = args.batch_size or BATCH_SIZE
