"""A classifier that is an ONNX model becomes a part of the file of the guard."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.classifiers.onnx_file import OnnxClassifier
from demur.export.graph import Graph, rename
from demur.export.network import NetworkModel, row_inputs
from demur.guards.description import REFERENCE
from demur.network.live import LiveGuard
from demur.network.routes import PASSTHROUGH
from demur.rows.layout import probe_rows

PREFIX = "classifier/"
"""Of the names of all tensors of the classifier."""
ANSWER, COMPANION = "guard/answer", "companion/"


class _Outside(Exception):
    """The classifier cannot be put into the file; says why."""


def with_classifier(network: NetworkModel, detector: LiveGuard) -> NetworkModel:
    """Put the classifier into the model of the networks, if it is an ONNX model and that is possible.

    It is not possible, and the answer of the classifier stays an input, if a function of the caller makes the rows of
    the companion, or if the classifier takes batches of one size, does not say which file it is, or cannot be brought
    to the operation set of the networks.
    """
    classifier = getattr(detector.classifier, "inner", detector.classifier)
    if not isinstance(classifier, OnnxClassifier) or detector.companion_preprocess not in (None, PASSTHROUGH):
        return network
    try:
        return merged(network, classifier)
    except _Outside:
        return network


def merged(network: NetworkModel, classifier: OnnxClassifier) -> NetworkModel:
    """Join the model of the networks, with the input REFERENCE, and the model of the classifier."""
    import onnx
    from onnx import compose

    theirs = _contents(classifier)
    ours = onnx.ModelProto()
    ours.CopyFrom(network.model)
    theirs, ours = _aligned(theirs, ours)
    output = classifier.output.name
    tensor, order = _probabilities(theirs.graph, output)
    theirs = compose.add_prefix(theirs, PREFIX)
    inputs = row_inputs(classifier.layout)
    rename(ours.graph, {REFERENCE: ANSWER, **{name: COMPANION + name for name in inputs}})
    kinds = {entry.name.removeprefix(COMPANION): entry.type.tensor_type.elem_type for entry in ours.graph.input}
    graph = Graph(ours.graph, "guard")
    old = list(ours.graph.node)
    del ours.graph.node[:], ours.graph.input[:]
    for name, entry in zip(inputs, classifier.model.get_inputs(), strict=True):
        graph.add("Identity", name, name=PREFIX + entry.name)
        graph.add("Cast", name, name=COMPANION + name, to=kinds[name])
    ours.graph.node.extend(theirs.graph.node)
    ours.graph.initializer.extend(theirs.graph.initializer)
    ours.graph.sparse_initializer.extend(theirs.graph.sparse_initializer)
    answer = np.asarray(classifier.ask(probe_rows(classifier.layout)))
    is_column = answer.ndim == 1 or answer.shape[1] == 1
    _add_answer(graph, PREFIX + tensor, order, is_column=is_column, is_logits=classifier.is_logits)
    ours.graph.node.extend(old)
    ours.functions.extend(theirs.functions)
    known = {entry.domain for entry in ours.opset_import}
    ours.opset_import.extend(entry for entry in theirs.opset_import if entry.domain not in known)
    graph.prune()
    return NetworkModel(ours, inputs, network.outputs)


def _contents(classifier: OnnxClassifier) -> Any:
    """The classifier's model."""
    import onnx

    session = classifier.model
    if any(isinstance(entry.shape[0], int) if entry.shape else True for entry in session.get_inputs()):
        raise _Outside("it takes batches of one size")
    path, data = getattr(session, "_model_path", None), getattr(session, "_model_bytes", None)
    if path:
        return onnx.load(path)
    if data:
        return onnx.load_model_from_string(data)
    raise _Outside("the session does not say which file it runs")


def _aligned(theirs: Any, ours: Any) -> tuple[Any, Any]:
    """Both models in the later one's operation set."""
    from onnx import version_converter

    versions = [
        next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
        for model in (theirs, ours)
    ]
    target = max(version for version in versions if version is not None)
    found = []
    for model, version in zip((theirs, ours), versions, strict=True):
        try:
            found.append(model if version in (None, target) else version_converter.convert_version(model, target))
        except Exception as error:  # the converter has no base for its errors
            raise _Outside(f"operation set {version} cannot be brought to {target}: {error}") from error
    return found[0], found[1]


def _probabilities(graph: Any, output: str) -> tuple[str, npt.NDArray[np.int64] | None]:
    """The tensor of the probabilities, `(n, classes)`, and the column of each class; None if the columns are in order.

    scikit-learn's converter ends in a ZipMap, which turns the probabilities of each row into a map.
    """
    maker = next((node for node in graph.node if output in node.output), None)
    if maker is None or maker.op_type != "ZipMap":
        return output, None
    labels = next(
        list(attribute.ints or attribute.strings)
        for attribute in maker.attribute
        if attribute.name.startswith("classlabels")
    )
    order = np.array(sorted(range(len(labels)), key=lambda i: labels[i]), "int64")
    return maker.input[0], None if np.array_equal(order, np.arange(len(labels))) else order


def _add_answer(
    graph: Graph, tensor: str, order: npt.NDArray[np.int64] | None, *, is_column: bool, is_logits: bool
) -> None:
    """Add nodes that make ANSWER, float32 `(n, classes)`, of the tensor that the classifier returns."""
    found = graph.cast(tensor, "float32")
    if order is not None:
        found = graph.add("Gather", found, order, axis=1)
    if is_column:
        found = graph.add("Reshape", found, np.array([-1, 1], "int64"))
        other = graph.add("Mul", found, np.float32(0)) if is_logits else graph.add("Sub", np.float32(1), found)
        found = graph.add("Concat", other, found, axis=1)
    graph.add("Identity", found, name=ANSWER)
