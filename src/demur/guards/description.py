"""What an exported guard says of itself beside the graph, and the checksum of the file. Needs no ONNX package.

The metadata of the file are strings by name. `demur.sha256` is the SHA-256 of the whole file with 64 zeros in the place
of the checksum, so a damaged file is noticed. It guards against accidents, not against somebody who writes a new file.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from demur._version import __version__
from demur.calibration.agreement import Agreement
from demur.calibration.harm import HarmCalibration
from demur.calibration.held_out import KnownRows
from demur.calibration.thresholds import Calibration, Threshold
from demur.documents import Parts, arrays_in, as_type, check_format, from_text, reading
from demur.errors import CorruptDetector, DetectorNotFound, NotADetector
from demur.rows.classes import Classes
from demur.rows.layout import Layout, as_json, from_json

FORMAT = 1
PREFIX = "demur."
SHA256 = PREFIX + "sha256"
UNSEALED = "0" * 64
LEARNED: dict[str, Any] = {"calibration": Calibration, "harm": HarmCalibration, "trained_on": KnownRows}
"""What is kept as arrays."""
METADATA_FIELD = 14
"""Of an ONNX model."""

REFERENCE, OPINION, RECONSTRUCTION = "reference", "opinion", "reconstruction"
"""Outputs: the classifier's probabilities, sharpened by the temperature; the opinion's; the companion's output."""
THRESHOLD = "threshold"
"""The name of the input that holds the threshold."""
SHARPENED = "sharpened"
"""The name of the output REFERENCE where REFERENCE is an input: the answer of a classifier outside the file."""
ON_DEMAND = (REFERENCE, SHARPENED, OPINION, RECONSTRUCTION)
"""Outputs that are returned only if they are asked for."""
PROBABILITIES, LOGITS = "probabilities", "logits"
"""What a classifier outside the file answers."""


class Outside(msgspec.Struct, frozen=True):
    """How a guard works with a classifier that is not in the file."""

    answer: str
    """What the input REFERENCE holds, `(n, classes)`: PROBABILITIES, not sharpened by the temperature, or LOGITS."""
    companion: Any
    """The layout of the rows that the graph takes."""
    encoder: list[dict[str, Any]] | None
    """Settings of the `TableEncoder` that turns the caller's rows into rows of the graph; None if there is none."""
    preprocess: bool
    """Whether a `companion_preprocess` of the caller, which is not in the file, does."""


class Plain(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata of an exported guard hold as JSON, in the order of the file."""

    format: int = FORMAT
    detector: str
    """The name of the detector's class."""
    threshold: Any
    fpr: float | None = None
    """The false-positive rate that the threshold was inferred for."""
    temperature: float
    classes: int
    """How many classes there are; 0 of a detector that has seen no rows yet."""
    labels: Any = None
    layout: Any
    inputs: tuple[str, ...]
    """The names of the graph's input arrays, in the order of the layout; () of a guard that is not exported."""
    on_invalid: str
    """"raise" or "flag"."""
    data_type: str | None
    channels_first: bool
    """Whether rows are images as PyTorch has them, `(channels, height, width)`."""
    classifier: str | None
    """A SHA-256 of what the classifier has learned."""
    precision: str
    """"float32", "float16" or "int8": of the networks' weights."""
    scale: float | None = None
    """What the command line multiplied the arrays of `fit` by, if by anything."""
    versions: dict[str, str]
    """Of demur, Keras and others that made the file."""
    version: str = __version__
    agreement: Agreement | None = None
    """Of the companion with the classifier; None where that is not known."""
    title: str | None = None
    """What the classifier is called."""
    score_type: str | None = None
    """How the opinion is compared with the reference; None of a guard from before this was written."""


class Description(Plain, frozen=True, kw_only=True):
    """What a guard says of itself, in the metadata of an exported file or in the folder of a saved detector."""

    threshold: Threshold | None
    """In nats; None, where there is none yet, of a guard that is not exported."""
    layout: Layout | None
    """Of the rows; None of a detector that has seen none yet."""
    labels: Classes
    calibration: Calibration | None
    harm: HarmCalibration | None
    outside: Outside | None = None
    """Of a classifier outside the file; None if the classifier is in the file."""
    trained_on: KnownRows | None = None
    """How large the numbers of the rows of `fit` were; None where that is not known."""
    is_trained: bool = True
    """Whether the companion has learned."""

    def row_layout(self, *, preprocessed: bool) -> Layout | None:
        """The layout of the rows that the guard takes; `preprocessed`: whether it has a `companion_preprocess`."""
        outside = self.outside
        return self.layout if outside is None or preprocessed or not outside.preprocess else outside.companion

    def as_metadata(self) -> dict[str, str]:
        """The metadata, not sealed yet."""
        made = {
            "threshold": self.threshold.tolist() if isinstance(self.threshold, np.ndarray) else self.threshold,
            "fpr": None if self.calibration is None else self.calibration.fpr,
            "labels": self.labels.as_json(),
            "layout": None if self.layout is None else as_json(self.layout),
        }
        values = msgspec.to_builtins({name: getattr(self, name) for name in Plain.__struct_fields__} | made)
        if self.outside is not None:
            values["outside"] = {**msgspec.structs.asdict(self.outside), "companion": as_json(self.outside.companion)}
        metadata = {PREFIX + name: json.dumps(value) for name, value in values.items()}
        parts = {name: getattr(self, name) for name in LEARNED}
        packed = {PREFIX + name: _packed(part.as_arrays()) for name, part in parts.items() if part is not None}
        return {**metadata, **packed, SHA256: UNSEALED}

    @classmethod
    def of(cls, metadata: Mapping[str, str], name: str) -> "Description":
        """Read the metadata of a file; NotADetector if it is not a guard, or a newer demur wrote it."""
        if PREFIX + "format" not in metadata:
            raise NotADetector(
                f"{name} is an ONNX model, but no guard: guards are written by detector.export(path) or demur export"
            )
        with reading(f"{name} does not describe a whole guard", NotADetector):
            found = {key.removeprefix(PREFIX): text for key, text in metadata.items() if key.startswith(PREFIX)}
            packed = {key: found.pop(key) for key in LEARNED if key in found}
            found.pop("sha256", None)
            values = {key: from_text(text) for key, text in found.items()}
            check_format(values, FORMAT, name, NotADetector)
            outside = as_type(values.get("outside"), Outside | None)
            if outside is not None:
                outside = msgspec.structs.replace(outside, companion=from_json(outside.companion))
            return cls.made(values, {key: _unpacked(text) for key, text in packed.items()}, outside=outside)

    @classmethod
    def made(cls, values: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]], **more: Any) -> "Description":
        """A description from stored values and from the arrays of `LEARNED`; Malformed if a value has another type."""
        plain = as_type(values, Plain)
        threshold = as_type(plain.threshold, float | list[float] | None)
        read = {
            "threshold": np.array(threshold, "float64") if isinstance(threshold, list) else threshold,
            "fpr": None,  # the calibration has it
            "labels": Classes.from_json(plain.labels, plain.classes or None),
            "layout": None if plain.layout is None else from_json(plain.layout),
        }
        return cls(**msgspec.structs.asdict(plain) | read | learned(arrays) | more)


