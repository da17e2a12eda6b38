"""A saved detector's folder: `detector.json` names the files of models and arrays, and their SHA-256. No Keras.

Saving over a detector is safe at every instant: files are named by their contents and written beside the old
ones, and the save takes effect in one atomic step, when `detector.json` is replaced. Then the old files are removed.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

from demur.documents import Parts, arrays_in, as_type, check_format, from_text, reading
from demur.errors import CorruptDetector, DetectorNotFound, NotADetector
from demur.guards.description import LEARNED, Description

FORMAT = 1
DOCUMENT = "detector.json"
TEMPORARY = ".saving-"
FILES = (".h5", ".joblib", ".keras", ".npz", ".onnx", ".pickle", ".pkl", ".pt", ".pth", ".safetensors")
"""Endings of files that hold a model in other libraries."""
OURS = re.compile(r"\w+-[0-9a-f]{12}\.(keras|npz|safetensors)")
"""The names of the files that are written beside the document."""

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class Entry(TypedDict):
    """A file's name and its SHA-256."""

    file: str
    sha256: str


Saver: TypeAlias = tuple[str, Callable[[Path], Any]]
"""The suffix of a file, and what writes it."""


def write(
    path: Path,
    document: Mapping[str, Any],
    savers: Mapping[str, Saver],
    arrays: Mapping[str, Arrays] | None = None,
    keep: Mapping[str, Entry] | None = None,
) -> None:
    """Write a document and the files that belong to it, whole or not at all.

    Args:
        path: the folder; made if it does not exist.
        document: entries of `detector.json`, beside the format and the files.
        savers: of files by name.
        arrays: groups of arrays by name, one `.npz` file each.
        keep: entries, by name, of files that are in the folder already and stay.

    Raises:
        NotADetector: the folder exists and holds something else, or is a file.
    """
    check_destination(path)
    before = _file_names(path)
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path))
    write_arrays: Callable[..., Any] = functools.partial(np.savez, allow_pickle=False)
    groups: dict[str, Saver] = {
        name: ("npz", functools.partial(write_arrays, **group)) for name, group in (arrays or {}).items()
    }
    try:
        files = dict(keep or {})
        for name, (suffix, save) in {**savers, **groups}.items():
            files[name] = _place(temporary / f"{name}.{suffix}", save, path)
        text = json.dumps({"format": FORMAT, **document, "files": files}, indent=2) + "\n"
        draft = temporary / DOCUMENT
        draft.write_text(text, encoding="utf-8")
        _flush(draft)
        draft.replace(path / DOCUMENT)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_files(path, keep=before)
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    _flush(path)
    for leftover in path.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    now = {entry["file"] for entry in files.values()}
    for file in before - now:  # by name: what is damaged no longer looks like ours
        (path / file).unlink(missing_ok=True)
    _remove_files(path, keep=now)


def check_destination(path: Path) -> None:
    """Raise NotADetector unless `path` is the folder of a detector, an empty folder, or does not exist."""
    if path.exists() and not path.is_dir():
        raise NotADetector(f"{path} is a file; a detector is saved to a folder")
    if path.suffix in FILES and not path.exists():
        one_file = "; to write one ONNX file, call detector.export(path)" if path.suffix == ".onnx" else ""
        raise NotADetector(
            f"{path} is named like a file, and a detector is saved to a folder: save to {path.with_suffix('')}"
            + one_file
        )
    if path.is_dir() and not (path / DOCUMENT).exists() and not _interrupted(path):
        raise NotADetector(f"{path} holds other files and no {DOCUMENT}; save to a new or an empty folder")


def read_document(path: Path) -> tuple[dict[str, Any], dict[str, Entry]]:
    """The document of a detector's folder, and the entries of the files by name.

    Raises:
        DetectorNotFound: there is nothing at `path`.
        NotADetector: it is not the folder of a detector, or has a newer format.
    """
    if not path.exists():
        raise DetectorNotFound(f"there is no detector at {path}: no such folder")
    if path.suffix == ".onnx" and path.is_file():
        raise NotADetector(f"{path} is an ONNX file, and not a saved detector: load it with demur.runtime.load(path)")
    if not (path / DOCUMENT).is_file():
        raise NotADetector(
            f"{path} is not a detector: it holds no {DOCUMENT}. Detectors are written by detector.save(path)"
        )
    with reading(f"{path / DOCUMENT} is not a detector's description", NotADetector):
        document = from_text((path / DOCUMENT).read_bytes())
        check_format(document, FORMAT, str(path), NotADetector)
        files = as_type(Parts(document)["files"], dict[str, Entry])
    if any(not OURS.fullmatch(entry["file"]) for entry in files.values()):
        raise NotADetector(f"{path / DOCUMENT} names files that no detector has, or that lie elsewhere")
    return document, files


