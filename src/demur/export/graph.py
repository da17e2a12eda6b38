"""ONNX graphs: nodes are added, replaced and removed, and what converters write badly is rewritten. In place."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.onnx.session import onnxruntime_module


class Graph:
    """An `onnx.GraphProto` with its nodes by the tensors they make, and its constants by name.

    Args:
        graph: the graph.
        prefix: of the names of the tensors that are added.
    """

    def __init__(self, graph: Any, prefix: str = "added") -> None:
        from onnx import numpy_helper

        self.graph, self.prefix, self._count = graph, prefix, 0
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants: dict[str, npt.NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def maker(self, name: str, op: str) -> Any:
        """The node of kind `op` that makes a tensor; None if a node of another kind makes it."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op else None

    def _named(self, op: str) -> str:
        self._count += 1
        return f"{self.prefix}/{op}_{self._count}"

    def constant(self, array: Any, name: str | None = None) -> str:
        """Add a constant; return the name."""
        from onnx import numpy_helper

        name = name or self._named("constant")
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        self.constants[name] = array
        return name

    def add(self, op: str, *inputs: Any, name: str | None = None, **attributes: Any) -> str:
        """Add a node at the end, with arrays among its inputs as constants; return the name of its output."""
        from onnx import helper

        output = name or self._named(op)
        ends = [end if isinstance(end, str) else self.constant(end) for end in inputs]
        self.graph.node.append(helper.make_node(op, ends, [output], name=f"node/{output}", **attributes))
        return output

    def cast(self, x: str, dtype: str) -> str:
        """Add a node that changes the type of numbers."""
        from onnx import helper

        return self.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def replace(self, node: Any, nodes: list[Any]) -> None:
        """Put nodes in the place of a node; the last one makes the same tensor."""
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
    """Names that graphs within a node, such as the branches of an If, may take from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for inner in graph.node:
                found |= set(inner.input) | _captured(inner)
    return found


def rename(graph: Any, names: dict[str, str]) -> None:
    """Give tensors of a graph other names; graphs within its nodes are left as they are."""
    for node in graph.node:
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.get(name, name)
    for entry in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.name = names.get(entry.name, entry.name)


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
        last = graph.constant(np.array([-1], "int64"), f"{name}/last")
        limits = graph.constant(np.array(boundaries, "float32"), f"{name}/boundaries")
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
            constant = graph.constant(np.where(differs, -1, two).astype("int64"), f"{name}/constant")
            for node in nodes:
                if node.input[1] == name:
                    node.input[1] = constant
