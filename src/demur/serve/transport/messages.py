"""Messages of the Open Inference Protocol over gRPC: their classes, to requests, and from answers.

The classes live in a descriptor pool of their own: clients and other servers in the same process bring messages of the
same names, which protobuf's common pool would not take twice.
"""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from demur.extras import extra
from demur.guards.tensors import Array
from demur.serve.serving.protocol import (
    BadRequest,
    InferRequest,
    InferResponse,
    Tensor,
    Wanted,
    datatype_of,
    holds,
    shown,
    to_bytes,
)

with extra("protobuf", "grpc"):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
PROTO = Path(__file__).with_name("proto") / "open_inference_grpc.proto"
DESCRIPTORS = PROTO.with_suffix(".binpb")
"""The compiled PROTO; the README.md beside it says how it is made."""


def _messages() -> dict[str, Any]:
    """The classes of the protocol's messages by name, without the package's."""
    pool = descriptor_pool.DescriptorPool()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


MESSAGES = _messages()
CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field of `InferTensorContents` for the numbers of a datatype; FP16 has no field."""


def read_request(message: Any) -> InferRequest:
    """Read a `ModelInferRequest`.

    Raises:
        ProtocolError: the message says what is wrong.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadRequest(
            f"raw_input_contents holds one tensor for each of the {len(message.inputs)} inputs; got {len(raw)}"
        )
    inputs: dict[str, Array] = {}
    for place, entry in enumerate(message.inputs):
        if entry.name in inputs:
            raise BadRequest(f"input {shown(entry.name)} is there twice")
        tensor = Tensor(entry.name, entry.datatype, list(entry.shape))
        if not raw:
            inputs[entry.name] = tensor.shaped(_from_contents(entry.contents, tensor))
            continue
        if entry.HasField("contents"):
            raise BadRequest(f"{tensor} has contents, and there are raw_input_contents: send one of them")
        tensor.check_bytes(len(raw[place]), "raw contents")
        inputs[entry.name] = tensor.from_bytes(raw[place])
    wanted = tuple(Wanted(output.name, binary=True) for output in message.outputs)
    return InferRequest(inputs, message.id or None, wanted, _parameters(message.parameters))


def write_response(response: InferResponse, request: Any) -> Any:
    """Write a `ModelInferResponse`: with raw contents where the `ModelInferRequest` has such, typed ones elsewhere."""
    message = MESSAGES["ModelInferResponse"](
        model_name=response.model, model_version=response.version, id=response.id or ""
    )
    # A message holds tensors of one form only, and FP16 has no typed form.
    raw = bool(request.raw_input_contents) or any(array.dtype == np.float16 for array in response.outputs.values())
    for name, array in response.outputs.items():
        datatype = datatype_of(array.dtype)
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(to_bytes(array))
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
    return message


def _from_contents(contents: Any, tensor: Tensor) -> Array:
    datatype, dtype = datatype_of(tensor.dtype), tensor.dtype.newbyteorder("=")
    field = CONTENTS.get(datatype)
    if field is None:
        raise BadRequest(f"{tensor} is {datatype}, which is sent in raw_input_contents only")
    numbers = getattr(contents, field)
    if len(numbers) != tensor.count:
        raise BadRequest(f"{field} of {tensor} must hold {tensor.count} numbers, as its shape says; got {len(numbers)}")
    # Small whole numbers come in 32 bits, whatever they are said to be.
    wide = {"int_contents": np.dtype("int32"), "uint_contents": np.dtype("uint32")}.get(field, dtype)
    array: Array = np.array(numbers, wide)
    if wide.itemsize > dtype.itemsize and not holds(array, dtype):
        raise BadRequest(f"{field} of {tensor} must be in the range of {datatype}")
    return array.astype(dtype, copy=False)


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
