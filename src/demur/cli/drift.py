"""`demur drift` and `demur monitor`: is a batch, or a stream, drifting in a way that hurts the classifier?"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from demur.cli import options
from demur.cli.data import How, read_predicted, read_scores, rows_in, rows_of_records
from demur.cli.files import check_writable
from demur.cli.guards import calibrated, how_of, opened
from demur.errors import InvalidSetting

if TYPE_CHECKING:
    from demur.drift import Monitor

DRIFT = 3
"""The exit status for drift."""
SAVED_EVERY = 1.0
"""Seconds between two states on disk."""
DETECTOR = (
    "--detector --calibration GUARD: the guard, calibrated by demur threshold: its folder, or the .onnx file that "
    "demur export wrote"
)
BEGIN = (
    "alpha A: chance of ever raising a false alarm",
    "method: how evidence is gathered",
    "tolerance SHARE: of the inputs, that may be bad without an alarm",
    "run_length N: of cusum: scores between two false alarms",
    "window N|TIME: of window: 500, or 10min",
    "every N: look at every N-th row alone, where rows depend",
    "cooldown N|TIME: scores or time after an alarm; default: the alarm stays",
)
"""Options for a new state."""


def _length(text: str) -> int | str:
    """Read a number of inputs, or a time such as 10min."""
    return int(text) if text.isdigit() else text


def register(commands: options.Commands) -> None:
    """Add the commands to the parser."""
    parser = options.add_command(commands, drift)
    options.add(parser, DETECTOR, required=True)
    options.add(parser, f"data FILE[:KEY]: the batch, unless --scores has it: {options.FILES}", nargs="?")
    options.add(parser, *options.SCORES, options.COLUMN, options.SCALE)
    options.derive(parser, "test", "alpha A: chance of a false alarm", "method: the test")
    options.add(parser, "--json: print all figures as JSON instead of a sentence")
    options.add_classifier(parser)

    parser = options.add_command(commands, monitor)
    options.add(parser, DETECTOR, required=True)
    options.add(parser, "--state FILE.json: begun if it does not exist", required=True)
    options.add(parser, *options.SCORES, options.SCALE)
    begin = parser.add_argument_group("how a new state is begun")
    for spec in BEGIN:
        # None is "not asked for": the state may have another value.
        options.derive(begin, "Monitor", spec, default=None, **({"type": _length} if "N|TIME" in spec else {}))
    options.add_classifier(parser)


def drift(args: argparse.Namespace) -> int:
    """Test whether the scores of a batch are larger than those of normal data.

    The exit status is 0 for no drift, 3 for drift.
    """
    if (args.data is None) == (args.scores is None):
        args.parser.error("one of the arguments FILE[:KEY] and --scores is required")
    if args.scores is not None:
        rows, guard = _given(args), calibrated(args.detector, args)
    else:
        rows = {"X": rows_in(args, args.data, how_of(args.detector))}
        guard = opened(args.detector, args)
    from demur.drift import test

    found = test(guard, **rows, alpha=args.alpha, method=args.method)
    print(json.dumps(found) if args.json else found.summary())
    return DRIFT if found["data"]["is_drift"] else 0


def monitor(args: argparse.Namespace) -> int:
    """Watch a stream of rows or scores for drift, JSON lines in and out.

    Lines in: {"x": one row}, {"rows": several}, {"score": a number} or {"scores": several}, with "time" in seconds and
    "id" if you like; with scores of a guard that has a threshold for each class, "predicted" too. A row is a list of
    numbers or, of a table, an object by the names of columns; null stands for what is missing. Where there are scores
    alone, neither Keras nor the classifier is loaded. Lines out say what is known after each. The state is read from
    and kept in a file, so the stream may be interrupted. The exit status is 0, or 3 if there is an alarm at the end.
    """
    check_writable(args.state)
    ready = None if args.scores is None else [(1, _given(args))]
    watching = _begun(args)
    how = How(None, None) if ready else how_of(args.detector)
    how = how if args.scale is None else how._replace(scale=args.scale)
    saved = time.monotonic()
    try:
        for number, entry in _entries(sys.stdin) if ready is None else ready:
            try:
                print(json.dumps(_said(watching, entry, how)), flush=True)
            except (ValueError, TypeError) as error:
                raise InvalidSetting(f"line {number}: {error}") from error
            if time.monotonic() - saved > SAVED_EVERY:
                watching.save(args.state)
                saved = time.monotonic()
    finally:  # what was looked at is kept, whatever came after it
        watching.save(args.state)
    return DRIFT if watching.alarm else 0


def _begun(args: argparse.Namespace) -> "Monitor":
    """The monitor whose state is in the file, or a new one."""
    from demur.drift import Monitor

    names = options.values(args, BEGIN)
    asked = options.given(names)
    detector = calibrated(args.detector, args)
    if not args.state.exists():
        return Monitor(detector, **asked)
    watching = Monitor.load(args.state, detector=detector)
    kept = {name: getattr(watching, name) for name in names}
    fresh = Monitor(detector, **{**kept, **asked})
    for name in asked:
        if getattr(fresh, name) != kept[name]:
            raise InvalidSetting(
                f"{args.state} was begun with {name.replace('_', '-')} {kept[name]}: leave the option out, or begin a "
                "state in another file"
            )
    return watching


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Scores from a file, and the classes that the classifier predicted where they are there."""
    predicted = read_predicted(args.predicted, args.scores)
    return {"scores": read_scores(args.scores), **({} if predicted is None else {"predicted": predicted})}


def _entries(lines: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines that are not empty, read as JSON, with their numbers."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidSetting(f"line {number} is no JSON: {error}") from error
        if not isinstance(entry, dict) or len({"x", "rows", "score", "scores"} & set(entry)) != 1:
            raise InvalidSetting(
                f'line {number} needs one of "x", "rows", "score" and "scores"; got {line.strip()[:80]}'
            )
        yield number, entry


def _rows(rows: Any, key: str, how: How) -> Any:
    """Rows as the guard takes them, of lists of numbers or of objects by the names of columns."""
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        return rows_of_records(rows, how)
    numbers = _numbers(rows, key)
    return numbers if how.scale is None else numbers.astype("float32") * how.scale


def _numbers(values: Any, key: str) -> Any:
    """What JSON lists hold, as an array; a number that is missing, null, as NaN."""
    import numpy as np

    try:
        array = np.asarray(values)
        array = array.astype("float64") if array.dtype == object else array
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f'"{key}" must hold numbers, in lists of one length each: {str(values)[:60]}') from error
    if array.dtype.kind not in "fiub":
        raise InvalidSetting(f'"{key}" must hold numbers; got {str(values)[:60]}')
    return array


def _said(watching: "Monitor", entry: dict[str, Any], how: How) -> dict[str, Any]:
    """Look at an entry, and say what is known now."""
    options = {name: entry[name] for name in ("predicted", "time") if name in entry}
    if "x" in entry or "rows" in entry:
        key, rows = ("x", [entry["x"]]) if "x" in entry else ("rows", entry["rows"])
        watching.update(_rows(rows, key, how), **options)
    else:
        (key,) = {"score", "scores"} & set(entry)
        watching.update(scores=_numbers(entry[key], key), **options)
    logarithm = watching.log_evidence
    return {
        **({"id": entry["id"]} if "id" in entry else {}),
        "count": watching.count,
        "invalid": watching.invalid,
        "alarm": watching.alarm,
        "dependent": watching.is_dependent,
        "log_evidence": logarithm if math.isfinite(logarithm) else None,
        "log_limit": math.log(watching.limit),
    }
