"""`demur score DATA --guard GUARD`: many rows, in files of several formats, on a Dask cluster or this machine."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from demur.cli.guards import opened
from demur.cli.options import Parser, add, derive, names_in, values

OUTPUTS = "outputs NAME,...: what to write; default: all there is for each row"
SETTINGS = (
    "overwrite: throw away what --out holds of another job",
    "workers N: processes on this machine; default: one a core",
    "memory_limit SIZE: of each of them, like 2GB",
    "part_rows N: rows of a task, about; default: up to 50,000",
)
PASSED = (OUTPUTS, *SETTINGS, "batch_size", "on_error", "storage_options")
"""What options set of `demur.batch.score`."""
SHOWN = 5
"""Rows without answers that are named at the end."""


def add_options(parser: Parser) -> None:
    """Add the options of scoring many rows to those of `demur score`."""
    many = parser.add_argument_group(
        "many rows",
        "With --guard, the arguments are data: paths, globs or folders of Parquet, .npy, Zarr or image files, local or "
        "of an object store (s3://...), and --out is a folder of Parquet files. A run that was stopped goes on when "
        "the same command is given again.",
    )
    add(many, "--guard GUARD: an exported guard, .onnx, or the folder of a saved detector")
    add(many, "--scheduler ADDRESS: of a Dask cluster, tcp://host:8786; default: this machine")
    derive(many, "score", OUTPUTS, type=names_in)
    derive(many, "score", "on_error: what becomes of rows that cannot be scored", choices=("raise", "skip"))
    derive(many, "score", *SETTINGS)
    derive(many, "score", "storage_options JSON: what the object store needs to know", type=_options)


def _options(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, like '{{\"anon\": true}}'; got {text!r}")
    return found


def run(args: argparse.Namespace) -> int:
    """Score the rows, and say how many there were."""
    if args.out is None:
        args.parser.error("--guard needs --out FOLDER, to write the scores to")
    if args.data is not None:
        args.parser.error("with --guard, the data are the arguments: demur score 'rows/*.parquet' --guard GUARD")
    from demur import batch
    from demur.batch.files import located

    located(args.folder, args.storage_options)  # what is missing is told before Keras is imported
    guard = opened(Path(args.guard), args)
    began = time.monotonic()
    written = batch.score(
        guard,
        args.folder,
        out=args.out,
        client=args.scheduler,
        ids=names_in(args.id),
        columns=names_in(args.column),
        scale=guard.scale if args.scale is None else args.scale,
        verbose=not args.quiet and sys.stdout.isatty(),
        **values(args, PASSED),
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
