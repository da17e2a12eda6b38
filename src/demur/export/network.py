"""A detector's graph as an ONNX model, through Keras's export, from each of its backends."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops

from demur.classifiers.base import probe
from demur.data import Columns, Field, Layout, flat
from demur.divergence import Tensor, basic_operations, log_softmax
from demur.errors import MissingExtra, NotExportable
from demur.export.rewriting import rewritten
from demur.graph import DetectorGraph
from demur.guard_file import OPINION, RECONSTRUCTION, REFERENCE, THRESHOLD
from demur.texts import Text

if TYPE_CHECKING:
    from demur.detectors.base import Detector

CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnxscript"}
"""The package that Keras converts with, by backend."""
SCORE, CLASSIFIED = "score", "classified"


class NetworkModel(NamedTuple):
    """A converted graph."""

    model: Any
    """`onnx.ModelProto`."""
    inputs: tuple[str, ...]
    """Names of the rows' arrays, in the layout's order."""
    outputs: dict[str, str]
    """What it returns (SCORE, REFERENCE, ...), and what the tensor is called in the graph."""


class GuardGraph(keras.Model):  # type: ignore[misc]
    """A detector's graph with what a guard returns beside scores.

    `x -> [score, reference, opinion, the classifier's own probabilities, reconstruction]`. The probabilities are left
    out where the reference is them, at a temperature of 1; the reconstruction where there is none of the rows' shape.

    Args:
        graph: of the detector.
        temperature: of the detector.
        reconstructs: whether the reconstruction is wanted.
    """

    def __init__(self, graph: DetectorGraph, temperature: float, reconstructs: bool) -> None:
        super().__init__(dtype="float32", autocast=False, name="guard")
        # Not `graph`: PyTorch's tracer takes that for its own.
        self.detector, self.temperature, self.reconstructs = graph, temperature, reconstructs

    def call(self, x: Any) -> list[Tensor]:
        """Judge a batch."""
        reference = self.detector.views.reference(x)
        # The procedure looks at a reconstruction that is returned by itself.
        judge = self.detector.compared if self.reconstructs else self.detector.explained
        (score, y, y_opinion), reconstruction = judge(x, reference)
        outputs = [score, y, y_opinion]
        if self.temperature != 1.0:
            # What sharpening has done is undone on the logarithms, where nothing has underflowed.
            outputs.append(ops.exp(log_softmax(reference[0] * self.temperature)))
        return [*outputs, *([reconstruction] if self.reconstructs else [])]


def network_of(detector: "Detector", opset: int) -> NetworkModel:
    """Convert a detector's graph.

    Raises:
        NotExportable: its classifier is outside of the graph, or an operation of it has no counterpart in ONNX.
        MissingExtra: a package that converts is not installed.
    """
    if not detector.classifier.in_graph:
        raise NotExportable(
            f"the classifier is {detector.classifier.kind}, outside of the graph: only it can answer, so there is no "
            "one file for both. Keep the detector as a folder (save), or pass the classifier as a Keras, PyTorch, JAX "
            "or TensorFlow model, on that backend"
        )
    layout = detector.classifier.layout
    names = _input_names(layout)
    reconstructs = _reconstructs(detector)
    roles = [SCORE, REFERENCE, OPINION]
    roles += [CLASSIFIED] * (detector.temperature != 1.0) + [RECONSTRUCTION] * reconstructs
    exported = GuardGraph(detector.graph, detector.temperature, reconstructs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with _constant([*detector.graph.parts, detector.classifier]):
            _convert(exported, layout, names, path, opset)
        model = rewritten(_onnx().load(str(path)))
    return _named(model, layout, names, roles)


def _convert(exported: GuardGraph, layout: Layout, names: tuple[str, ...], path: Path, opset: int) -> None:
    backend = keras.backend.backend()
    with quiet(), basic_operations():
        try:
            exported(probe(layout))  # Keras exports what has been called once
            specs = [
                keras.InputSpec(shape=(None, *field.shape), dtype=field.dtype, name=name)
                for field, name in zip(flat(layout), names, strict=True)
            ]
            signature = [_like(layout, names, specs)]
            exported.export(str(path), format="onnx", verbose=False, input_signature=signature, opset_version=opset)
        except ImportError as error:
            raise MissingExtra(CONVERTERS.get(backend, "onnx"), "export") from error
        except Exception as error:  # each converter has errors of its own
            reason = str(error).strip().splitlines()
            raise NotExportable(
                f"the networks cannot be written as ONNX, operation set {opset}, from {backend}: "
                f"{type(error).__name__}: {reason[0] if reason else ''}"
            ) from error


@contextlib.contextmanager
def _constant(layers: list[Any]) -> Iterator[None]:
    """Have PyTorch take weights for constants, as its tracer only does of those that need no gradient."""
    held = [getattr(layer, name, None) for layer in layers for name in ("model", "module")]
    modules = [module for module in [*layers, *held] if hasattr(module, "parameters")]
    weights = [weight for module in modules for weight in module.parameters()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)


def _named(model: Any, layout: Layout, names: tuple[str, ...], roles: list[str]) -> NetworkModel:
    """Find out which tensor is which: converters keep the order, and not always the names."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    entries = [entry for entry in graph.input if entry.name not in constants]
    # Keras flattens dicts in the order of their keys.
    order = sorted(range(len(names)), key=lambda i: names[i]) if isinstance(layout, dict) else range(len(names))
    found = {entry.name: names[i] for entry, i in zip(entries, order, strict=True)}
    if found != dict(zip(found.values(), found.values(), strict=True)):
        _rename(graph, {old: f"was_{new}" for old, new in found.items()})
        _rename(graph, {f"was_{new}": new for new in found.values()})
    return NetworkModel(model, names, dict(zip(roles, [entry.name for entry in graph.output], strict=True)))


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.name = names.get(entry.name, entry.name)


def _input_names(layout: Layout) -> tuple[str, ...]:
    if isinstance(layout, Columns | Text):
        what = "texts" if isinstance(layout, Text) else "a table with columns"
        raise NotExportable(f"rows are {what}, and an ONNX file takes arrays of numbers")
    if isinstance(layout, Field):
        return ("x",)
    names = tuple(layout) if isinstance(layout, dict) else tuple(f"x{i}" for i in range(len(layout)))
    if THRESHOLD in names:
        raise NotExportable("one of the inputs is called 'threshold', which is what the guard's own is called")
    return names


def _like(layout: Layout, names: tuple[str, ...], specs: list[Any]) -> Any:
    if isinstance(layout, dict):
        return dict(zip(names, specs, strict=True))
    return specs[0] if isinstance(layout, Field) else tuple(specs)


def _reconstructs(detector: "Detector") -> bool:
    """Whether the companion makes rows of the classifier's own layout."""
    layout = detector.classifier.layout
    if not isinstance(layout, Field):
        return False
    x = probe(layout)
    made = detector.graph.views.opinion(x, False).reconstruction
    return made is not None and not isinstance(made, dict | list | tuple) and tuple(made.shape) == tuple(x.shape)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what converters print and log, and their warnings about themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", "export") from None
    return onnx
