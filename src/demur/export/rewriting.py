"""What converters write, rewritten as the same in operations that runtimes do well. On `onnx` models, in place."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.onnx.session import onnxruntime_module


class Graph:
    """A graph with its nodes by what they make and its constants by name.

    Args:
        graph: `onnx.GraphProto`.
    """

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants: dict[str, npt.NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def maker(self, name: str, op: str) -> Any:
        """The node of that kind that makes a tensor; None if another does."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op else None

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        self.constants[name] = array
        return name

    def replace(self, node: Any, nodes: list[Any]) -> None:
        """Put nodes in the place of one; the last makes what it made."""
        place = next(i for i, found in enumerate(self.graph.node) if found is node)
        self.graph.node.remove(node)
        for i, new in enumerate(nodes):
            self.graph.node.insert(place + i, new)

    def prune(self) -> None:
        """Remove nodes and constants that nothing needs."""
        needed = {entry.name for entry in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
                needed.update(_captured(node))
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        used = [tensor for tensor in self.graph.initializer if tensor.name in needed]
        del self.graph.initializer[:]
        self.graph.initializer.extend(used)


def _captured(node: Any) -> set[str]:
    """Names that graphs within a node, the branches of an If say, may take from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in graph.node:
                found |= set(inner.input) | _captured(inner)
    return found


def rewritten(model: Any) -> Any:
    """Rewrite a model, in place, and return it."""
    selections(Graph(model.graph))
    buckets(Graph(model.graph))
    constant_shapes(Graph(model.graph), model)
    Graph(model.graph).prune()
    return model


def selections(graph: Graph) -> None:
    """`a [c] + b [not c]`, which tf2onnx makes of a selection, as `Where`: one node, and no `0 * inf`."""
    from onnx import helper

    for node in list(graph.graph.node):
        if node.op_type != "Add":
            continue
        products = [graph.maker(name, "Mul") for name in node.input]
        if None in products:
            continue
        chosen = [_chosen(graph, product) for product in products]
        if None in chosen:
            continue
        (condition, value, negated), (other, otherwise, other_negated) = chosen  # type: ignore[misc]
        if condition != other or negated == other_negated:
            continue
        if negated:
            value, otherwise = otherwise, value
        graph.replace(node, [helper.make_node("Where", [condition, value, otherwise], list(node.output), node.name)])


def buckets(graph: Graph) -> None:
    """TensorFlow's `Bucketize`, which tf2onnx leaves as it is, as how many boundaries a number is not below."""
    from onnx import TensorProto, helper

    for node in [node for node in graph.graph.node if node.op_type == "Bucketize"]:
        boundaries = next((list(entry.floats) for entry in node.attribute if entry.name == "boundaries"), None)
        if boundaries is None:
            continue
        name = node.output[0]
        last = graph.constant(f"{name}/last", np.array([-1], "int64"))
        limits = graph.constant(f"{name}/boundaries", np.array(boundaries, "float32"))
        steps = [
            ("Cast", [node.input[0]], "/float", {"to": TensorProto.FLOAT}),
            ("Unsqueeze", [f"{name}/float", last], "/column", {}),
            ("GreaterOrEqual", [f"{name}/column", limits], "/above", {}),
            ("Cast", [f"{name}/above"], "/numbers", {"to": TensorProto.INT32}),
            ("ReduceSum", [f"{name}/numbers", last], "", {"keepdims": 0}),
        ]
        graph.replace(node, [helper.make_node(op, ends, [name + end], **more) for op, ends, end, more in steps])


def _chosen(graph: Graph, product: Any) -> tuple[str, str, bool] | None:
    """Of a product with a condition as a number: the condition, the other factor, and whether it is negated."""
    for number, value in (tuple(product.input), tuple(product.input)[::-1]):
        cast = graph.maker(number, "Cast")
        if cast is None:
            continue
        negation = graph.maker(cast.input[0], "Not")
        return (cast.input[0], value, False) if negation is None else (negation.input[0], value, True)
    return None


def constant_shapes(graph: Graph, model: Any) -> None:
    """Shapes that are computed from the batch's size, as constants with -1 in its place.

    What the shapes are is found out by running the model on two batches. Networks whose rows may have any size are left
    as they are.
    """
    import onnx

    nodes = [node for node in graph.graph.node if node.op_type == "Reshape" and node.input[1] not in graph.constants]
    inputs = [entry for entry in graph.graph.input if entry.name not in graph.constants]
    sizes = {entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim][1:] for entry in inputs}
    if not nodes or any(0 in shape for shape in sizes.values()):
        return
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    names = sorted({node.input[1] for node in nodes})
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in names)
    session = onnxruntime_module().InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])
    types = {entry.name: onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type) for entry in inputs}
    found = [
        session.run(names, {name: np.zeros([n, *shape], types[name]) for name, shape in sizes.items()}) for n in (2, 3)
    ]
    for name, two, three in zip(names, *found, strict=True):
        differs = two != three
        if two.shape == three.shape and differs.sum() <= 1 and not (differs.any() and -1 in two):
            constant = graph.constant(f"{name}/constant", np.where(differs, -1, two).astype("int64"))
            for node in nodes:
                if node.input[1] == name:
                    node.input[1] = constant