def described(path: Path) -> Description:
    """What a saved detector says of itself, with what it has learned from scores.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector: see `demur.errors`.
    """
    document, files = read_document(path)
    arrays = {name: load_arrays(verified(path, files[name])) for name in LEARNED if name in files}
    with reading(f"{path / DOCUMENT} does not describe a whole detector", NotADetector):
        parts = ("settings", "inputs", "classifier", "meta")
        settings, inputs, classifier, meta = (as_type(document.get(part) or {}, dict[str, Any]) for part in parts)
        values = {
            "detector": document.get("detector"),
            "threshold": Parts(document)["threshold"],
            "layout": inputs.get("classifier"),
            "inputs": (),
            "classes": inputs.get("classes") or 0,
            "labels": classifier.get("classes"),
            "temperature": settings.get("temperature", 1.0),
            "on_invalid": settings.get("on_invalid", "raise"),
            "data_type": meta.get("data_type"),
            "channels_first": str(classifier.get("source")).startswith("Torch") and not settings.get("channels_last"),
            "classifier": classifier.get("fingerprint"),
            "precision": "float32",
            "versions": document.get("versions") or {"demur": meta.get("version", "of unknown version")},
            "scale": document.get("scale"),
            "agreement": document.get("agreement") or None,
            "title": classifier.get("title") or classifier.get("source"),
            "score_type": settings.get("score_type") or settings.get("loss_type"),
        }
        is_trained = bool(document.get("fitted", True) or document.get("companion_is_given", True))
        return Description.made(values, arrays, is_trained=is_trained)


def verified(path: Path, entry: Entry) -> Path:
    """The file of an entry; CorruptDetector if it is missing or changed."""
    file = path / entry["file"]
    if not file.is_file():
        raise CorruptDetector(f"{path} is incomplete: {file.name} is missing")
    if _sha256(file) != entry["sha256"]:
        raise CorruptDetector(f"{file} is not the file that was saved: its SHA-256 has changed")
    return file


def load_arrays(file: Path) -> Arrays:
    """The arrays, by name, of a `.npz` file; CorruptDetector if it cannot be read."""
    with reading(f"{file.name} cannot be read", CorruptDetector):
        return arrays_in(file)


def _place(draft: Path, save: Callable[[Path], Any], path: Path) -> Entry:
    """Write a file, and name it by a digest of the contents."""
    save(draft)
    _flush(draft)
    sha256 = _sha256(draft)
    file = f"{draft.stem}-{sha256[:12]}{draft.suffix}"
    draft.replace(path / file)
    return {"file": file, "sha256": sha256}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the operating system write a file, or the list of files of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # folders cannot be flushed everywhere
        if path.is_file():
            raise
    finally:
        os.close(descriptor)


def _file_names(path: Path) -> set[str]:
    """The files of the detector that is at `path` now."""
    try:
        return {entry["file"] for entry in read_document(path)[1].values()}
    except (DetectorNotFound, NotADetector):
        return set()


def _interrupted(path: Path) -> bool:
    """Whether a folder holds only what a first save left when it was killed."""
    return all(entry.name.startswith(TEMPORARY) or _is_ours(entry) for entry in path.iterdir())


def _is_ours(file: Path) -> bool:
    """Whether a file is named by a digest of the contents; a user's `best-202601312359.keras` only looks so."""
    return bool(OURS.fullmatch(file.name)) and file.is_file() and _sha256(file).startswith(file.stem.rpartition("-")[2])


def _remove_files(path: Path, keep: set[str]) -> None:
    for file in path.iterdir():
        if file.name not in keep and _is_ours(file):
            file.unlink(missing_ok=True)
