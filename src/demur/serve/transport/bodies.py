"""Bodies of HTTP to requests, and answers to bodies: JSON, with or without binary tensors after it.

JSON knows no NaN and no infinity: in a request they are errors, in an answer they become null. Binary tensors carry
both.
"""

import re
from itertools import chain
from typing import Any

import numpy as np
import orjson

from demur.serve.serving.protocol import (
    Array,
    InferRequest,
    InferResponse,
    ProtocolError,
    Wanted,
    count_of,
    datatype_of,
    dtype_of,
    from_bytes,
    holds,
    shaped,
    shown,
    to_bytes,
)

STRINGS = re.compile(rb'"[^"]*"')
ESCAPES = re.compile(rb"\\.", re.DOTALL)
NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b'[]{}"')))
MOST_ESCAPES = 10_000
CHUNK = 65_536
"""Brackets that are looked at together: a bomb of them is told by its beginning."""
OPENING = np.zeros(256, np.int32)
OPENING[list(b"[{")], OPENING[list(b"]}")] = 1, -1


# Reading --------------------------------------------------------------------------------------------------------------


def read_request(
    body: bytes, header_length: int | None = None, *, max_depth: int = 16, max_json: int = 4 * 2**20
) -> InferRequest:
    """Read a request.

    Args:
        body: JSON, and after it the binary tensors.
        header_length: how much of it is JSON; None for all.
        max_depth: deepest nesting of the JSON.
        max_json: bytes of JSON; nobody else is answered while it is parsed.

    Raises:
        ProtocolError: it is none; the message says what is wrong.
    """
    if header_length is None:
        head, binary = body, memoryview(b"")
    else:
        if not 0 <= header_length <= len(body):
            raise ProtocolError(
                400, f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes"
            )
        head, binary = body[:header_length], memoryview(body)[header_length:]
    if len(head) > max_json:
        raise ProtocolError(
            413, f"the JSON of a request may have {max_json} bytes, and this has {len(head)}: send binary tensors"
        )
    document = _document(head, max_depth)
    given = document.get("inputs")
    if not isinstance(given, list) or not given:
        raise ProtocolError(400, "inputs is a list of at least one tensor, with name, shape, datatype and data")
    inputs: dict[str, Array] = {}
    used = 0
    for entry in given:
        name = _name(entry, "an input")
        if name in inputs:
            raise ProtocolError(400, f"input {shown(name)} is there twice")
        inputs[name], size = _tensor(entry, name, binary[used:])
        used += size
    if used != len(binary):
        raise ProtocolError(400, f"the inputs take {used} bytes of binary data, and the body has {len(binary)}")
    parameters = _parameters(document, "the request")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise ProtocolError(400, f"id is a string; got {shown(identifier)}")
    return InferRequest(inputs, identifier, _wanted(document.get("outputs"), parameters), parameters)


def is_deeper(text: bytes, most: int) -> bool:
    """Whether JSON is nested deeper than that, without parsing it; of what is no JSON, the answer means nothing.

    Raises:
        ProtocolError: it has so many escapes that looking at them would take long.
    """
    if b"\\" in text:
        if text.count(b"\\") > MOST_ESCAPES:
            raise ProtocolError(400, f"the JSON has more than {MOST_ESCAPES} escaped characters")
        text = ESCAPES.sub(b"", text)
    structure = np.frombuffer(STRINGS.sub(b"", text.translate(None, NOT_STRUCTURE)), np.uint8)
    depth = 0
    for begin in range(0, len(structure), CHUNK):
        steps = np.cumsum(OPENING[structure[begin : begin + CHUNK]])
        if depth + steps.max() > most:
            return True
        depth += int(steps[-1])
    return False


def _document(text: bytes, max_depth: int) -> dict[str, Any]:
    # What is nested deeper has at least so many brackets: most bodies are flat, and not looked at twice.
    if text.count(b"[") + text.count(b"{") > max_depth and is_deeper(text, max_depth):
        raise ProtocolError(400, f"the JSON is nested deeper than {max_depth} levels")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(400, f"the body is not JSON (which has no NaN or infinity): {error}") from None
    if not isinstance(document, dict):
        raise ProtocolError(400, f"the body is a JSON object with inputs; got {shown(document)}")
    return document


def _name(entry: Any, what: str) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ProtocolError(400, f"{what} is an object with a name; got {shown(entry)}")
    return name


