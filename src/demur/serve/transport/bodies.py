"""Bodies of HTTP: received within limits, read as requests, and written as answers.

A body is JSON, with or without binary tensors after it. JSON knows no NaN and no infinity: in a request they are
errors, in an answer they become null. Binary tensors carry both.
"""

import asyncio
import functools
import re
import zlib
from itertools import chain
from typing import Any

import numpy as np
import orjson
from starlette.types import Receive

from demur.guards.tensors import Array
from demur.serve.serving.protocol import (
    BadRequest,
    InferRequest,
    InferResponse,
    ProtocolError,
    Tensor,
    Wanted,
    datatype_of,
    holds,
    shown,
    to_bytes,
)
from demur.serve.settings import Settings

Headers = list[tuple[bytes, bytes]]

HEADER_LENGTH = "Inference-Header-Content-Length"
DECOMPRESSORS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
AT_ONCE = 65_536
"""Most bytes of a body that are unpacked or read without a thread."""
STRINGS = re.compile(rb'"[^"]*"')
ESCAPES = re.compile(rb"\\.", re.DOTALL)
NOT_STRUCTURE = bytes(sorted(set(range(256)) - set(b'[]{}"')))
MOST_ESCAPES = 10_000
CHUNK = 65_536
"""Brackets that are counted together, so that a bomb of brackets is told by the beginning."""
OPENING = np.zeros(256, np.int32)
OPENING[list(b"[{")], OPENING[list(b"]}")] = 1, -1


class Gone(Exception):
    """The client has closed the connection."""


# Receiving ------------------------------------------------------------------------------------------------------------


async def received(settings: Settings, headers: Headers, receive: Receive) -> InferRequest:
    """Receive and read a request.

    Raises:
        ProtocolError: the body is too large, took too long or is wrong.
        Gone: the client has closed the connection.
    """
    declared, encoding, length = None, b"", b""
    for name, value in headers:
        if name == b"content-length":
            declared = int(value)  # which the HTTP parser has checked
        elif name == b"content-encoding":
            encoding = value.strip().lower()
        elif name == b"inference-header-content-length":
            length = value
    body = await _read_body(receive, declared, settings.max_body, settings.request_seconds)
    if encoding not in (b"", b"identity"):
        body = await _unpacked(body, encoding, settings.max_body)
    if length and not (length.isdigit() and len(length) < 20):
        raise BadRequest(f"{HEADER_LENGTH} is a number of bytes; got {length[:80].decode('latin-1')!r}")
    read = functools.partial(
        read_request,
        body,
        int(length) if length else None,
        max_depth=settings.max_depth,
        max_json=settings.max_json,
    )
    # While a large body is read, others are answered.
    return read() if len(body) <= AT_ONCE else await asyncio.to_thread(read)


