"""The middleware of all HTTP requests: ids, keys, errors, logs and traces; and the answers to inference requests."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demur.serve.serving.protocol import CLIENT_GONE, ProtocolError, error_body
from demur.serve.serving.service import Service
from demur.serve.transport.access import HostNames, Keys
from demur.serve.transport.bodies import HEADER_LENGTH, Gone, Headers, received, write_response
from demur.serve.transport.connections import GONE
from demur.serve.watching.logs import Journal, Tracer

logger = logging.getLogger("demur.serve.front")

JSON, BINARY = b"application/json", b"application/octet-stream"
INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
"""The path of nearly all requests: they do not pass the router."""
OPEN = re.compile(r"/|/static/[^/]*|/v2/health/(live|ready)")
"""Paths that need no key: they hold no data."""
FIGURES = "demur.figures"
"""In the scope: what the log and the trace say of the request."""


def as_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON; arrays may be in the document."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers=headers, media_type="application/json")


class Plain(Route):
    """A route that answers only the methods it names (HEAD, too, must be named), and tells the trace its path."""

    def __init__(self, path: str, endpoint: Callable[[Request], Any], *methods: str) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.methods = set(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route, and what the route adds to the scope."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


class Front:
    """What happens to each request before and after it is answered: request ids, keys, errors, logs and traces.

    The `app` answers all but requests for inference.
    """

    def __init__(
        self, app: ASGIApp, service: Service, *, keys: Keys | None, hosts: HostNames | None, tracer: Tracer | None
    ) -> None:
        self._app, self._service = app, service
        self._keys, self._hosts = keys, hosts
        self._journal = Journal(tracer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        method, path = scope["method"], scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        known = self._journal.request_id(headers)
        figures = scope[FIGURES] = {"request_id": known}
        exchange = Exchange(send, known, self._service)
        scope[GONE] = exchange.gone
        with self._journal.span(method, path, headers) as span:
            try:
                if self._hosts is not None:
                    self._hosts.check(headers.get(b"host", b""), headers.get(b"origin", b""))
                if self._keys is not None and not OPEN.fullmatch(path):
                    self._keys.admit(headers, figures, ": Authorization")
                asked = INFER.fullmatch(path) if method == "POST" else None
                if asked is None:
                    await self._app(scope, receive, exchange.send)
                else:
                    await _send(exchange.send, 200, *await answer(self._service, scope, receive, asked[1], asked[2]))
            except ProtocolError as error:
                await _refuse(error, exchange.send)
            except (Gone, asyncio.CancelledError) as error:
                exchange.ended(error)
            except Exception:
                logger.exception("request %s failed", known)
                if exchange.status and not exchange.is_whole:  # too late for an error: the connection is cut
                    raise
                if not exchange.status:
                    body = error_body("internal error", request_id=known)
                    await _send(exchange.send, 500, body, [(b"content-type", JSON)])
            finally:
                self._journal.answered(
                    f"{method} {path[:200]}",
                    figures,
                    exchange.status,
                    time.perf_counter() - begun,
                    span=span,
                    route="" if span is None else _route(scope),
                )


def _route(scope: Scope) -> str:
    is_infer = INFER.fullmatch(scope["path"])
    path = "/v2/models/{name}/infer" if is_infer else getattr(scope.get("route"), "path", "")
    return f"{scope['method']} {path}".rstrip()


async def answer(
    service: Service, scope: Scope, receive: Receive, name: str, version: str | None
) -> tuple[bytes, Headers]:
    """The body and the headers of the answer to one request for inference.

    Raises:
        ProtocolError: there is no answer.
        Gone: the client has closed the connection.
    """
    figures = scope[FIGURES]
    figures["model"] = name[:80]
    service.served(name, version)
    begun = time.perf_counter()
    try:
        asked = await received(service.settings, scope["headers"], receive)
    except ProtocolError as error:
        service.telemetry.request(name, "http", error.status, time.perf_counter() - begun)
        raise
    found = await service.infer(name, version, asked)
    figures["rows"], figures["flagged"] = found.rows, found.flagged
    body, header_length = write_response(found, asked)
    if header_length is None:
        return body, [(b"content-type", JSON)]
    return body, [(b"content-type", BINARY), (HEADER_LENGTH.lower().encode(), str(header_length).encode())]


class Exchange:
    """One request and the answer: the `status`, 0 before the answer has begun, and whether it `is_whole`."""

    __slots__ = ("_is_gone", "_request_id", "_send", "_service", "_task", "is_whole", "status")

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send, self._request_id, self._service = send, request_id, service
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._is_gone = self.is_whole = False
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._request_id.encode())]
            if self._service.is_stopping:
                headers.append((b"connection", b"close"))
            message["headers"] = headers
            await self._send(message)
            return
        await self._send(message)
        self.is_whole = not message.get("more_body", False)

    def gone(self) -> None:
        """The client has closed the connection: nobody needs the answer."""
        self._is_gone = True
        self._task.cancel()

    def ended(self, error: BaseException) -> None:
        """The request ended early: because the client has gone, or because the server cancelled the request."""
        self.status = CLIENT_GONE
        if isinstance(error, asyncio.CancelledError):
            if not self._is_gone:
                raise error
            self._task.uncancel()


async def _refuse(error: ProtocolError, send: Send) -> None:
    headers = [(b"content-type", JSON)]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.status in (408, 413):  # the rest of the body may still be on its way
        headers.append((b"connection", b"close"))
    await _send(send, error.status, error_body(error.message), headers)


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