def learned(arrays: Mapping[str, Mapping[str, npt.NDArray[Any]]]) -> dict[str, Any]:
    """What a guard has learned from rows and scores, by the names in `LEARNED`; None where there are no arrays."""
    return {name: kind.from_arrays(arrays[name]) if name in arrays else None for name, kind in LEARNED.items()}


def read(path: Path) -> bytes:
    """The bytes of an exported guard.

    Raises:
        DetectorNotFound: there is no such file.
        NotADetector: it is a folder.
        CorruptDetector: the file has changed since it was written.
    """
    if path.is_dir():
        raise NotADetector(f"{path} is a folder: demur.load_detector reads it; demur export makes an ONNX file of it")
    if not path.exists():
        raise DetectorNotFound(f"there is no guard at {path}: no such file")
    contents = path.read_bytes()
    check_seal(contents, path)
    return contents


def described(path: Path) -> Description:
    """What an exported guard says of itself; onnxruntime is not needed.

    Raises:
        DetectorNotFound, NotADetector, CorruptDetector: see `demur.errors`.
    """
    return Description.of(metadata_of(read(path), path.name), path.name)


def metadata_of(contents: bytes, name: str) -> dict[str, str]:
    """The metadata of an ONNX file, read without an ONNX package; NotADetector if it is not an ONNX file.

    Protocol buffers are fields, one after another: a tag, and a number or a length and as many bytes
    (https://protobuf.dev/programming-guides/encoding). The metadata are field 14 of an ONNX model: pairs of strings.
    """
    try:
        pairs = [_fields(value) for number, value in _fields(memoryview(contents)) if number == METADATA_FIELD]
        return {bytes(pair[0][1]).decode(): bytes(pair[1][1]).decode() for pair in pairs}
    except (IndexError, ValueError) as error:
        raise NotADetector(f"{name} is not an ONNX file, or was cut off") from error


def _fields(message: memoryview) -> list[tuple[int, memoryview]]:
    """The fields of a message: the number of each, and the bytes of fields that have a length."""
    found, place = [], 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            size, place = 0, _varint(message, place)[1]
        elif kind == 2:
            size, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"there is no field of kind {kind}")
        if place + size > len(message):
            raise ValueError("a field is longer than the file")
        found.append((tag >> 3, message[place : place + size]))
        place += size
    return found


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number is longer than ten bytes")


def sealed(contents: bytes) -> bytes:
    """The bytes of a guard with the checksum in the place of the zeros."""
    begin = _place(contents)
    if begin is None or contents[begin : begin + len(UNSEALED)] != UNSEALED.encode():
        raise CorruptDetector("there is no place for a checksum: the bytes are not those of a new guard")
    return contents[:begin] + hashlib.sha256(contents).hexdigest().encode() + contents[begin + len(UNSEALED) :]


def check_seal(contents: bytes, path: Path) -> None:
    """Raise CorruptDetector if the bytes of a guard have changed since they were written; other files pass."""
    begin = _place(contents)
    if begin is None:
        return
    value = contents[begin : begin + len(UNSEALED)]
    digest = hashlib.sha256(contents[:begin])
    digest.update(UNSEALED.encode())
    digest.update(memoryview(contents)[begin + len(UNSEALED) :])
    if digest.hexdigest().encode() != value:
        raise CorruptDetector(f"{path} is not the file that was exported: its SHA-256 has changed. Export it again")


def _place(contents: bytes) -> int | None:
    """Where the checksum begins: after the name and two bytes, which protocol buffers call tag and length."""
    begin = contents.rfind(SHA256.encode())
    return None if begin < 0 else begin + len(SHA256) + 2


def _packed(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return base64.b64encode(stream.getvalue()).decode()


def _unpacked(text: str) -> Parts[Any]:
    return arrays_in(io.BytesIO(as_type(text, bytes)))
