"""Messages of gRPC to requests, and answers to messages of gRPC."""

import contextlib
from typing import Any

import numpy as np

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
from demur.serve.transport.open_inference import MESSAGES

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field of `InferTensorContents` that a datatype's numbers are in; FP16 has none."""


def read_request(message: Any) -> InferRequest:
    """Read a `ModelInferRequest`.

    Raises:
        ProtocolError: it cannot be one; the message says what is wrong.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ProtocolError(
            400, f"raw_input_contents holds one tensor for each of the {len(message.inputs)} inputs; got {len(raw)}"
        )
    inputs: dict[str, Array] = {}
    for place, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise ProtocolError(400, f"input {shown(tensor.name)} is there twice")
        inputs[tensor.name] = _tensor(tensor, raw[place] if raw else None)
    wanted = tuple(Wanted(output.name, binary=True) for output in message.outputs)
    if len(set(wanted)) != len(wanted):
        raise ProtocolError(400, "an output is asked for twice")
    return InferRequest(inputs, message.id or None, wanted, _parameters(message.parameters))


def write_response(response: InferResponse, request: Any) -> Any:
    """Write a `ModelInferResponse`: with raw contents where the `ModelInferRequest` has such, typed ones elsewhere."""
    message = MESSAGES["ModelInferResponse"](
        model_name=response.model, model_version=response.version, id=response.id or ""
    )
    # A message holds tensors of one form only, and FP16 has no other.
    raw = bool(request.raw_input_contents) or any(array.dtype == np.float16 for array in response.outputs.values())
    for name, array in response.outputs.items():
        datatype = datatype_of(array.dtype)
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
    return message


def _tensor(tensor: Any, raw: bytes | None) -> Array:
    dtype = dtype_of(tensor.datatype)
    name, shape = tensor.name, list(tensor.shape)
    count = count_of(shape, name)
    if raw is None:
        return shaped(_from_contents(tensor.contents, name, dtype, count), shape, name)
    if tensor.HasField("contents"):
        raise ProtocolError(
            400, f"input {shown(name)} has contents, and there are raw_input_contents: send one of them"
        )
    if len(raw) != count * dtype.itemsize:
        raise ProtocolError(
            400,
            f"raw contents of input {shown(name)} must be {count * dtype.itemsize} bytes, for {tensor.datatype} of "
            f"shape {shape}; got {len(raw)}",
        )
    return shaped(from_bytes(raw, name, dtype), shape, name)


def _from_contents(contents: Any, name: str, dtype: np.dtype[Any], count: int) -> Array:
    datatype = datatype_of(dtype)
    field = CONTENTS.get(datatype)
    if field is None:
        raise ProtocolError(400, f"input {shown(name)} is {datatype}, which is sent in raw_input_contents only")
    numbers = getattr(contents, field)
    if len(numbers) != count:
        raise ProtocolError(
            400, f"{field} of input {shown(name)} must hold {count} numbers, as its shape says; got {len(numbers)}"
        )
    # Small whole numbers come in 32 bits, whatever they are said to be.
    wide = {"int_contents": np.dtype("int32"), "uint_contents": np.dtype("uint32")}.get(field, dtype.newbyteorder("="))
    array: Array = np.array(numbers, wide)
    if wide.itemsize > dtype.itemsize and not holds(array, dtype):
        raise ProtocolError(400, f"{field} of input {shown(name)} must be in the range of {datatype}")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _parameters(given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(parameter, choice)
    if isinstance(found.get("threshold"), str):
        # Some clients can send whole numbers and strings, but no others.
        with contextlib.suppress(ValueError):  # the service says what is wrong with it
            found["threshold"] = float(found["threshold"])
    return found
