"""`demur score DATA --guard GUARD`: many rows, in files of several formats, on a Dask cluster or this machine."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from demur.cli.guards import opened
from demur.cli.options import names_in, shows_bar, whole_number

SHOWN = 5
"""Rows without answers that are named at the end."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of scoring many rows to those of `demur score`."""
    many = parser.add_argument_group(
        "many rows",
        "With --guard, the arguments are data: paths, globs or folders of Parquet, .npy, Zarr or image files, local or "
        "of an object store (s3://...), and --out is a folder of Parquet files. A run that was stopped goes on when "
        "the same command is given again.",
    )
    many.add_argument("--guard", metavar="GUARD", help="an exported guard, .onnx, or the folder of a saved detector")
    many.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:8786; default: this machine"
    )
    many.add_argument("--outputs", metavar="NAME,...", help="what to write; default: all there is for each row")
    many.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what becomes of rows that cannot be scored"
    )
    many.add_argument("--overwrite", action="store_true", help="throw away what --out holds of another job")
    many.add_argument(
        "--workers", type=whole_number, metavar="N", help="processes on this machine; default: one a core"
    )
    many.add_argument("--memory-limit", default="auto", metavar="SIZE", help="of each of them, like 2GB")
    many.add_argument(
        "--part-rows", type=whole_number, metavar="N", help="rows of a task, about; default: up to 50,000"
    )
    many.add_argument("--storage-options", type=_options, metavar="JSON", help="what the object store needs to know")


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
    from demur.batch.finding import located

    located(args.folder, args.storage_options)  # what is missing is told before Keras is imported
    guard = opened(Path(args.guard), args)
    began = time.monotonic()
    written = batch.score(
        guard,
        args.folder,
        names_in(args.outputs),
        out=args.out,
        client=args.scheduler,
        ids=names_in(args.id),
        columns=names_in(args.column),
        scale=guard.scale if args.scale is None else args.scale,
        batch_size=args.batch_size,
        part_rows=args.part_rows,
        on_error=args.on_error,
        overwrite=args.overwrite,
        storage_options=args.storage_options,
        workers=args.workers,
        memory_limit=args.memory_limit,
        verbose=shows_bar(args) and sys.stdout.isatty(),
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
