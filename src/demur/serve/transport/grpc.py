"""The service over gRPC: the same protocol, in the same event loop as HTTP."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from demur.errors import InvalidSetting
from demur.extras import extra
from demur.serve.serving.batching import RETRY_SECONDS
from demur.serve.serving.protocol import CLIENT_GONE, ProtocolError
from demur.serve.serving.service import Service
from demur.serve.settings import Settings
from demur.serve.transport.limits import LINGER_SECONDS
from demur.serve.transport.open_inference import MESSAGES, SERVICE
from demur.serve.transport.open_inference.tensors import read_request, write_response
from demur.serve.transport.security import Keys
from demur.serve.watching import logs
from demur.serve.watching.tracing import Tracer

with extra("grpcio", "grpc"):
    import grpc
    import grpc.aio
    from google.protobuf.message import DecodeError

logger = logging.getLogger("demur.serve.grpc")

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
"""gRPC's for a status of HTTP; INTERNAL for any other."""
OPEN = ("ServerLive", "ServerReady")
"""What needs no key: it holds no data."""
MAX_DETAILS = 2000
"""Characters of an error: it travels in a header, and headers have a limit."""
DEAD_SECONDS = 20
"""A connection that does not answer a ping for so long is closed."""

Answer = Callable[[Any, dict[str, Any]], Awaitable[Any]]
"""Answers one method: from its message, and what the log shall say of it, to the message that is sent back."""


class Server:
    """A gRPC server that runs.

    Attributes:
        port: that it listens on.
    """

    def __init__(self, server: Any, calls: "Calls", port: int) -> None:
        self._server, self._calls, self.port = server, calls, port

    async def stop(self, grace: float | None = None) -> None:
        """Take no more calls, finish those that began; cut off what still runs after so many seconds."""
        linger = min(LINGER_SECONDS, grace or 0.0)
        # A call that comes just as gRPC stops is told that it was cancelled, as if by the client. So clients are told
        # first, by an error that means "elsewhere, or later".
        self._calls.is_closing = True
        await asyncio.sleep(linger)
        await self._server.stop(None if grace is None else grace - linger)


async def start(
    service: Service,
    address: str,
    *,
    keys: Keys | None = None,
    tls: tuple[str | Path, str | Path] | None = None,
    tracer: Tracer | None = None,
    max_message_bytes: int | None = None,
) -> Server:
    """Serve over gRPC, in the event loop that runs.

    Args:
        service: what answers.
        address: `host:port`; port 0 for any that is free.
        keys: who may ask; None for everybody.
        tls: PEM files with the certificate, and with its private key; None for plain text.
        tracer: makes spans of calls; None for none.
        max_message_bytes: of a request; None for what the settings say of bodies.

    Raises:
        InvalidSetting: the PEM files are no certificate and its key.
        OSError: the address is taken, or is none, or a file cannot be read.
    """
    settings = service.settings
    limit = settings.max_body if max_message_bytes is None else max_message_bytes
    server = grpc.aio.server(options=_options(settings, limit), maximum_concurrent_rpcs=settings.max_connections)
    calls = Calls(service, keys, tracer)
    server.add_generic_rpc_handlers((calls.handler(),))
    credentials = None if tls is None else await asyncio.to_thread(_credentials, *tls)
    try:
        port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if port == 0:
        await server.stop(None)
        raise OSError(f"cannot listen for gRPC on {address}: it is taken, or no address of this machine")
    await server.start()
    return Server(server, calls, port)


def _options(settings: Settings, limit: int) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", limit),
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


def _credentials(certificate: str | Path, key: str | Path) -> Any:
    pair = Path(key).read_bytes(), Path(certificate).read_bytes()
    try:
        # gRPC itself would say nothing but that it cannot listen; a key that takes a password is no key for it.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise InvalidSetting(
            f"{certificate} and {key} are no certificate and its private key, in PEM without a password: "
            f"{error.reason or error}"
        ) from None
    return grpc.ssl_server_credentials([pair])


