"""Networks of less precision: smaller files. What they cost is measured before anything is written."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.calibration.metrics import auroc
from demur.calibration.thresholds import Calibration, Threshold
from demur.errors import InvalidSetting, LossTooLarge, NotExportable
from demur.export.equality import asked, check_decisions, live_scores, scored_of
from demur.export.network import NetworkModel, quiet
from demur.guards.decision import calibrate, decide
from demur.guards.description import OPINION, REFERENCE
from demur.network.live import LiveGuard
from demur.onnx.runtime import ExportedGuard
from demur.onnx.session import onnxruntime_module
from demur.rows.rows import Rows

MakeGuard: TypeAlias = Callable[[NetworkModel, Threshold, Calibration | None], ExportedGuard]
"""Writes a file and loads it."""

QUANTISED = ["MatMul", "Gemm", "Conv"]
"""Operations whose weights become bytes."""
HALVED = {*QUANTISED, "ConvTranspose", "Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Transpose"}
"""Operations that are computed in float16. Divergences and logarithms stay in float32: float16 ends at 65,504."""
BATCH = 256


@dataclass(frozen=True)
class Loss:
    """What less precision costs.

    Attributes:
        auroc: of the detector, clean rows against bad rows.
        auroc_reduced: of the file.
        agreement: the share of all rows that both flag alike and give the same class, each with a threshold from the
            clean rows.
        rows: how many rows there were, clean and bad.
    """

    auroc: float
    auroc_reduced: float
    agreement: float
    rows: int

    @property
    def largest(self) -> float:
        """The larger of the losses in AUROC and in agreement."""
        return max(self.auroc - self.auroc_reduced, 1.0 - self.agreement)


def reduced(
    detector: LiveGuard,
    network: NetworkModel,
    precision: str,
    guard_of: MakeGuard,
    rows: Rows,
    X_adversarial: Any,
    max_loss: float,
) -> Loss:
    """Write a guard of less precision, with a threshold and p-values from its own scores, and measure the loss.

    Args:
        detector: the detector.
        network: the networks of the detector, converted.
        precision: "float16" or "int8".
        guard_of: writes and loads a file; the last file counts.
        rows: normal rows, to calibrate anew and to measure on.
        X_adversarial: bad rows; None for the normal rows with noise.
        max_loss: what may be lost, of AUROC and of agreement.

    Raises:
        LossTooLarge: more is lost.
        NotExportable: onnxruntime cannot convert or run the networks.
    """
    bad = noisy(rows) if X_adversarial is None else Rows.of(X_adversarial, detector.classifier.layout, "X_adversarial")
    threshold: Any = detector.threshold
    try:
        with quiet():
            smaller = network._replace(model=PRECISIONS[precision](network.model))
        guard = guard_of(smaller, threshold, detector.calibration)
        clean = answers(detector, guard, rows)
    except Exception as error:  # onnxruntime's errors have no common base
        raise NotExportable(f"the networks cannot be made {precision}: {type(error).__name__}: {error}") from error
    guard = guard_of(smaller, *recalibrated(detector, clean))
    clean = answers(detector, guard, rows)
    check_decisions(guard, clean)
    loss = measured(detector, clean, answers(detector, guard, bad), rows, bad)
    if not loss.largest <= max_loss:
        raise LossTooLarge(
            f"{precision} costs too much, and nothing was written: AUROC {loss.auroc_reduced:.4f} instead of "
            f"{loss.auroc:.4f}, and {loss.agreement:.2%} of {loss.rows:,} rows are answered as before; max_loss is "
            f"{max_loss:g}. Pass a larger one if that is acceptable, or export without {precision}"
        )
    return loss


def noisy(rows: Rows) -> Rows:
    """Rows with Gaussian noise of half the standard deviation of each feature; whole numbers come from other rows."""
    if rows.is_table:
        raise InvalidSetting("rows of a table get no noise: pass X_adversarial=, rows that should be flagged")
    rng = np.random.default_rng(0)

    def changed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.dtype.kind != "f":
            return array[rng.permutation(len(array))]
        noise = rng.standard_normal(array.shape, dtype="float32") * (0.5 * array.std(axis=0, keepdims=True) + 1e-3)
        return np.asarray(array + noise, array.dtype)

    return rows.mapped(changed)


def answers(detector: LiveGuard, guard: ExportedGuard, rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """All outputs of a guard for rows; what it compares, under the names REFERENCE and OPINION."""
    parts = [guard.run(asked(detector, guard, batch).feed, tuple(guard.outputs)) for batch in rows.batches(BATCH)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found | {REFERENCE: found[guard.compared[0]]}


def recalibrated(detector: LiveGuard, found: dict[str, npt.NDArray[Any]]) -> tuple[Threshold, Calibration | None]:
    """The threshold and the calibration from the new scores of normal rows; a threshold set by hand stays."""
    threshold: Any = detector.threshold
    before = detector.calibration
    if before is None:
        return threshold, None
    calibration = calibrate(
        scored_of(found),
        fpr=before.fpr,
        threshold_perc=_percentage(before),
        margin=before.margin,
        labels=None,
        classes=detector.classifier.classes if before.by_class else None,
    )
    is_inferred = np.array_equal(np.asarray(before.threshold), np.asarray(threshold))
    return (calibration.threshold if is_inferred else threshold), calibration


def _percentage(calibration: Calibration) -> float:
    """Which percentile the threshold is; where the calibration does not say, the share of scores up to it."""
    if calibration.percentage is not None:
        return calibration.percentage
    limits = np.atleast_1d(np.asarray(calibration.threshold) - calibration.margin)
    kept = [distribution.kept for distribution in calibration.distributions.values()]
    return 100.0 * float(np.mean([np.mean(scores <= limit) for scores, limit in zip(kept, limits, strict=True)]))


def measured(
    detector: LiveGuard,
    clean: dict[str, npt.NDArray[Any]],
    bad: dict[str, npt.NDArray[Any]],
    rows: Rows,
    bad_rows: Rows,
) -> Loss:
    """Compare what a file says of clean and bad rows with what the detector says, both with thresholds from these rows.

    The threshold of the detector may come from other rows, and the answers would differ for that reason too.
    """
    names = "instance_score", REFERENCE, OPINION
    live = [dict(zip(names, live_scores(detector, x), strict=True)) for x in (rows, bad_rows)]
    threshold, _ = recalibrated(detector, live[0])
    alike = [
        _verdicts(a, threshold) == np.where(found["is_adversarial"], -1 - found["corrected"], found["corrected"])
        for a, found in zip(live, (clean, bad), strict=True)
    ]
    return Loss(
        auroc=auroc(live[0]["instance_score"], live[1]["instance_score"]),
        auroc_reduced=auroc(clean["instance_score"], bad["instance_score"]),
        agreement=float(np.concatenate(alike).mean()),
        rows=len(rows) + len(bad_rows),
    )


def _verdicts(found: dict[str, npt.NDArray[Any]], threshold: Threshold) -> npt.NDArray[np.int64]:
    """The class given to each row; for flagged rows, -1 less the class."""
    scored = scored_of(found)
    flagged = decide(scored, threshold, None, None, 0.05)["is_adversarial"]
    return np.asarray(np.where(flagged, -1 - scored.y_opinion, scored.y), "int64")


def _halved(model: Any) -> Any:
    onnxruntime_module()
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    others = {node.op_type for node in model.graph.node} - HALVED
    halved = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=sorted(others)))
    _without_detours(halved.model)
    halved.remove_unused_constant()
    halved.topological_sort()
    return halved.model


def _without_detours(model: Any) -> None:
    """Remove casts from float32 to float16 and back, which only round, mostly the outputs of the graph."""
    from onnx import TensorProto

    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    down = {name: node.input[0] for name, node in casts.items() if node.attribute[0].i == TensorProto.FLOAT16}
    for node in casts.values():
        if node.attribute[0].i == TensorProto.FLOAT and node.input[0] in down:
            node.op_type, node.input[0] = "Identity", down[node.input[0]]
            del node.attribute[:]
    used = {name for node in model.graph.node for name in node.input} | {entry.name for entry in model.graph.output}
    for node in [casts[name] for name in down if name not in used]:
        model.graph.node.remove(node)


def _quantised(model: Any) -> Any:
    import onnx

    onnxruntime_module()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantize_dynamic(before, after, weight_type=QuantType.QUInt8, op_types_to_quantize=QUANTISED)
        return onnx.load(str(after))


PRECISIONS: dict[str, Callable[[Any], Any]] = {"float16": _halved, "int8": _quantised}
"""Functions from a model to a model of less precision, by name."""
