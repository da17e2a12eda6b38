"""What happens to each request over HTTP, whatever it asks for; those for inference go no further."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demur.serve.serving.protocol import CLIENT_GONE, ProtocolError, error_body
from demur.serve.serving.service import Service
from demur.serve.transport.hosts import HostNames
from demur.serve.transport.inference import FIGURES, JSON, Headers, answer
from demur.serve.transport.limits import GONE, Gone
from demur.serve.transport.security import Keys
from demur.serve.watching import logs
from demur.serve.watching.tracing import Tracer

logger = logging.getLogger("demur.serve.front")

INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
"""What nearly all requests are for: they do not take the way through the router."""
OPEN = re.compile(r"/|/static/[^/]*|/v2/health/(live|ready)")
"""Paths that need no key: they hold no data."""
HEADERS = (b"x-request-id", b"authorization", b"host", b"origin")
"""What is read of each request."""
REQUEST_ID = "demur.request_id"
"""In the scope: what the log calls the request."""


class Plain(Route):
    """A route that answers exactly the methods it names (not HEAD unasked), and tells the trace its path."""

    def __init__(self, path: str, endpoint: Callable[[Request], Any], *methods: str) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.methods = set(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is asked for, and what it adds to the scope."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


class Front:
    """What happens to each request before and after it is answered: request ids, keys, errors, logs and traces.

    Args:
        app: what answers all but requests for inference.
        service: answers these.
        keys: who may ask; None for everybody.
        hosts: names that requests may call the server by; None for any.
        tracer: makes spans; None for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: Service,
        *,
        keys: Keys | None,
        hosts: HostNames | None,
        tracer: Tracer | None,
    ) -> None:
        self._app, self._service = app, service
        self._keys, self._hosts, self._tracer = keys, hosts, tracer
        self._ids = logs.RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        if self._tracer is None:
            await self._answer(scope, receive, send, None)
            return
        with self._tracer.request(scope) as span:
            await self._answer(scope, receive, send, span)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, span: Any) -> None:
        begun = time.perf_counter()
        headers = dict.fromkeys(HEADERS, b"")
        for name, value in scope["headers"]:
            if name in headers:
                headers[name] = value
        known = scope[REQUEST_ID] = self._ids.of(headers[b"x-request-id"].decode("latin-1"))
        figures = scope[FIGURES] = {}
        exchange = Exchange(send, known, self._service)
        scope[GONE] = exchange.gone
        try:
            self._admit(scope["path"], headers, figures)
            await self._pass_on(scope, receive, exchange.send)
        except ProtocolError as error:
            await _refuse(error, exchange.send)
        except (Gone, asyncio.CancelledError) as error:
            exchange.ended(error)
        except Exception:
            logger.exception("request %s failed", known)
            if exchange.status and not exchange.is_whole:  # it cannot become an error any more: the connection is cut
                raise
            if not exchange.status:
                body = error_body("internal error", request_id=known)
                await _send(exchange.send, 500, body, [(b"content-type", JSON)])
        finally:
            if logs.is_on() or span is not None:
                self._note(scope, exchange, time.perf_counter() - begun, span)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = INFER.fullmatch(scope["path"]) if scope["method"] == "POST" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        body, headers = await answer(self._service, scope, receive, asked[1], asked[2])
        await _send(send, 200, body, headers)

    def _admit(self, path: str, headers: dict[bytes, bytes], figures: dict[str, Any]) -> None:
        if self._hosts is not None:
            self._hosts.check(headers[b"host"], headers[b"origin"])
        if self._keys is None or OPEN.fullmatch(path):
            return
        holder = self._keys.holder(headers[b"authorization"])
        if holder is None:
            raise ProtocolError(401, "this needs a valid key: Authorization: Bearer KEY")
        figures["key"] = holder

    def _note(self, scope: Scope, exchange: "Exchange", seconds: float, span: Any) -> None:
        request_id, figures = scope[REQUEST_ID], scope[FIGURES]
        logs.access(
            f"{scope['method']} {scope['path'][:200]}",
            request_id=request_id,
            **figures,
            status=exchange.status,
            ms=round(1000 * seconds, 3),
        )
        if self._tracer is not None and span is not None:
            path = (
                "/v2/models/{name}/infer" if INFER.fullmatch(scope["path"]) else getattr(scope.get("route"), "path", "")
            )
            route = f"{scope['method']} {path}".rstrip()
            self._tracer.answered(span, route, exchange.status, {"request_id": request_id, **figures})


class Exchange:
    """One request and its answer.

    Args:
        send: of ASGI.
        request_id: goes out with the answer.
        service: whether it is about to stop.

    Attributes:
        status: of the answer; 0 before it has begun.
        is_whole: whether all of it was sent.
    """

    __slots__ = ("_is_gone", "_request_id", "_send", "_service", "_task", "is_whole", "status")

    def __init__(self, send: Send, request_id: str, service: Service) -> None:
        self._send, self._request_id, self._service = send, request_id, service
        self._task = asyncio.current_task()
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
        if self._task is not None:
            self._task.cancel()

    def ended(self, error: BaseException) -> None:
        """The request ended early: because its client has gone, or because the server cancelled it."""
        self.status = CLIENT_GONE
        if isinstance(error, asyncio.CancelledError):
            if not self._is_gone or self._task is None:
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