class Calls:
    """Answers calls: what happens before and after each is as over HTTP.

    Args:
        service: what answers.
        keys: who may ask.
        tracer: makes spans.

    Attributes:
        is_closing: whether calls are refused, but for health.
    """

    def __init__(self, service: Service, keys: Keys | None, tracer: Tracer | None) -> None:
        self._service, self._keys, self._tracer = service, keys, tracer
        self.is_closing = False
        self._ids = logs.RequestIds()

    def handler(self) -> Any:
        """What gRPC asks for the methods."""
        answers: dict[str, Answer] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE, {method: self._method(method, answer) for method, answer in answers.items()}
        )

    def _method(self, method: str, answer: Answer) -> Any:
        """A handler of bytes to bytes.

        gRPC waits for a message, and reads it, before it calls a handler of one message. To be asked first, so as to
        check the key and to limit the time, a handler must be one of a stream; on the wire they are the same.
        """
        request = MESSAGES[f"{method}Request"]

        async def handle(messages: Any, context: Any) -> bytes:  # noqa: ARG001
            return await self._call(method, request, answer, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    # Around each call ---------------------------------------------------------------------------------------------

    async def _call(self, method: str, request: Any, answer: Answer, context: Any) -> bytes:
        begun = time.perf_counter()
        metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        request_id = self._ids.of(metadata.get("x-request-id", ""))
        figures: dict[str, Any] = {}
        found: ProtocolError | None = None
        reply, status = b"", CLIENT_GONE
        with self._span(method, metadata) as span:
            try:
                if method not in OPEN:
                    self._admit(metadata, figures)
                message = _parsed(request, await self._read(context))
                reply = (await answer(message, figures)).SerializeToString()
                status = 200
            except ProtocolError as error:
                found = error
            except Exception:  # not a call that was cancelled: that goes on to gRPC
                logger.exception("request %s failed", request_id)
                found = ProtocolError(500, "internal error")
            finally:
                status = status if found is None else found.status
                if logs.is_on() or span is not None:
                    self._note(method, request_id, status, time.perf_counter() - begun, figures, span)
        trailing: tuple[tuple[str, str], ...] = (("x-request-id", request_id),)
        if found is None:
            context.set_trailing_metadata(trailing)
            return reply
        if found.retry_after is not None:
            trailing += (("grpc-retry-pushback-ms", str(1000 * found.retry_after)),)
        await context.abort(CODES.get(found.status, Code.INTERNAL), found.message[:MAX_DETAILS], trailing)
        raise AssertionError("abort raises")

    def _admit(self, metadata: dict[str, str], figures: dict[str, Any]) -> None:
        if self.is_closing:
            raise ProtocolError(503, "the server is shutting down", retry_after=RETRY_SECONDS)
        if self._keys is None:
            return
        holder = self._keys.holder(metadata.get("authorization", "").encode())
        if holder is None:
            raise ProtocolError(401, "this needs a valid key, in the metadata: authorization: Bearer KEY")
        figures["key"] = holder

    async def _read(self, context: Any) -> bytes:
        seconds = self._service.settings.request_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError:
            raise ProtocolError(408, f"the message did not come whole within {seconds:g} seconds") from None
        if not isinstance(message, bytes):  # gRPC's mark for the end of the stream
            raise ProtocolError(400, "the call ended without a message, or with one that is too large")
        return message

    def _span(self, method: str, metadata: dict[str, str]) -> contextlib.AbstractContextManager[Any]:
        if self._tracer is None:
            return contextlib.nullcontext()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in metadata.items()]
        return self._tracer.request({"method": "POST", "path": f"/{SERVICE}/{method}", "headers": headers})

    def _note(
        self, method: str, request_id: str, status: int, seconds: float, figures: dict[str, Any], span: Any
    ) -> None:
        logs.access(f"gRPC {method}", request_id=request_id, **figures, status=status, ms=round(1000 * seconds, 3))
        if self._tracer is not None and span is not None:
            span.set_attribute("rpc.system", "grpc")
            span.set_attribute("rpc.service", SERVICE)
            span.set_attribute("rpc.method", method)
            self._tracer.answered(span, f"/{SERVICE}/{method}", status, {"request_id": request_id, **figures})

    # The methods --------------------------------------------------------------------------------------------------

    async def _live(self, message: Any, figures: dict[str, Any]) -> Any:  # noqa: ARG002
        return MESSAGES["ServerLiveResponse"](live=self._service.is_live())

    async def _ready(self, message: Any, figures: dict[str, Any]) -> Any:  # noqa: ARG002
        return MESSAGES["ServerReadyResponse"](ready=self._service.is_ready())

    async def _model_ready(self, message: Any, figures: dict[str, Any]) -> Any:
        figures["model"] = message.name[:80]
        ready = self._service.model_ready(message.name, message.version or None)
        return MESSAGES["ModelReadyResponse"](ready=ready)

    async def _server_metadata(self, message: Any, figures: dict[str, Any]) -> Any:  # noqa: ARG002
        return MESSAGES["ServerMetadataResponse"](**self._service.server_metadata())

    async def _model_metadata(self, message: Any, figures: dict[str, Any]) -> Any:
        figures["model"] = message.name[:80]
        found = self._service.model_metadata(message.name, message.version or None)
        found.pop("classes", None)  # the protocol's message has no place for names
        return MESSAGES["ModelMetadataResponse"](**found)

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


def _parsed(request: Any, message: bytes) -> Any:
    try:
        return request.FromString(message)
    except DecodeError:
        raise ProtocolError(400, f"the message is no {request.DESCRIPTOR.name}") from None
