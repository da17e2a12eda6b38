"""A classifier that is an ONNX model, put into the file of its guard."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.classifiers.onnx_file import OnnxClassifier
from demur.export.network import NetworkModel, rename, row_inputs
from demur.export.rewriting import Graph
from demur.guards.description import REFERENCE
from demur.network.live import LiveGuard
from demur.network.routes import PASSTHROUGH
from demur.rows.layout import probe_rows

PREFIX = "classifier/"
"""Of all names that the classifier brings along."""
ANSWER, COMPANION = "guard/answer", "companion/"


class _Outside(Exception):
    """Why an ONNX classifier cannot be put into the file."""


def with_classifier(network: NetworkModel, detector: LiveGuard) -> NetworkModel:
    """Put the classifier into the networks' model, if the classifier is an ONNX model that can be.

    Otherwise its answer stays an input: where the companion's rows are made by a function of the caller's, and where
    the model takes batches of one size, is not a file any more or cannot be brought to the networks' operation set.
    """
    classifier = getattr(detector.classifier, "inner", detector.classifier)
    if not isinstance(classifier, OnnxClassifier) or detector.companion_preprocess not in (None, PASSTHROUGH):
        return network
    try:
        return merged(network, classifier)
    except _Outside:
        return network


def merged(network: NetworkModel, classifier: OnnxClassifier) -> NetworkModel:
    """Join the networks' model and the classifier's, which takes the same rows.

    Args:
        network: with the input REFERENCE.
        classifier: an ONNX model.
    """
    import onnx
    from onnx import compose, helper

    theirs = _contents(classifier)
    ours = onnx.ModelProto()
    ours.CopyFrom(network.model)
    theirs, ours = _aligned(theirs, ours)
    output = classifier.output.name
    tensor, order = _probabilities(theirs.graph, output)
    theirs = compose.add_prefix(theirs, PREFIX)
    inputs = row_inputs(classifier.layout)
    rename(ours.graph, {REFERENCE: ANSWER, **{name: COMPANION + name for name in inputs}})
    nodes = list(theirs.graph.node)
    for name, entry in zip(inputs, classifier.model.get_inputs(), strict=True):
        nodes.insert(0, helper.make_node("Identity", [name], [PREFIX + entry.name]))
    kinds = {entry.name.removeprefix(COMPANION): entry.type.tensor_type.elem_type for entry in ours.graph.input}
    nodes += [helper.make_node("Cast", [name], [COMPANION + name], to=kinds[name]) for name in inputs]
    constants = list(theirs.graph.initializer)
    answer = np.asarray(classifier.ask(probe_rows(classifier.layout)))
    is_column = answer.ndim == 1 or answer.shape[1] == 1
    glue, more = _glue(PREFIX + tensor, order, is_column=is_column, is_logits=classifier.is_logits)
    nodes += glue
    constants += more
    graph = ours.graph
    old = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.node.extend([*nodes, *old])
    graph.initializer.extend(constants)
    graph.sparse_initializer.extend(theirs.graph.sparse_initializer)
    ours.functions.extend(theirs.functions)
    known = {entry.domain for entry in ours.opset_import}
    ours.opset_import.extend(entry for entry in theirs.opset_import if entry.domain not in known)
    Graph(graph).prune()
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
    """The tensor that holds the probabilities, `(n, classes)`, and which column each class has, if not its own.

    scikit-learn's converter ends in a ZipMap, which makes a map of each row; the probabilities go into it.
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


def _glue(
    tensor: str, order: npt.NDArray[np.int64] | None, *, is_column: bool, is_logits: bool
) -> tuple[list[Any], list[Any]]:
    """Nodes and constants that make the answer, float32 `(n, classes)`, of a classifier's output."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def add(op: str, *ends: Any, **attributes: Any) -> str:
        names = []
        for end in ends:
            if not isinstance(end, str):
                constants.append(numpy_helper.from_array(end, f"guard/constant_{len(constants)}"))
                names.append(constants[-1].name)
            else:
                names.append(end)
        name = f"guard/{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, names, [name], **attributes))
        return name

    found = add("Cast", tensor, to=TensorProto.FLOAT)
    if order is not None:
        found = add("Gather", found, order, axis=1)
    if is_column:
        found = add("Reshape", found, np.array([-1, 1], "int64"))
        other = (
            add("Mul", found, np.float32(0).reshape(())) if is_logits else add("Sub", np.float32(1).reshape(()), found)
        )
        found = add("Concat", other, found, axis=1)
    nodes.append(helper.make_node("Identity", [found], [ANSWER]))
    return nodes, constants
