"""`demur score`, `predict` and `correct`: what a guard says of new inputs, few in memory or many in files."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.cli import options
from demur.cli.data import data_of, ready_scores
from demur.cli.files import check_output, write_table
from demur.cli.guards import calibrated, decided, how_of, opened
from demur.errors import InvalidSetting

if TYPE_CHECKING:
    from demur.cli.files import Arrays

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
OUTPUTS = "outputs NAME,...: what to write; default: all there is for each row"
SETTINGS = (
    "overwrite: throw away what --out holds of another job",
    "workers N: processes on this machine; default: one a core",
    "memory_limit SIZE: of each of them, like 2GB",
    "part_rows N: rows of a task, about; default: up to 50,000",
)
PASSED = (OUTPUTS, *SETTINGS, "batch_size", "on_error", "storage_options")
"""Options that set arguments of `demur.batch.score`."""
SHOWN = 5
"""Rows without answers that are named at the end."""


def register(commands: options.Commands) -> None:
    """Add the commands to the parser."""
    for name, text in COMMANDS.items():
        many = name == "score"
        parser = options.add_command(commands, score if many else answer, name=name, text=text)
        if many:
            options.add(parser, f"folder: {GUARD}; with --guard, the data", action="store", nargs="+", metavar="GUARD")
        else:
            options.add(parser, f"folder GUARD: {GUARD}")
        options.add_data(parser, "the inputs", batch_size=None if many else BATCH_SIZE, required=name == "correct")
        if name == "predict":
            options.add(parser, *options.SCORES)
        options.add(
            parser,
            "--out FILE: write one row an input to this .npz, .csv or .parquet file; without it, only a summary is "
            f"shown{'; with --guard, a folder' if many else ''}",
            type=str if many else Path,
        )
        if many:
            _add_many(parser)
        options.add_classifier(parser)


def _add_many(parser: options.Parser) -> None:
    """Add the options of scoring many rows to those of `demur score`."""
    many = parser.add_argument_group(
        "many rows",
        "With --guard, the arguments are data: paths, globs or folders of Parquet, .npy, Zarr or image files, local or "
        "of an object store (s3://...), and --out is a folder of Parquet files. A run that was stopped goes on when "
        "the same command is given again.",
    )
    options.add(many, "--guard GUARD: an exported guard, .onnx, or the folder of a saved detector")
    options.add(many, "--scheduler ADDRESS: of a Dask cluster, tcp://host:8786; default: this machine")
    options.derive(many, "score", OUTPUTS, type=options.names_in)
    options.derive(many, "score", "on_error: what becomes of rows that cannot be scored", choices=("raise", "skip"))
    options.derive(many, "score", *SETTINGS)
    options.derive(many, "score", "storage_options JSON: what the object store needs to know", type=_json_object)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, like '{{\"anon\": true}}'; got {text!r}")
    return found


def score(args: argparse.Namespace) -> int:
    """Score many rows, or few: `demur score FOLDER --data FILE` is read as `predict` and `correct` are."""
    if args.guard is not None:
        return score_many(args)
    if args.data is None:
        args.parser.error("the following arguments are required: --data, or --guard for many rows on a cluster")
    if len(args.folder) > 1:
        args.parser.error(f"one guard; got {' '.join(args.folder)}")
    args.folder = Path(args.folder[0])
    args.out = None if args.out is None else Path(args.out)
    args.batch_size = args.batch_size or BATCH_SIZE
    return answer(args)


def answer(args: argparse.Namespace) -> int:
    """Have a guard score, flag or correct inputs; write what it says and show a summary."""
    if args.out is not None:
        check_output(args.out)
    found, ids = _from_scores(args) if getattr(args, "scores", None) else _from_rows(args)
    if args.out is not None:
        if both := sorted(set(ids) & set(found["data"])):
            raise InvalidSetting(f"the results have a column {', '.join(both)} too: rename it in the data")
        write_table(args.out, {**ids, **found["data"]})
    print(found.summary())
    if args.out is not None:
        print(f"written to {args.out}")
    return 0


def _from_rows(args: argparse.Namespace) -> tuple[Any, "Arrays"]:
    """What the guard says of rows, and the columns that name the rows."""
    if args.data is None:
        args.parser.error("the following arguments are required: --data, or --scores for scores that are ready")
    how = how_of(args.folder)
    data = data_of(args, args.data, how)
    X = data.rows(how)
    guard = opened(args.folder, args)
    import numpy as np

    from demur.guards.results import Result

    guard.check_scale(X)
    settings: dict[str, Any] = {"batch_size": args.batch_size, "verbose": not args.quiet}
    if args.command == "score":
        found: Any = Result.of(guard.meta, {"instance_score": guard.score(X, **settings)})
    else:
        found = getattr(decided(guard, args.folder), args.command)(X, **settings)
        if "invalid" in found["data"]:  # the indices of such rows become a column: whether a row is such a row
            found["data"]["invalid"] = np.isin(np.arange(len(data)), found["data"]["invalid"])
    return found, data.id_columns()


def _from_scores(args: argparse.Namespace) -> tuple[Any, "Arrays"]:
    """What the guard says of scores that are ready: neither Keras nor the classifier is loaded."""
    if args.data is not None:
        args.parser.error("--scores takes the place of --data: pass one of them")
    guard: Any = decided(calibrated(args.folder, args), args.folder)
    import numpy as np

    from demur.drift.reference import scores_of
    from demur.guards.decision import decide
    from demur.guards.results import PredictResult

    needs_classes = bool(guard.calibration.by_class or np.ndim(guard.threshold))
    scored = ready_scores(args, guard.labels, needs_classes=needs_classes)
    valid = scores_of(guard, None, scored.score).valid  # raises an error for infinite scores where the guard does
    data = decide(scored._replace(invalid=np.flatnonzero(~valid)), guard.threshold, guard.calibration, None, 0.05)
    if guard.harm is not None:
        data["harm_probability"] = guard.harm.probability(scored.score)
    return PredictResult.of(guard.meta, data, threshold=guard.threshold), {}


def score_many(args: argparse.Namespace) -> int:
    """Score rows in files, on a Dask cluster or this machine, and say how many there were."""
    if args.out is None:
        args.parser.error("--guard needs --out FOLDER, to write the scores to")
    if args.data is not None:
        args.parser.error("with --guard, the data are the arguments: demur score 'rows/*.parquet' --guard GUARD")
    from demur import batch
    from demur.batch.formats import located

    located(args.folder, args.storage_options)  # what is missing is told before Keras is imported
    guard = opened(Path(args.guard), args)
    began = time.monotonic()
    written = batch.score(
        guard,
        args.folder,
        out=args.out,
        client=args.scheduler,
        ids=options.names_in(args.id),
        columns=options.names_in(args.column),
        scale=guard.scale if args.scale is None else args.scale,
        verbose=not args.quiet and sys.stdout.isatty(),
        **options.values(args, PASSED),
    )
    seconds = time.monotonic() - began
    parts = f"{written.parts:,} parts" + (f", {written.reused:,} of them from before" if written.reused else "")
    print(f"{written.rows:,} rows in {parts}, {seconds:.1f} s")
    if written.flagged:
        print(f"  flagged    {written.flagged:,} ({100 * written.flagged / written.rows:.1f} %)")
    if written.failed:
        print(f"  no answer  {written.failed:,}; the column `error` says why")
        for name, reason in list(written.faults.items())[:SHOWN]:
            print(f"    {name}: {reason}")
    print(f"written to {written.path}")
    return 0