def _parameters(entry: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ProtocolError(400, f"parameters of {what} is an object; got {shown(parameters)}")
    return parameters


def _tensor(entry: dict[str, Any], name: str, binary: memoryview) -> tuple[Array, int]:
    """An input, and how many bytes of the binary data are its own."""
    dtype = dtype_of(entry.get("datatype"))
    shape: Any = entry.get("shape")
    count = count_of(shape, name)
    size = _parameters(entry, f"input {shown(name)}").get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise ProtocolError(400, f"input {shown(name)} has neither data nor the parameter binary_data_size")
        return shaped(_from_json(entry["data"], name, dtype, shape, count), shape, name), 0
    if "data" in entry:
        raise ProtocolError(400, f"input {shown(name)} has both data and the parameter binary_data_size")
    if type(size) is not int or size != count * dtype.itemsize:
        raise ProtocolError(
            400,
            f"binary_data_size of input {shown(name)} must be {count * dtype.itemsize}, for {entry['datatype']} of "
            f"shape {shape}; got {shown(size)}",
        )
    if size > len(binary):
        raise ProtocolError(400, f"input {shown(name)} takes {size} bytes of binary data, and {len(binary)} are left")
    return shaped(from_bytes(binary[:size], name, dtype), shape, name), size


def _from_json(data: Any, name: str, dtype: np.dtype[Any], shape: list[int], count: int) -> Array:
    """The numbers of a tensor, from lists that are flat or nested as its shape says."""
    flat = _flat(data, shape)
    if flat is None or len(flat) != count:
        raise ProtocolError(
            400,
            f"data of input {shown(name)} is a list of {count} numbers, or lists nested as its shape, {shape}",
        )
    array = _numbers(flat, dtype)
    if array is None:
        kind = (
            "true and false" if dtype.kind == "b" else "whole numbers in its range" if dtype.kind in "iu" else "numbers"
        )
        raise ProtocolError(400, f"data of input {shown(name)} must be {kind}, as its datatype is {datatype_of(dtype)}")
    return array


def _flat(data: Any, shape: list[int]) -> list[Any] | None:
    """What lists hold that are flat or nested as a shape says; None if they are neither.

    NumPy would do so too, but make a string of every number beside one long string: memory without a limit.
    """
    if not isinstance(data, list):
        return None
    rows: list[Any] = data
    if not rows or type(rows[0]) is not list:
        return rows
    if not shape or len(rows) != shape[0]:
        return None
    for size in shape[1:]:
        if set(map(type, rows)) != {list} or set(map(len, rows)) != {size}:
            return None
        rows = list(chain.from_iterable(rows))
    return rows


def _numbers(flat: list[Any], dtype: np.dtype[Any]) -> Array | None:
    """Numbers of JSON as a datatype; None if they are none of its numbers."""
    types = set(map(type, flat))
    native = dtype.newbyteorder("=")
    if dtype.kind == "b" or not types <= {int, float}:
        return np.array(flat, bool) if dtype.kind == "b" and types <= {bool} else None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is beyond the range of a float becomes infinite, and is told as a row
            return np.array(flat, native)
    try:
        array = np.array(flat, "float64" if float in types else "uint64" if dtype.kind == "u" else "int64")
    except OverflowError:
        return None
    return array.astype(native, copy=False) if holds(array, dtype) else None


def _wanted(outputs: Any, parameters: dict[str, Any]) -> tuple[Wanted, ...]:
    binary = _flag(parameters, "binary_data_output", default=False)
    if outputs is None:
        return ()
    if not isinstance(outputs, list):
        raise ProtocolError(400, f"outputs is a list of objects with a name; got {shown(outputs)}")
    wanted = []
    for entry in outputs:
        name = _name(entry, "an output")
        own = _parameters(entry, f"output {shown(name)}")
        wanted.append(Wanted(name, _flag(own, "binary_data", default=binary)))
    if len({output.name for output in wanted}) != len(wanted):
        raise ProtocolError(400, "an output is asked for twice")
    return tuple(wanted)


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise ProtocolError(400, f"the parameter {name} is true or false; got {shown(value)}")
    return value


# Writing --------------------------------------------------------------------------------------------------------------


def write_response(response: InferResponse, request: InferRequest) -> tuple[bytes, int | None]:
    """Write an answer in the form that the request asks for.

    Returns:
        The body, and how much of it is JSON where binary tensors follow.
    """
    binary = {output.name: output.binary for output in request.outputs}
    everything = _flag(request.parameters, "binary_data_output", default=False)
    outputs: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    for name, array in response.outputs.items():
        entry: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": datatype_of(array.dtype)}
        if binary.get(name, everything):
            tensors.append(to_bytes(array))
            entry["parameters"] = {"binary_data_size": len(tensors[-1])}
        else:
            entry["data"] = array.reshape(-1)
        outputs.append(entry)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.id is not None:
        document["id"] = response.id
    document["outputs"] = outputs
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tensors:
        return head, None
    return b"".join([head, *tensors]), len(head)
