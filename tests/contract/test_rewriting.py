"""What converters write is rewritten to the same, in fewer operations."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from demur.export.graph import Graph, constant_shapes, rewritten


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def selection(swap):
    """`where(x > 0, a, b)` as a sum of two products."""
    products = [
        helper.make_node("Mul", ["chosen", "a"], ["first"]),
        helper.make_node("Mul", ["b", "rejected"], ["second"]),
    ]
    return [
        helper.make_node("Greater", ["x", "zero"], ["condition"]),
        helper.make_node("Cast", ["condition"], ["chosen"], to=TensorProto.FLOAT),
        helper.make_node("Not", ["condition"], ["negation"]),
        helper.make_node("Cast", ["negation"], ["rejected"], to=TensorProto.FLOAT),
        *products,
        helper.make_node("Add", ["second", "first"] if swap else ["first", "second"], ["y"]),
    ]


@pytest.mark.parametrize("swap", [False, True])
def test_a_selection_becomes_one_node_and_lets_infinity_be(swap):
    shapes = {"x": ["n"], "a": ["n"], "b": ["n"]}
    found = rewritten(model(selection(swap), shapes, ["y"], [("zero", np.float32(0))]))
    assert [node.op_type for node in found.graph.node] == ["Greater", "Where"]
    x, a, b = np.float32([1, -1, 2]), np.float32([10, np.inf, 12]), np.float32([np.nan, 21, 22])
    np.testing.assert_array_equal(run(found, x=x, a=a, b=b)[0], [10, 21, 12])


def test_a_sum_of_other_products_stays():
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["first"]),
        helper.make_node("Mul", ["a", "x"], ["second"]),
        helper.make_node("Add", ["first", "second"], ["y"]),
    ]
    shapes = {"x": ["n"], "a": ["n"], "b": ["n"]}
    found = rewritten(model(nodes, shapes, ["y"]))
    assert [node.op_type for node in found.graph.node] == ["Mul", "Mul", "Add"]


def flattening(row):
    """`x` flattened, by a shape that is computed from x's own."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"], axis=0),
        helper.make_node("Concat", ["rows", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["x", "flat"], ["y"]),
    ]
    constants = [("first", np.array([0])), ("rest", np.array([int(np.prod([d or 1 for d in row]))]))]
    return model(nodes, {"x": ["n", *(size or "any" for size in row)]}, ["y"], constants)


def test_a_shape_that_follows_the_batch_becomes_constant():
    found = rewritten(flattening((2, 3)))
    assert [node.op_type for node in found.graph.node] == ["Reshape"]
    for n in (1, 5):
        x = np.arange(6 * n, dtype="float32").reshape(n, 2, 3)
        np.testing.assert_array_equal(run(found, x=x)[0], x.reshape(n, 6))


def test_rows_of_any_size_keep_their_computed_shapes():
    found = rewritten(flattening((None,)))
    assert "Concat" in [node.op_type for node in found.graph.node]


def test_a_shape_that_depends_on_two_sizes_stays():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Concat", ["shape", "shape"], ["both"], axis=0),
        helper.make_node("Reshape", ["outer", "both"], ["y"]),
        helper.make_node("MatMul", ["column", "line"], ["outer"]),
        helper.make_node("Unsqueeze", ["x", "one"], ["column"]),
        helper.make_node("Unsqueeze", ["x", "zero"], ["line"]),
    ]
    nodes = [nodes[i] for i in (0, 1, 4, 5, 3, 2)]
    found = model(nodes, {"x": ["n"]}, ["y"], [("one", np.array([1])), ("zero", np.array([0]))])
    constant_shapes(Graph(found.graph), found)
    assert found.graph.node[-1].input[1] == "both"
