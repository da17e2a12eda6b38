"""`demur info`: what a guard, or an evaluation of one, is. Neither Keras nor onnxruntime is loaded."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.cli.guards import described
from demur.cli.options import Commands, add, add_command
from demur.errors import CorruptEvaluation, DetectorNotFound, NotADetector

if TYPE_CHECKING:
    from demur.summary import Summary

DETECTOR, EVALUATION = "detector.json", "evaluation.json"
MOST = 5
"""Guards that are named where one is to be chosen."""
OTHERS = {
    "a classifier, and not a guard of one yet: demur fit {path} --data NORMAL.npz --out guard": (
        ".keras .h5 .pt .pth .safetensors .skops .ubj .pkl .joblib"
    ),
    "data, and demur info tells of guards and evaluations: demur score GUARD --data {path}": (
        ".npy .npz .csv .tsv .parquet"
    ),
    "a page, made of an evaluation's JSON, which demur info takes": ".html .htm",
}
"""What files of other suffixes are."""


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, info)
    add(parser, "path: a guard, or an evaluation", action="store", type=Path, metavar="FOLDER|FILE")
    add(parser, "--json: print figures as JSON instead of words")


def info(args: argparse.Namespace) -> int:
    """Tell what a guard or an evaluation is: classifier, rows, threshold and what it promises, versions, sizes.

    Of a guard's folder, an exported .onnx file, or what demur evaluate wrote. Checksums are checked.
    """
    summary, record = told(args.path)
    print(json.dumps(record, indent=1) if args.json else summary)
    return 0


def told(path: Path) -> "tuple[Summary, dict[str, Any]]":
    """What there is to know of a path, in words and for JSON.

    Raises:
        DetectorNotFound, NotADetector: there is nothing, or something else.
        CorruptDetector, CorruptEvaluation: a file is damaged.
    """
    if not path.exists():
        raise DetectorNotFound(f"there is nothing at {path}: no such folder or file")
    if path.name == DETECTOR:
        path = path.parent
    if path.is_dir():
        if (path / DETECTOR).exists():
            return _guard(path)
        if not (path / EVALUATION).exists():
            inside = sorted(str(found.parent) for found in path.glob(f"*/{DETECTOR}"))
            hint = f"; name one of the guards in it: {', '.join(inside[:MOST])}" if inside else ""
            raise NotADetector(f"{path} holds no {DETECTOR}, as the folder of a guard does, and no {EVALUATION}{hint}")
        path /= EVALUATION
    if path.suffix.lower() == ".onnx":
        return _guard(path)
    if path.suffix.lower() == ".json":
        return _evaluation(path)
    for what, suffixes in OTHERS.items():
        if path.suffix.lower() in suffixes.split():
            raise NotADetector(f"{path} is {what.format(path=path)}")
    raise NotADetector(
        f"{path} is neither a guard (a folder of demur fit or detector.save, a .onnx file of demur export) nor an "
        "evaluation (the JSON of demur evaluate)"
    )


def _guard(path: Path) -> "tuple[Summary, dict[str, Any]]":
    from demur.guards.facts import as_record, facts
    from demur.summary import Summary

    guard = described(path)
    how, files, record = _in_folder(path) if path.is_dir() else _in_file(path)
    summary = Summary(f"{path}: a guard, {guard.detector}, {how}", {**facts(guard), "files": files})
    return summary, {"kind": "guard", "path": str(path), **as_record(guard), "files": record}


def _in_folder(path: Path) -> tuple[str, str, dict[str, Any]]:
    """How a guard is saved, in words and for JSON."""
    from demur.calibration.words import size
    from demur.guards.folder import read_document, verified

    _, entries = read_document(path)
    files = {name: verified(path, entry) for name, entry in entries.items()} | {"description": path / DETECTOR}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    listed = ", ".join(f"{name} {size(sizes[name])}" for name in sorted(sizes, key=lambda name: -sizes[name]))
    if "classifier" not in files:
        listed += "; the classifier is not among them"
    elif files["classifier"].suffix == ".safetensors":
        listed += "; the classifier has its weights alone among them"
    record = {
        name: {"file": file.name, "bytes": sizes[name], "sha256": entries[name]["sha256"] if name in entries else None}
        for name, file in files.items()
    }
    return "saved in a folder", f"{size(sum(sizes.values()))}: {listed}", record


def _in_file(path: Path) -> tuple[str, str, dict[str, Any]]:
    from demur.calibration.words import size
    from demur.guards.description import read

    contents = read(path)
    digest = hashlib.sha256(contents).hexdigest()
    record = {"guard": {"file": path.name, "bytes": len(contents), "sha256": digest}}
    return "exported as one file", f"{size(len(contents))}, SHA-256 {digest[:12]}", record


def _evaluation(path: Path) -> "tuple[Summary, dict[str, Any]]":
    from demur.evaluation.result import Evaluation

    try:
        found = Evaluation.from_json(path)
    except CorruptEvaluation as error:
        raise CorruptEvaluation(f"{error}. It takes what demur evaluate or evaluation.to_json wrote") from error
    names = ("detector", "classifier", "rows", "seconds", "versions")
    told = {name: getattr(found, name) for name in names}
    record = {"kind": "evaluation", "path": str(path), **told}
    return found.summary(), {**record, "sentences": found.sentences(), "threats": found.records()}
