"""What a guard does after the networks, as ONNX: from scores to flags, p-values and corrected classes.

It is exactly what guards/decision.py and `demur.calibration` do, in operations that every runtime has: thresholds and
calibration scores are compared as float32, as the live detector does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Calibration, ScoreDistribution, Threshold
from demur.export.graph import Graph, rename
from demur.export.network import CLASSIFIED, SCORE, NetworkModel
from demur.guards.description import OPINION, RECONSTRUCTION, REFERENCE, SHARPENED, THRESHOLD
from demur.rows.layout import Field

ROWS = "n"
"""The name of the batch dimension."""


def add_procedure(network: NetworkModel, classes: int, threshold: Threshold, calibration: Calibration | None) -> Any:
    """Complete the converted networks to the model of a guard, `onnx.ModelProto`, with p-values if it is calibrated."""
    from onnx import TensorProto

    model, found = network.model, dict(network.outputs)
    compared = SHARPENED if REFERENCE in network.inputs else REFERENCE
    for role, name in ((REFERENCE, compared), (OPINION, OPINION), (RECONSTRUCTION, RECONSTRUCTION)):
        if role in found:
            rename(model.graph, {found[role]: name})
            found[role] = name
    nodes = Graph(model.graph, "decision")
    score = nodes.add("Reshape", found[SCORE], np.array([-1], "int64"))
    floats = {name: field for name, field in network.inputs.items() if np.dtype(field.dtype).kind == "f"}
    looked_at = {name: len(field.shape) for name, field in floats.items()}
    x = next(iter(network.inputs.values()))
    if RECONSTRUCTION in found:
        looked_at[found[RECONSTRUCTION]] = len(x.shape)
    judged = _judged(nodes, score, looked_at)
    nodes.add("Where", judged, score, np.float32(np.inf), name="instance_score")
    nodes.add("ArgMax", found[REFERENCE], axis=-1, keepdims=0, name="no_defense")
    nodes.add("ArgMax", found[OPINION], axis=-1, keepdims=0, name="defense")
    _flag(nodes, threshold, judged)
    correctable = nodes.add("And", "is_adversarial", judged)
    nodes.add("Where", correctable, "defense", "no_defense", name="corrected")
    by_row = nodes.add("Unsqueeze", correctable, np.array([1], "int64"))
    nodes.add("Where", by_row, found[OPINION], found.get(CLASSIFIED, found[REFERENCE]), name="probabilities")
    if calibration is not None:
        _p_value(nodes, calibration, classes)
    outputs: list[tuple[str, int, Sequence[int | str]]] = [
        ("instance_score", TensorProto.FLOAT, ()),
        ("is_adversarial", TensorProto.BOOL, ()),
        *([("p_value", TensorProto.DOUBLE, ())] if calibration is not None else []),
        ("corrected", TensorProto.INT64, ()),
        ("no_defense", TensorProto.INT64, ()),
        ("defense", TensorProto.INT64, ()),
        ("probabilities", TensorProto.FLOAT, (classes,)),
        (compared, TensorProto.FLOAT, (classes,)),
        (OPINION, TensorProto.FLOAT, (classes,)),
    ]
    if RECONSTRUCTION in found:
        outputs.append((RECONSTRUCTION, TensorProto.FLOAT, _sizes(x)))
    _declare(model, network.inputs, np.shape(threshold), outputs)
    return model


def _judged(nodes: Graph, score: str, looked_at: dict[str, int]) -> str:
    """Which rows can be judged: the score and all numbers of the row and of the reconstruction are finite.

    One sum tells, because NaN and infinity stay in it. `looked_at` has tensors `(n, ...)` with the rank of a row.
    """
    sums = [
        nodes.cast(nodes.add("ReduceSum", name, np.arange(1, rank + 1), keepdims=0), "float32")
        for name, rank in looked_at.items()
    ]
    total = nodes.add("Sum", score, *sums) if sums else score
    return nodes.add("LessOrEqual", nodes.add("Abs", total), np.finfo("float32").max)


def _flag(nodes: Graph, threshold: Threshold, judged: str) -> None:
    """Flag rows above the threshold, which is an input with a default, and rows that cannot be judged."""
    nodes.constant(as_float32(threshold), THRESHOLD)
    limit = THRESHOLD if np.ndim(threshold) == 0 else nodes.add("Gather", THRESHOLD, "no_defense", axis=0)
    above = nodes.add("Greater", "instance_score", limit)
    nodes.add("Or", above, nodes.add("Not", judged), name="is_adversarial")


def as_float32(threshold: Threshold) -> npt.NDArray[np.float32]:
    """The float32 threshold that flags the same float32 scores.

    NumPy rounds a number to float32 before it compares it. Numbers of an array stay float64, so they are rounded down:
    a float32 score lies above a float64 exactly if it lies above the largest float32 that is not larger.
    """
    rounded = np.asarray(threshold, "float32")
    if np.ndim(threshold) == 0:
        return rounded
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype("float64") > np.asarray(threshold), lower, rounded).astype("float32")


def _p_value(nodes: Graph, calibration: Calibration, classes: int) -> None:
    """Look scores up among the sorted calibration scores: first in which block, then where in the block."""
    groups = list(range(classes)) if calibration.by_class else [None]
    distributions = [calibration.distributions[group] for group in groups]
    size = max(1, int(np.ceil(np.sqrt(max(len(distribution.kept) for distribution in distributions)))))
    count = max(-(-len(distribution.kept) // size) for distribution in distributions)
    blocks = np.stack([_blocks(distribution.kept, size, count) for distribution in distributions])
    tables = np.stack([_p_values(distribution, size * count) for distribution in distributions])

    score = nodes.add("Unsqueeze", "instance_score", np.array([1], "int64"))
    ends: Any = blocks[0, :, -1][None] if len(groups) == 1 else nodes.add("Gather", blocks[:, :, -1], "no_defense")
    block = nodes.add("Min", _smaller(nodes, ends, score), np.int64(count - 1))
    place = block
    if len(groups) > 1:
        place = nodes.add("Add", block, nodes.add("Mul", "no_defense", np.int64(count)))
    members = nodes.add("Gather", blocks.reshape(-1, size), place, axis=0)
    begin = nodes.add("Mul", block, np.int64(size))
    position = nodes.add("Add", begin, _smaller(nodes, members, score))
    if len(groups) > 1:
        offset = nodes.add("Mul", "no_defense", np.int64(tables.shape[1]))
        position = nodes.add("Add", position, offset)
    nodes.add("Gather", tables.ravel(), position, axis=0, name="p_value")


def _smaller(nodes: Graph, sorted_scores: Any, score: str) -> str:
    """How many of the scores in each row are smaller than the score of the row: int64 `(n,)`."""
    less = nodes.cast(nodes.add("Less", sorted_scores, score), "float32")
    return nodes.cast(nodes.add("ReduceSum", less, np.array([1], "int64"), keepdims=0), "int64")


def _blocks(kept: npt.NDArray[np.float32], size: int, count: int) -> npt.NDArray[np.float32]:
    filled = np.full(size * count, np.inf, "float32")
    filled[: len(kept)] = kept
    return filled.reshape(count, size)


def _p_values(distribution: ScoreDistribution, longest: int) -> npt.NDArray[np.float64]:
    """P-values by the number of kept calibration scores that are smaller than a score: `(longest + 1,)`."""
    kept = distribution.kept
    found = distribution.p_values_by_place()
    return np.concatenate([found, np.full(longest - len(kept), found[-1])])


def _declare(
    model: Any,
    inputs: Mapping[str, Field],
    threshold_shape: tuple[int, ...],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
) -> None:
    """Declare the inputs and outputs of the graph, for batches of any size."""
    from onnx import TensorProto, helper

    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    for name, field in inputs.items():
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(field.dtype))
        graph.input.append(helper.make_tensor_value_info(name, kind, [ROWS, *_sizes(field, name)]))
    graph.input.append(helper.make_tensor_value_info(THRESHOLD, TensorProto.FLOAT, threshold_shape))
    for name, dtype, shape in outputs:
        graph.output.append(helper.make_tensor_value_info(name, dtype, [ROWS, *shape]))


def _sizes(field: Field, name: str = "x") -> list[int | str]:
    """The sizes of a row; names for sizes that may be any."""
    return [f"{name}_{i}" if size is None else size for i, size in enumerate(field.shape)]
