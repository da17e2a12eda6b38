"""The service over gRPC: the same protocol as over HTTP, in the same event loop."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from demur.errors import InvalidSetting
from demur.extras import extra
from demur.guards.tensors import Array
from demur.serve.serving.batcher import RETRY_SECONDS
from demur.serve.serving.protocol import (
    CLIENT_GONE,
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
from demur.serve.serving.service import Service
from demur.serve.settings import Settings
from demur.serve.transport.access import Keys
from demur.serve.transport.connections import LINGER_SECONDS
from demur.serve.watching.logs import Journal, Tracer

with extra("grpcio", "grpc"):
    import grpc
    import grpc.aio
with extra("protobuf", "grpc"):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError

logger = logging.getLogger("demur.serve.grpc")

SERVICE = "inference.GRPCInferenceService"
PROTO = Path(__file__).with_name("proto") / "open_inference_grpc.proto"
DESCRIPTORS = PROTO.with_suffix(".binpb")
"""The compiled PROTO; the README.md beside it says how it is made."""

Code = grpc.StatusCode
CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
"""The code of gRPC for a status of HTTP; INTERNAL for any other."""
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
OPEN = ("ServerLive", "ServerReady")
"""Methods that need no key: they hold no data."""
MAX_DETAILS = 2000
"""Characters of an error: it travels in a header, and headers have a limit."""
DEAD_SECONDS = 20
"""A connection that does not answer a ping for so long is closed."""
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


def _messages() -> dict[str, Any]:
    """The classes of the protocol's messages by name.

    They live in a descriptor pool of their own: clients and other servers in the same process bring messages of the
    same names, which protobuf's common pool would not take twice.
    """
    pool = descriptor_pool.DescriptorPool()
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


MESSAGES = _messages()


class Server:
    """Answers calls over gRPC; what happens before and after each is as over HTTP.

    Attributes:
        port: where the server listens, once it does.
        is_closing: whether calls are refused, except those that ask for health.
    """

    port: int

    def __init__(self, service: Service, keys: Keys | None = None, tracer: Tracer | None = None) -> None:
        self._service, self._keys, self._journal = service, keys, Journal(tracer)
        self.is_closing = False

    async def start(self, address: str, tls: tuple[str, str] | None = None) -> Self:
        """Serve in the event loop that runs.

        Args:
            address: `host:port`; port 0 for any that is free.
            tls: PEM files with the certificate, and with its private key; None for plain text.

        Raises:
            InvalidSetting: the PEM files are not a certificate and its key.
            OSError: the address is taken or not valid, or a file cannot be read.
        """
        settings = self._service.settings
        server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=settings.max_connections)
        handler = grpc.method_handlers_generic_handler(SERVICE, {method: self._handler(method) for method in METHODS})
        server.add_generic_rpc_handlers((handler,))
        credentials = None if tls is None else await asyncio.to_thread(_credentials, *tls)
        try:
            port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, credentials)
        except RuntimeError:
            port = 0
        if port == 0:
            await server.stop(None)
            raise OSError(f"cannot listen for gRPC on {address}: it is taken, or not an address of this machine")
        await server.start()
        self._server, self.port = server, port
        return self

    async def stop(self, grace: float) -> None:
        """Take no more calls, finish those that began; cut off what still runs after `grace` seconds."""
        linger = min(LINGER_SECONDS, grace)
        # gRPC answers a call that comes just as it stops as if the client had cancelled it. So clients first get an
        # error that means "elsewhere, or later".
        self.is_closing = True
        await asyncio.sleep(linger)
        await self._server.stop(grace - linger)

    def _handler(self, method: str) -> Any:
        """A handler of bytes to bytes.

        gRPC reads the message before it calls a handler of one message. To check the key and to limit the time before
        that, a handler must be one of a stream of messages; on the wire they are the same.
        """

        async def handle(messages: Any, context: Any) -> bytes:  # noqa: ARG001
            return await self._call(method, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    # Around each call ---------------------------------------------------------------------------------------------

    async def _call(self, method: str, context: Any) -> bytes:
        begun = time.perf_counter()
        # As HTTP has them; this server reads no binary metadata.
        headers = {
            name.encode(): value.encode() for name, value in context.invocation_metadata() if isinstance(value, str)
        }
        request_id = self._journal.request_id(headers)
        figures: dict[str, Any] = {"request_id": request_id}
        found: ProtocolError | None = None
        reply, status, path = b"", CLIENT_GONE, f"/{SERVICE}/{method}"
        with self._journal.span("POST", path, headers) as span:
            try:
                if method not in OPEN and self.is_closing:
                    raise ProtocolError(503, "the server is shutting down", retry_after=RETRY_SECONDS)
                if method not in OPEN and self._keys is not None:
                    self._keys.admit(headers, figures, ", in the metadata: authorization")
                message = _parsed(method, await self._read(context))
                reply = (await self._answer(method, message, figures)).SerializeToString()
                status = 200
            except ProtocolError as error:
                found = error
            except Exception:  # not a call that was cancelled: that goes on to gRPC
                logger.exception("request %s failed", request_id)
                found = ProtocolError(500, "internal error")
            finally:
                status = status if found is None else found.status
                if span is not None:
                    span.set_attributes({"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": method})
                seconds = time.perf_counter() - begun
                self._journal.answered(f"gRPC {method}", figures, status, seconds, span=span, route=path)
        trailing: tuple[tuple[str, str], ...] = (("x-request-id", request_id),)
        if found is None:
            context.set_trailing_metadata(trailing)
            return reply
        if found.retry_after is not None:
            trailing += (("grpc-retry-pushback-ms", str(1000 * found.retry_after)),)
        await context.abort(CODES.get(found.status, Code.INTERNAL), found.message[:MAX_DETAILS], trailing)
        raise AssertionError("abort raises")

    async def _read(self, context: Any) -> bytes:
        seconds = self._service.settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError:
            raise ProtocolError(408, f"the message did not come whole within {seconds:g} seconds") from None
        if not isinstance(message, bytes):  # gRPC's mark for the end of the stream
            raise BadRequest("the call ended without a message, or with one that is too large")
        return message

    # The methods --------------------------------------------------------------------------------------------------

    async def _answer(self, method: str, message: Any, figures: dict[str, Any]) -> Any:
        """Answer one method with a message; `figures` gets what the log says of the call."""
        service, response = self._service, MESSAGES[f"{method}Response"]
        match method:
            case "ServerLive":
                return response(live=True)
            case "ServerReady":
                return response(ready=service.is_ready())
            case "ServerMetadata":
                return response(**service.server_metadata())
            case "ModelInfer":
                return await self._infer(message, figures)
        name, version = message.name, message.version or None
        figures["model"] = name[:80]
        if method == "ModelReady":
            return response(ready=service.model_ready(name, version))
        found = service.model_metadata(name, version)
        found.pop("classes", None)  # the protocol's message has no place for names
        return response(**found)

    async def _infer(self, message: Any, figures: dict[str, Any]) -> Any:
        name, version = message.model_name, message.model_version or None
        figures["model"] = name[:80]
        begun = time.perf_counter()
        try:
            self._service.served(name, version)
            asked = read_request(message)
        except ProtocolError as error:
            self._service.telemetry.request(name, "grpc", error.status, time.perf_counter() - begun)
            raise
        found = await self._service.infer(name, version, asked, protocol="grpc")
        figures.update(rows=found.rows, flagged=found.flagged)
        return write_response(found, message)


def _options(settings: Settings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.max_send_message_length", -1),
        # Two servers would share a port, and the calls that come, without either knowing.
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_concurrent_streams", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(1000 * settings.head_seconds)),
        ("grpc.max_connection_idle_ms", int(1000 * settings.idle_seconds)),
        ("grpc.keepalive_time_ms", int(1000 * settings.request_seconds)),
        ("grpc.keepalive_timeout_ms", 1000 * DEAD_SECONDS),
    )


def _credentials(certificate: str, key: str) -> Any:
    pair = Path(key).read_bytes(), Path(certificate).read_bytes()
    try:
        # gRPC would say only that it cannot listen, also for a key with a password.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise InvalidSetting(
            f"{certificate} and {key} are no certificate and its private key, in PEM without a password: "
            f"{error.reason or error}"
        ) from None
    return grpc.ssl_server_credentials([pair])


def _parsed(method: str, message: bytes) -> Any:
    request = MESSAGES[f"{method}Request"]
    try:
        return request.FromString(message)
    except DecodeError:
        raise BadRequest(f"the message is no {request.DESCRIPTOR.name}") from None


# Messages -------------------------------------------------------------------------------------------------------------


def read_request(message: Any) -> InferRequest:
    """Read a `ModelInferRequest`; ProtocolError says what is wrong."""
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
