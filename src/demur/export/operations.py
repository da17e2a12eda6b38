"""Which layers and operations no ONNX file can hold."""

from collections.abc import Iterable
from typing import Any

import keras

from demur.errors import NotExportable
from demur.private import layers_within

LOOKUPS = ("Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization")
"""Layers of Keras that TensorFlow computes outside the graph, whatever the backend is."""


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

    Converters leave operations that they do not know in their output, as TensorFlow calls them.
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
