"""Messages of the protocol: what goes in comes out, and what is wrong is told."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from demur.serve.serving.protocol import (
    DATATYPES,
    InferRequest,
    InferResponse,
    ProtocolError,
    Wanted,
    datatype_of,
    dtype_of,
)
from demur.serve.transport.bodies import CHUNK, MOST_ESCAPES, is_deeper, read_request, write_response

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)


@st.composite
def tensors(draw, *, finite=True):
    datatype = draw(st.sampled_from(list(DATATYPES)))
    dtype = DATATYPES[datatype]
    elements = {"allow_nan": not finite, "allow_infinity": not finite} if dtype.kind == "f" else {}
    return draw(arrays.arrays(dtype, draw(SHAPES), elements=arrays.from_dtype(dtype, **elements)))


def document(array, data=None, **more):
    entry = {"name": "x", "shape": list(array.shape), "datatype": datatype_of(array.dtype)}
    entry["data"] = array.ravel().tolist() if data is None else data
    return {"inputs": [entry | more]}


def refused(body, *parts, header_length=None, **settings):
    given = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(ProtocolError) as found:
        read_request(given, header_length, **settings)
    assert found.value.status == 400
    for part in parts:
        assert part in found.value.message
    return found.value.message


def with_binary(array, size=None, rest=b""):
    entry = {"name": "x", "shape": list(array.shape), "datatype": datatype_of(array.dtype)}
    entry["parameters"] = {"binary_data_size": array.nbytes if size is None else size}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + array.tobytes() + rest, len(head)


@given(tensors(), st.booleans())
def test_json_carries_tensors_flat_and_nested(array, nested):
    found = read_request(orjson.dumps(document(array, array.tolist() if nested else None)))
    assert found.inputs["x"].dtype == array.dtype
    np.testing.assert_array_equal(found.inputs["x"], array)


@given(tensors(finite=False))
def test_binary_carries_tensors_with_all_their_bits(array):
    body, length = with_binary(array)
    found = read_request(body, length).inputs["x"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(tensors(finite=False), tensors(), st.text(max_size=20))
def test_answers_in_binary_are_read_as_requests_are(first, second, identifier):
    response = InferResponse("m", "1", identifier, {"first": first, "second": second})
    body, length = write_response(response, InferRequest({}, parameters={"binary_data_output": True}))
    head = json.loads(body[:length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", identifier)
    found = read_request(
        orjson.dumps({"inputs": head["outputs"]}) + body[length:], len(orjson.dumps({"inputs": head["outputs"]}))
    )
    assert found.inputs["first"].tobytes() == first.tobytes()
    assert found.inputs["second"].tobytes() == second.tobytes()


@given(tensors())
def test_answers_in_json_are_read_as_requests_are(array):
    body, length = write_response(InferResponse("m", "1", None, {"x": array}), InferRequest({}))
    assert length is None
    assert "id" not in json.loads(body)
    np.testing.assert_array_equal(
        read_request(orjson.dumps({"inputs": json.loads(body)["outputs"]})).inputs["x"], array
    )


def test_json_has_null_for_what_it_cannot_say():
    scores = np.array([1.5, np.inf, np.nan], "float32")
    body, _ = write_response(InferResponse("m", "1", None, {"score": scores}), InferRequest({}))
    assert json.loads(body)["outputs"][0]["data"] == [1.5, None, None]


def test_each_output_can_be_asked_for_in_its_own_form():
    request = {
        **document(np.zeros((1, 2), "float32")),
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    asked = read_request(orjson.dumps(request))
    assert asked.outputs == (Wanted("a", True), Wanted("b", False))
    body, length = write_response(InferResponse("m", "1", None, {"a": np.ones(2), "b": np.ones(3)}), asked)
    a, b = json.loads(body[:length])["outputs"]
    assert a["parameters"] == {"binary_data_size": 16}
    assert "data" not in a
    assert b["data"] == [1.0, 1.0, 1.0]
    assert body[length:] == np.ones(2).tobytes()


def test_datatypes_and_numpy_types_belong_together():
    for name, dtype in DATATYPES.items():
        assert datatype_of(dtype_of(name)) == name
        assert datatype_of(dtype.newbyteorder(">")) == name
    for wrong in ("BYTES", "BF16", "fp32", None, 3, ["FP32"]):
        with pytest.raises(ProtocolError, match="datatype is one of"):
            dtype_of(wrong)


X = np.zeros((2, 2), "float32")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b'{"inputs": [NaN]}', "not JSON"),
        (b"[]", "JSON object"),
        ({}, "inputs is a list"),
        ({"inputs": []}, "inputs is a list"),
        ({"inputs": {}}, "inputs is a list"),
        ({"inputs": [3]}, "an input is an object with a name"),
        ({"inputs": [{"name": 3}]}, "an input is an object with a name"),
        ({"inputs": document(X)["inputs"] * 2}, "twice"),
        (document(X, datatype="BYTES"), "datatype is one of"),
        (document(X, shape=[2, -1]), "shape of input 'x'"),
        (document(X, shape=[2, 2.0]), "shape of input 'x'"),
        (document(X, shape=[True, 4]), "shape of input 'x'"),
        (document(X, shape="22"), "shape of input 'x'"),
        (document(X, shape=[1] * 33), "shape of input 'x'"),
        (document(X, shape=[2**62, 2**62]), "list of"),
        (document(X, [], shape=[0, 2**62, 2**62]), "beyond any array's"),
        (document(X, [], shape=[2**63 - 1, 2**63 - 1, 0]), "beyond any array's"),
        (document(X, [1, 2, 3]), "list of 4 numbers"),
        (document(X, [[1, 2], [3]]), "list of 4 numbers"),
        (document(X, [[1, 2, 3, 4]]), "list of 4 numbers"),
        (document(X, [[[1], [2]], [[3], [4]]]), "must be numbers"),
        (document(X, [[1, 2], 3]), "list of 4 numbers"),
        (document(X, "1234"), "list of 4 numbers"),
        (document(X, 7), "list of 4 numbers"),
        (document(X, ["1", "2", "3", "4"]), "must be numbers"),
        (document(X, [1, None, 3, 4]), "must be numbers"),
        (document(X, [1, True, 3, 4]), "must be numbers"),
        (document(X, [1, {}, 3, 4]), "must be numbers"),
        (document(X, datatype="BOOL", data=[1, 0, 1, 0]), "true and false"),
        (document(X, datatype="UINT8", data=[1, 2, 3, 256]), "whole numbers"),
        (document(X, datatype="INT8", data=[1, 2, 3, -129]), "whole numbers"),
        (document(X, datatype="INT64", data=[1, 2, 3, 2**63]), "whole numbers"),
        (document(X, datatype="UINT64", data=[1, 2, 3, -1]), "whole numbers"),
        (document(X, datatype="INT32", data=[1, 2, 3, 0.5]), "whole numbers"),
        (document(X, parameters=[]), "parameters of input 'x'"),
        (document(X, parameters={"binary_data_size": 16}), "both data and"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}, "neither data nor"),
        (document(X) | {"parameters": 3}, "parameters of the request"),
        (document(X) | {"id": 3}, "id is a string"),
        (document(X) | {"outputs": {}}, "outputs is a list"),
        (document(X) | {"outputs": [{}]}, "an output is an object"),
        (document(X) | {"outputs": [{"name": "a"}, {"name": "a"}]}, "asked for twice"),
        (document(X) | {"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "true or false"),
        (document(X) | {"parameters": {"binary_data_output": "yes"}}, "true or false"),
    ],
)
def test_what_is_wrong_with_json_is_told(body, part):
    refused(body, part)


def test_whole_numbers_may_be_written_with_a_point_and_reach_the_ends_of_their_range():
    found = read_request(orjson.dumps(document(X, datatype="UINT64", data=[1.0, 2, 3, 4])))
    assert found.inputs["x"].tolist() == [[1, 2], [3, 4]]
    found = read_request(orjson.dumps(document(X, datatype="UINT64", data=[0, 1, 2, 2**64 - 1])))
    assert found.inputs["x"][1, 1] == 2**64 - 1


def test_numbers_beyond_a_float_become_infinite():
    found = read_request(orjson.dumps(document(X, [1e300, 1, -1e300, 2])))
    assert found.inputs["x"].ravel().tolist() == [np.inf, 1, -np.inf, 2]


def test_long_strings_among_numbers_take_no_memory():
    # NumPy would make of each of these as many characters as the longest has: 4 TB.
    refused(document(np.zeros(1_000_001), data=["x" * 1_000_000] + [0] * 1_000_000), "must be numbers")


def test_what_is_wrong_with_binary_is_told():
    body, length = with_binary(X)
    refused(body, "and the body has", header_length=len(body) + 1)
    refused(body, "not JSON", header_length=length + 1)
    refused(body[:-1], "15 are left", header_length=length)
    refused(body + b"!", "the body has 17", header_length=length)
    refused(*with_binary(X, size=15)[:1], "must be 16", header_length=with_binary(X, size=15)[1])
    assert read_request(*with_binary(np.zeros((0, 2), "float32"))).inputs["x"].shape == (0, 2)
    empty = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [0, 2**62, 2**62], "datatype": "FP32", "parameters": {"binary_data_size": 0}}
            ]
        }
    ).encode()
    refused(empty, "beyond any array's", header_length=len(empty))
    flags = with_binary(np.array([2], "uint8").view(bool))
    refused(flags[0], "0 or 1", header_length=flags[1])


def test_nesting_is_limited_before_anything_is_parsed():
    deep = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert "deeper than 16" in refused(deep)
    assert "deeper than 3" in refused(document(np.zeros((1, 1, 1), "float32"), [[[0]]]), max_depth=3)


@given(
    st.recursive(
        st.text('[]{}"\\ab', max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(']}\\"a', max_size=4), inner, max_size=3),
        max_leaves=12,
    )
)
def test_depth_is_that_of_the_document(value):
    def deep(part):
        inner = part.values() if isinstance(part, dict) else part
        return 1 + max(map(deep, inner), default=0) if isinstance(part, list | dict) else 0

    for text in (json.dumps(value).encode(), orjson.dumps(value)):
        assert is_deeper(text, deep(value) - 1) == (deep(value) > 0)
        assert not is_deeper(text, deep(value))


def test_depth_is_told_across_chunks():
    flat = b"[" + b"[]," * CHUNK + b"[[]]]"
    assert not is_deeper(flat, 3)
    assert is_deeper(flat, 2)


def test_a_bomb_of_escapes_is_not_looked_at():
    assert "escaped characters" in refused(b'{"inputs": [' + b"[" * 20 + b'"' + b"\\\\" * MOST_ESCAPES + b'"')


def test_more_json_than_may_be_is_refused_before_it_is_parsed():
    body, length = with_binary(np.zeros((4, 100), "float32"))
    read_request(body, length, max_json=length)  # binary data do not count
    with pytest.raises(ProtocolError, match="binary tensors") as error:
        read_request(body, length, max_json=length - 1)
    assert error.value.status == 413


@given(st.binary(max_size=60), st.none() | st.integers(-3, 70))
def test_no_body_makes_the_reader_fail_otherwise(body, header_length):
    with pytest.raises(ProtocolError):
        read_request(body, header_length)
