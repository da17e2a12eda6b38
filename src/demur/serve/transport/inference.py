"""The way from the body of a request for inference to that of its answer, over HTTP."""

import asyncio
import functools
import time
from typing import Any

from demur.serve.serving.protocol import InferRequest, ProtocolError
from demur.serve.serving.service import Service
from demur.serve.settings import Settings
from demur.serve.transport.bodies import read_request, write_response
from demur.serve.transport.limits import Receive, read_body, unpacked

Headers = list[tuple[bytes, bytes]]

JSON, BINARY = b"application/json", b"application/octet-stream"
AT_ONCE = 65_536
"""Bytes that are read without a thread."""
FIGURES = "demur.figures"
"""In the scope: what the log and the trace say of the request."""
HEADER_LENGTH = "Inference-Header-Content-Length"


async def answer(
    service: Service, scope: Any, receive: Receive, name: str, version: str | None
) -> tuple[bytes, Headers]:
    """Answer one request: a body, and headers.

    Raises:
        ProtocolError: it cannot be answered.
        Gone: the client has.
    """
    figures = scope[FIGURES]
    figures["model"] = name[:80]
    service.served(name, version)
    begun = time.perf_counter()
    try:
        asked = await _read(service.settings, scope["headers"], receive)
    except ProtocolError as error:
        service.telemetry.request(name, "http", error.status, time.perf_counter() - begun)
        raise
    found = await service.infer(name, version, asked)
    figures["rows"], figures["flagged"] = found.rows, found.flagged
    body, header_length = write_response(found, asked)
    if header_length is None:
        return body, [(b"content-type", JSON)]
    return body, [(b"content-type", BINARY), (HEADER_LENGTH.lower().encode(), str(header_length).encode())]


async def _read(settings: Settings, headers: Headers, receive: Receive) -> InferRequest:
    """Read the body of a request."""
    declared, encoding, length = None, b"", b""
    for name, value in headers:
        if name == b"content-length":
            declared = int(value)  # which the HTTP parser has checked
        elif name == b"content-encoding":
            encoding = value
        elif name == b"inference-header-content-length":
            length = value
    body = await read_body(receive, declared, settings.max_body, settings.request_seconds)
    if encoding:
        body = await unpacked(body, encoding, settings.max_body)
    if length and not (length.isdigit() and len(length) < 20):
        raise ProtocolError(400, f"{HEADER_LENGTH} is a number of bytes; got {length[:80].decode('latin-1')!r}")
    read = functools.partial(
        read_request,
        body,
        int(length) if length else None,
        max_depth=settings.max_depth,
        max_json=settings.max_json,
    )
    # A small one is read at once; of a large one others are answered in between.
    return read() if len(body) <= AT_ONCE else await asyncio.to_thread(read)
