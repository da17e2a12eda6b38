"""Limits that uvicorn's connections lack: on their number, on heads that never end, and on answers not read."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from demur.serve.serving.protocol import error_body
from demur.serve.settings import Settings

MAX_HEAD = 65_536
"""Most bytes of a request's head."""
LINGER_SECONDS = 0.5
"""How long idle connections stay open when the server shuts down: requests on their way still arrive."""
GONE = "demur.gone"
"""In the scope: a function to be called when the client has gone."""


def protocol_class(settings: Settings) -> type[asyncio.Protocol]:
    """The protocol that uvicorn speaks on each connection, with the limits of `Impatient`."""
    return type("Connection", (Impatient, AutoHTTPProtocol), {"limits": settings})


class Impatient:
    """A mixin for a protocol of uvicorn; it overrides methods that asyncio and uvicorn call.

    uvicorn limits neither the time and size of a head nor the time in which a client reads an answer.
    """

    limits: Settings
    cycle: Any
    connections: set[Any]
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    _head: asyncio.TimerHandle | None = None
    """Ends a connection whose head has not come in time."""
    _stalled: asyncio.TimerHandle | None = None
    """Ends a connection whose client does not read the answer."""
    _answered: Any = None
    """The request that is being answered, where others may have come after it on the same connection."""
    _head_bytes = 0
    _is_ending = False

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        super().connection_made(transport)  # type: ignore[misc]
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, f"{self.limits.max_connections} connections are open already", "retry-after: 1")
            return
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self.transport.is_closing():
            return
        if not self._is_busy:
            self._head_bytes += len(data)
            if self._head is None:
                self._wait_for_head()
        super().data_received(data)  # type: ignore[misc]
        if self._is_busy:
            self._head_bytes = 0
            self._head = _cancelled(self._head)
        elif self._head_bytes > MAX_HEAD:
            self._refuse(431, f"the head of a request is larger than {MAX_HEAD} bytes")

    def on_response_complete(self) -> None:
        """An answer was sent."""
        super().on_response_complete()  # type: ignore[misc]
        if self._is_ending and not self._is_busy and not self.transport.is_closing():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        cycle = self._answered or self.cycle
        gone = None
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # uvicorn sets this of the last request that came, not of the one it answers
            gone = cycle.scope.get(GONE)
        self._head, self._stalled = _cancelled(self._head), _cancelled(self._stalled)
        super().connection_lost(exc)  # type: ignore[misc]
        if gone is not None:
            gone()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)  # type: ignore[misc]

    def shutdown(self) -> None:
        """The server ends: what comes within a moment is still answered."""
        self._is_ending = True
        if self._is_busy:
            super().shutdown()  # type: ignore[misc]
        elif not self.transport.is_closing():
            self.loop.call_later(LINGER_SECONDS, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()  # type: ignore[misc]

    def pause_writing(self) -> None:
        """The client reads more slowly than answers come."""
        super().pause_writing()  # type: ignore[misc]
        _cancelled(self._stalled)
        self._stalled = self.loop.call_later(self.limits.request_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()  # type: ignore[misc]
        self._stalled = _cancelled(self._stalled)

    def timeout_keep_alive_handler(self) -> None:
        """No other request came."""
        if self.transport.get_write_buffer_size():  # a client that does not read would hold the connection for ever
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()  # type: ignore[misc]

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(400, msg)

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head = None
        if self._is_busy or self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse(408, f"the head of the request did not come whole within {self.limits.head_seconds:g} seconds")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, *headers: str) -> None:
        """Answer without a request, and close."""
        if self.transport.is_closing():
            return
        body = error_body(message)
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
            *headers,
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, if there is one; None takes its place."""
    if timer is not None:
        timer.cancel()
    return None
