"""A detector's graph as an ONNX model, through Keras's export, from each of its backends."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from demur import backends
from demur.backends import probe
from demur.backends.divergence import Tensor, basic_operations, log_softmax, sharpen
from demur.classifiers.base import in_log_space
from demur.classifiers.files.keras_file import reason
from demur.errors import MissingExtra, NotExportable
from demur.export.graph import rename, rewritten
from demur.extras import extra
from demur.guards.description import OPINION, RECONSTRUCTION, REFERENCE, THRESHOLD
from demur.network.live import LiveGuard
from demur.private import layers_within
from demur.rows.layout import Field, Layout, flat, mapped

SCORE, CLASSIFIED = "score", "classified"
FULL = "float32"
LOOKUPS = ("Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization")
"""Layers of Keras that TensorFlow computes outside the graph, whatever the backend is."""
WITHOUT_THE_CLASSIFIER = (
    "If the classifier is what cannot be written, pass a function of rows that asks it as model=: the file then takes "
    "the classifier's answer as the input 'reference'"
)


class NetworkModel(NamedTuple):
    """A converted graph."""

    model: Any
    """`onnx.ModelProto`."""
    inputs: dict[str, Field]
    """The input arrays by name: the arrays of the rows, and REFERENCE for a classifier outside the graph."""
    outputs: dict[str, str]
    """The tensors of the graph that are returned, by role: SCORE, REFERENCE, ..."""


class GuardGraph(keras.Model):  # type: ignore[misc]
    """A detector's graph with what a guard returns beside scores.

    `x -> [score, reference, opinion, the classifier's own probabilities, reconstruction]`. The classifier's own
    probabilities are left out at a temperature of 1, where they are the reference. With a classifier outside the graph,
    the answer of the classifier is an input: `{name: rows, "reference": answer} -> ...`.

    Args:
        detector: the detector.
        reconstructs: whether the reconstruction is returned.
    """

    def __init__(self, detector: LiveGuard, reconstructs: bool) -> None:
        super().__init__(dtype="float32", autocast=False, name="guard")
        # Not `graph`: PyTorch's tracer takes that for its own.
        self.detector, self.temperature, self.reconstructs = detector.graph, detector.temperature, reconstructs
        classifier = detector.classifier
        self.is_answered, self.is_logits = not classifier.in_graph, not classifier.in_graph and classifier.is_logits
        self.__dict__.update(captured={}, layout=detector.companion_layout)  # which Keras should not track

    def call(self, x: Any) -> list[Tensor]:
        """Judge a batch."""
        if self.is_answered:
            rows = iter([x[name] for name in row_inputs(self.layout)])
            reference = [sharpen(in_log_space(x[REFERENCE], self.is_logits), self.temperature)]
            x = mapped(lambda _: next(rows), self.layout)
        else:
            reference = self.detector.views.reference(x)
        # The procedure checks the numbers of a reconstruction that is returned.
        judge = self.detector.compared if self.reconstructs else self.detector.explained
        outputs, reconstruction = judge(x, reference)
        if self.temperature != 1.0:
            # Sharpening is undone on the logarithms, where nothing has underflowed.
            outputs = [*outputs, ops.exp(log_softmax(reference[0] * self.temperature))]
        self.captured.update(backends.current().constants())
        return [*outputs, *([reconstruction] if self.reconstructs else [])]


def network_of(detector: LiveGuard, opset: int) -> NetworkModel:
    """Convert a detector's graph; the answer of a classifier outside the graph becomes an input, REFERENCE.

    Raises:
        NotExportable: an operation has no counterpart in ONNX.
        MissingExtra: a package that converts is not installed.
    """
    classifier, layout = detector.classifier, detector.companion_layout
    inputs = row_inputs(layout)
    for name in (THRESHOLD, REFERENCE):
        if name in inputs:
            raise NotExportable(f"one of the inputs is called {name!r}, which is what a tensor of the guard is called")
    reconstructs = _reconstructs(detector, layout)
    taken: Layout = layout
    if not classifier.in_graph:
        taken = inputs = {**inputs, REFERENCE: Field((classifier.classes,), "float32")}
    roles = [SCORE, REFERENCE, OPINION]
    roles += [CLASSIFIED] * (detector.temperature != 1.0) + [RECONSTRUCTION] * reconstructs
    layers = layers_of(detector)
    check_layers(layers)
    exported = GuardGraph(detector, reconstructs)
    with tempfile.TemporaryDirectory() as folder, in_float32(layers):
        path = Path(folder) / "network.onnx"
        with _constant(layers):
            _convert(exported, taken, tuple(inputs), path, opset)
        with extra("onnx", "export"):
            import onnx
        model = onnx.load(str(path))
    for entry in [entry for entry in model.graph.input if entry.name in exported.captured]:
        model.graph.input.remove(entry)  # a constant, which became an input
        constant = np.asarray(exported.captured[entry.name])
        model.graph.initializer.append(onnx.numpy_helper.from_array(constant, entry.name))
    rewritten(model)
    check_operations(model)
    return _named(model, taken, inputs, roles)


def layers_of(detector: LiveGuard) -> list[Any]:
    """The Keras layers of a detector's graph, with the layers that read models of other libraries."""
    return [*detector.graph.parts, *(part for part in vars(detector).values() if isinstance(part, keras.layers.Layer))]


