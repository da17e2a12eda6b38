"""The file that `detector.export` writes, and checks."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from demur._version import __version__
from demur.calibration.thresholds import Calibration, Threshold
from demur.checks import check_whole, is_number
from demur.classifiers.answers import InMemory
from demur.errors import InvalidSetting, NotFitted, ThresholdNotSet
from demur.export.classifier import with_classifier
from demur.export.equality import SIZES, check_same
from demur.export.network import NetworkModel, network_of
from demur.export.precision import PRECISIONS, Loss, reduced
from demur.export.procedure import add_procedure
from demur.guards.description import LOGITS, PROBABILITIES, REFERENCE, Outside, sealed
from demur.network.live import LiveGuard
from demur.network.routes import PASSTHROUGH
from demur.onnx.runtime import ExportedGuard
from demur.rows.rows import Rows

OPSET = 18
LEAST_OPSET = 13
IR_VERSION = 10
"""Of the format; onnxruntime reads it from 1.18 on."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        bytes: its size.
        precision: "float32", "float16" or "int8".
        difference: the largest difference of a score or probability from the detector's, on a few rows; relative, for
            scores above 1. None for a file of less precision, which is not meant to be equal.
        loss: what less precision has cost, as measured; None for a file of full precision.
        takes_reference: whether the classifier is outside of the file, which then takes the answer of the classifier as
            the input `reference`.
    """

    path: Path
    bytes: int
    precision: str
    difference: float | None
    loss: Loss | None
    takes_reference: bool = False


def export(
    detector: LiveGuard,
    path: str | Path,
    *,
    opset: int = OPSET,
    float16: bool = False,
    int8: bool = False,
    X: Any = None,
    X_adversarial: Any = None,
    max_loss: float = 0.01,
) -> Exported:
    """Write a detector as one ONNX file; see `Detector.export`.

    Examples:
        >>> written = detector.export("exported.onnx")                     # doctest: +SKIP
        >>> written.precision, written.difference < 1e-4                   # doctest: +SKIP
        ('float32', True)
    """
    target = Path(path)
    _check(detector, target, opset, float16, int8)
    if not is_number(max_loss):
        raise InvalidSetting(f"max_loss is a finite number, a share such as 0.01; got {max_loss!r}")
    precision = "float16" if float16 else "int8" if int8 else "float32"
    if precision not in PRECISIONS and X_adversarial is not None:
        raise InvalidSetting("X_adversarial tells what less precision costs: pass float16=True or int8=True with it")
    if precision in PRECISIONS and X is None:
        raise InvalidSetting(f"{precision} needs X=, rows as infer_threshold takes them, to measure what it costs")
    rows = None if X is None else Rows.of(X, detector.classifier.layout)
    if precision in PRECISIONS and rows is not None:
        detector.check_rows(rows)
    network = with_classifier(network_of(detector, opset), detector)
    loss = None
    drafts = tempfile.TemporaryDirectory(dir=target.parent, prefix=".exporting-")
    with answers_kept(detector.classifier), drafts as folder:
        draft = Path(folder) / target.name

        def guard_of(model: NetworkModel, threshold: Threshold, calibration: Calibration | None) -> ExportedGuard:
            draft.write_bytes(_contents(detector, model, threshold, calibration, precision))
            return ExportedGuard(draft)

        if precision in PRECISIONS and rows is not None:
            loss = reduced(detector, network, precision, guard_of, rows, X_adversarial, max_loss)
            difference = None
        else:
            guard = guard_of(network, _threshold(detector), detector.calibration)
            difference = check_same(detector, guard, None if rows is None else rows[: max(SIZES)])
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        size = draft.stat().st_size
        draft.replace(target)
    return Exported(target, size, precision, difference, loss, REFERENCE in network.inputs)


@contextlib.contextmanager
def answers_kept(classifier: Any) -> Iterator[None]:
    """Have a classifier outside the graph asked only once about each row."""
    if classifier.in_graph or classifier.answers is not None:
        yield
        return
    classifier.answers = InMemory()
    try:
        yield
    finally:
        classifier.answers = None


def _contents(
    detector: LiveGuard, network: NetworkModel, threshold: Threshold, calibration: Calibration | None, precision: str
) -> bytes:
    """The bytes of the file."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(network.model)
    model = add_procedure(network._replace(model=copy), detector.classifier.classes, threshold, calibration)
    description = msgspec.structs.replace(
        detector.description,
        threshold=threshold,
        inputs=tuple(name for name in network.inputs if name != REFERENCE),
        classifier=detector.classifier.fingerprint(),
        precision=precision,
        calibration=calibration,
        outside=outside_of(detector) if REFERENCE in network.inputs else None,
        scale=detector.scale,
        trained_on=None if detector.trained_on is None else replace(detector.trained_on, sketch=None),
    )
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, description.as_metadata())
    model.producer_name, model.producer_version, model.domain = "demur", __version__, "demur"
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.graph.name = "guard"
    model.graph.doc_string = model.doc_string = ""
    onnx.checker.check_model(model)
    return sealed(model.SerializeToString())


def outside_of(detector: LiveGuard) -> Outside:
    """How the guard works with a classifier that is not in the file."""
    encoder = detector.route.encoder
    return Outside(
        answer=LOGITS if detector.classifier.is_logits else PROBABILITIES,
        companion=detector.companion_layout,
        encoder=None if encoder is None else encoder.settings(),
        preprocess=detector.companion_preprocess not in (None, PASSTHROUGH),
    )


def _threshold(detector: LiveGuard) -> Threshold:
    if detector.threshold is None:
        raise ThresholdNotSet(
            f"{type(detector).__name__} has no threshold yet, and a guard decides: call infer_threshold(X, fpr=0.05)"
        )
    return detector.threshold


def _check(detector: LiveGuard, target: Path, opset: int, float16: bool, int8: bool) -> None:
    check_whole("opset", opset, LEAST_OPSET)
    if float16 and int8:
        raise InvalidSetting("float16 and int8 are two ways to less precision: pass one of them")
    if target.suffix != ".onnx":
        raise InvalidSetting(f"a guard is written to a .onnx file; got {target}")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder: name a file in it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to write {target.name} to: make it first")
    if not detector.is_ready:
        raise NotFitted("there is nothing to export yet: the shape of the rows is not known before fit(X)")
    detector.check_trained()
    _threshold(detector)