async def _read_body(receive: Receive, declared: int | None, limit: int, seconds: float) -> bytes:
    """The body of a request, of at most `limit` bytes, with `declared` as the `Content-Length`.

    A body that is too large is read to the end, but not kept, unless it is much too large: closing a connection on
    which data arrive would lose the answer.
    """
    too_large = ProtocolError(413, f"the body is larger than {limit} bytes")
    if declared is not None and declared > 2 * limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                elif size > 2 * limit:
                    raise too_large
                else:
                    chunks.clear()
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise ProtocolError(408, f"the body did not come whole within {seconds:g} seconds") from None
    if size > limit:
        raise too_large
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _unpacked(body: bytes, encoding: bytes, limit: int) -> bytes:
    """A compressed body as it was before, of at most `limit` bytes: no more is unpacked."""
    if encoding not in DECOMPRESSORS:
        raise ProtocolError(415, f"Content-Encoding is gzip, deflate or none; got {encoding[:80].decode('latin-1')}")
    parts = zlib.decompressobj(DECOMPRESSORS[encoding])
    try:
        if len(body) <= AT_ONCE and limit <= 1024 * AT_ONCE:
            whole = parts.decompress(body, limit + 1)
        else:
            whole = await asyncio.to_thread(parts.decompress, body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not compressed as Content-Encoding says: {error}") from None
    if len(whole) > limit:
        raise ProtocolError(413, f"the body, unpacked, is larger than {limit} bytes")
    if not parts.eof or parts.unused_data:
        raise BadRequest("the compressed body ends too early, or more follows it")
    return whole


# Reading --------------------------------------------------------------------------------------------------------------


def read_request(
    body: bytes, header_length: int | None = None, *, max_depth: int = 16, max_json: int = 4 * 2**20
) -> InferRequest:
    """Read a request; ProtocolError says what is wrong.

    Args:
        body: JSON, and after it the binary tensors.
        header_length: bytes of JSON at the beginning of the body; None for all.
        max_depth: deepest nesting of the JSON.
        max_json: most bytes of JSON; nobody else is answered while it is parsed.
    """
    if header_length is None:
        head, binary = body, memoryview(b"")
    else:
        if not 0 <= header_length <= len(body):
            raise BadRequest(f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes")
        head, binary = body[:header_length], memoryview(body)[header_length:]
    if len(head) > max_json:
        raise ProtocolError(
            413, f"the JSON of a request may have {max_json} bytes, and this has {len(head)}: send binary tensors"
        )
    document = _document(head, max_depth)
    given = document.get("inputs")
    if not isinstance(given, list) or not given:
        raise BadRequest("inputs is a list of at least one tensor, with name, shape, datatype and data")
    inputs: dict[str, Array] = {}
    used = 0
    for entry in given:
        name = _name(entry, "an input")
        if name in inputs:
            raise BadRequest(f"input {shown(name)} is there twice")
        inputs[name], size = _tensor(entry, name, binary[used:])
        used += size
    if used != len(binary):
        raise BadRequest(f"the inputs take {used} bytes of binary data, and the body has {len(binary)}")
    parameters = _parameters(document, "the request")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise BadRequest(f"id is a string; got {shown(identifier)}")
    return InferRequest(inputs, identifier, _wanted(document.get("outputs"), parameters), parameters)


def is_deeper(text: bytes, most: int) -> bool:
    """Whether JSON is nested deeper than `most` levels, without parsing it. The text need not be valid JSON."""
    if b"\\" in text:
        if text.count(b"\\") > MOST_ESCAPES:
            raise BadRequest(f"the JSON has more than {MOST_ESCAPES} escaped characters")
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
    # Only a text with so many brackets can be nested so deep: most bodies are flat, and not looked at twice.
    if text.count(b"[") + text.count(b"{") > max_depth and is_deeper(text, max_depth):
        raise BadRequest(f"the JSON is nested deeper than {max_depth} levels")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON (which has no NaN or infinity): {error}") from None
    if not isinstance(document, dict):
        raise BadRequest(f"the body is a JSON object with inputs; got {shown(document)}")
    return document


def _name(entry: Any, what: str) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise BadRequest(f"{what} is an object with a name; got {shown(entry)}")
    return name


def _parameters(entry: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"parameters of {what} is an object; got {shown(parameters)}")
    return parameters


def _tensor(entry: dict[str, Any], name: str, binary: memoryview) -> tuple[Array, int]:
    """An input, and how many bytes of the binary data it takes."""
    tensor = Tensor(name, entry.get("datatype"), entry.get("shape"))
    size = _parameters(entry, str(tensor)).get("binary_data_size")
    if (size is None) != ("data" in entry):
        both = "has neither data nor" if size is None else "has both data and"
        raise BadRequest(f"{tensor} {both} the parameter binary_data_size")
    if size is None:
        return tensor.shaped(_from_json(entry["data"], tensor)), 0
    tensor.check_bytes(size, "binary_data_size")
    if size > len(binary):
        raise BadRequest(f"{tensor} takes {size} bytes of binary data, and {len(binary)} are left")
    return tensor.from_bytes(binary[:size]), size


def _from_json(data: Any, tensor: Tensor) -> Array:
    """The numbers of a tensor, from lists that are flat or nested as the shape says."""
    flat = _flat(data, tensor.shape)
    if flat is None or len(flat) != tensor.count:
        raise BadRequest(
            f"data of {tensor} is a list of {tensor.count} numbers, or lists nested as its shape, {tensor.shape}",
        )
    dtype = tensor.dtype
    array = _numbers(flat, dtype)
    if array is None:
        kind = {"b": "true and false", "i": "whole numbers in its range", "u": "whole numbers in its range"}
        raise BadRequest(
            f"data of {tensor} must be {kind.get(dtype.kind, 'numbers')}, as its datatype is {datatype_of(dtype)}",
        )
    return array


def _flat(data: Any, shape: list[int]) -> list[Any] | None:
    """The values in lists that are flat or nested as a shape says; None for other lists.

    NumPy would make a string of every number beside one long string: memory without a limit.
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
    """Numbers of JSON as a datatype; None if the datatype does not have these numbers."""
    types = set(map(type, flat))
    native = dtype.newbyteorder("=")
    if dtype.kind == "b" or not types <= {int, float}:
        return np.array(flat, bool) if dtype.kind == "b" and types <= {bool} else None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # numbers beyond the range become infinite, and the row is reported
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
        raise BadRequest(f"outputs is a list of objects with a name; got {shown(outputs)}")
    wanted = []
    for entry in outputs:
        name = _name(entry, "an output")
        own = _parameters(entry, f"output {shown(name)}")
        wanted.append(Wanted(name, _flag(own, "binary_data", default=binary)))
    return tuple(wanted)


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"the parameter {name} is true or false; got {shown(value)}")
    return value


# Writing --------------------------------------------------------------------------------------------------------------


def write_response(response: InferResponse, request: InferRequest) -> tuple[bytes, int | None]:
    """The body of an answer, as the request asks for it, and how many bytes are JSON where binary tensors follow."""
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