def _convert(exported: GuardGraph, layout: Layout, names: tuple[str, ...], path: Path, opset: int) -> None:
    backend = backends.current()
    with quiet(), basic_operations():
        try:
            exported(probe(layout))  # Keras exports what has been called once
            specs = [
                keras.InputSpec(shape=(None, *field.shape), dtype=field.dtype, name=name)
                for field, name in zip(flat(layout), names, strict=True)
            ]
            flat_specs = iter(specs)
            signature = [mapped(lambda _: next(flat_specs), layout)]
            exported.export(str(path), format="onnx", verbose=False, input_signature=signature, opset_version=opset)
        except ImportError as error:
            raise MissingExtra(backend.converter, "export") from error
        except Exception as error:  # each converter has errors of its own
            raise NotExportable(
                f"the networks cannot be written as ONNX, operation set {opset}, from {backend.name}: "
                f"{type(error).__name__}: {reason(error)}. {WITHOUT_THE_CLASSIFIER}"
            ) from error


@contextlib.contextmanager
def _constant(layers: list[Any]) -> Iterator[None]:
    """Have PyTorch's tracer take weights for constants: it does so only with weights that need no gradient."""
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


def _named(model: Any, layout: Layout, inputs: dict[str, Field], roles: list[str]) -> NetworkModel:
    """Find out which tensor is which: converters keep the order of tensors, but not always the names."""
    graph, names = model.graph, list(inputs)
    constants = {tensor.name for tensor in graph.initializer}
    entries = [entry for entry in graph.input if entry.name not in constants]
    # Keras flattens dicts in the order of their keys.
    order = sorted(range(len(names)), key=lambda i: names[i]) if isinstance(layout, dict) else range(len(names))
    found = {entry.name: names[i] for entry, i in zip(entries, order, strict=True)}
    if found != dict(zip(found.values(), found.values(), strict=True)):
        rename(graph, {old: f"was_{new}" for old, new in found.items()})
        rename(graph, {f"was_{new}": new for new in found.values()})
    return NetworkModel(model, inputs, dict(zip(roles, [entry.name for entry in graph.output], strict=True)))


def row_inputs(layout: Layout) -> dict[str, Field]:
    """The arrays of rows by the names of the inputs of a file."""
    if isinstance(layout, dict):
        return dict(layout)
    fields = flat(layout)
    return {"x": fields[0]} if isinstance(layout, Field) else {f"x{i}": field for i, field in enumerate(fields)}


def _reconstructs(detector: LiveGuard, layout: Layout) -> bool:
    """Whether the companion returns rows of the layout of the rows that it takes."""
    if not isinstance(layout, Field):
        return False
    x = probe(layout)
    made = detector.graph.views.opinion(x, False).reconstruction
    return made is not None and not isinstance(made, dict | list | tuple) and tuple(made.shape) == tuple(x.shape)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what converters print, log and warn of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def check_layers(layers: Iterable[Any]) -> None:
    """Raise NotExportable if one of the layers, or a layer within them, is among `LOOKUPS`."""
    kinds = tuple(getattr(keras.layers, name) for name in LOOKUPS)
    found = [layer for outer in layers for layer in layers_within(outer) if isinstance(layer, kinds)]
    if found:
        raise NotExportable(
            f"the layer {found[0].name!r} is a {type(found[0]).__name__}, which ONNX has no operation for. Apply it to "
            "the rows first, and pass as model= the classifier without it; or pass a function of rows that asks the "
            "classifier as model=: the file then takes the classifier's answer as the input 'reference'"
        )


def check_operations(model: Any) -> None:
    """Raise NotExportable if a model (`onnx.ModelProto`) has operations that ONNX does not have.

    Converters leave operations that they do not know as they are, under the names of TensorFlow.
    """
    from onnx import defs

    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    known = {(schema.domain or "ai.onnx", schema.name) for schema in defs.get_all_schemas()}
    own = {(function.domain or "ai.onnx", function.name) for function in model.functions}
    used = {(node.domain or "ai.onnx", node.op_type) for node in model.graph.node}
    unknown = sorted(name for domain, name in used - known - own if domain in ("ai.onnx", "ai.onnx.ml"))
    if unknown:
        raise NotExportable(
            f"the networks compute {', '.join(unknown)}, which ONNX, operation set {versions.get('ai.onnx')}, does not "
            "have. Pass a function of rows that asks the classifier as model=: the file then takes the classifier's "
            "answer as the input 'reference'"
        )


class _InFull(keras.DTypePolicy):  # type: ignore[misc]
    """Computes in float32 with weights of another type, which Keras then casts."""

    def __init__(self, variable_dtype: str) -> None:
        super().__init__(FULL)
        self._variable_dtype = variable_dtype


@contextlib.contextmanager
def in_float32(layers: Iterable[Any]) -> Iterator[bool]:
    """Have layers, and the layers within them, compute in float32; yield whether any layer computes otherwise.

    The weights stay as they are.
    """
    every = {id(layer): layer for outer in layers for layer in layers_within(outer)}
    mixed = [layer for layer in every.values() if str(layer.compute_dtype) in ("float16", "bfloat16")]
    changed = [(layer, layer.dtype_policy) for layer in mixed]
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(FULL)
        for layer, policy in changed:
            layer.dtype_policy = _InFull(policy.variable_dtype)
        yield bool(changed)
    finally:
        keras.config.set_dtype_policy(before)
        for layer, policy in changed:
            layer.dtype_policy = policy
