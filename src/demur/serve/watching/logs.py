"""Logs, for people or as a JSON object a line, and traces of requests with OpenTelemetry."""

import contextlib
import functools
import itertools
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson

from demur.extras import extra

ROOT = "demur.serve"
ACCESS = logging.getLogger("demur.serve.access")
FIELDS = "demur"
"""The attribute of a log record that holds what JSON shows beside the message."""
CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, *range(128, 160), 0x2028, 0x2029)}
"""Characters that begin a line or command a terminal, and may come from a client: shown as Python writes them."""
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""A request id of a client that can stand in a log and a header."""


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and what the record's `demur` attribute holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": f"{_moment(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """The time, the level where it is not the usual one, the message and its figures."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        figures = "".join(f" {name}={value}" for name, value in getattr(record, FIELDS, {}).items())
        text = f"{_moment(int(record.created))}Z {level}{f'{record.getMessage()}{figures}'.translate(CONTROLS)}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


@functools.lru_cache(maxsize=2)
def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def set_up(style: Literal["text", "json"], *, access: bool) -> None:
    """Send the server's logs to standard error. For the process that serves, not for those that embed a server."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    for name, level in ((ROOT, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    ACCESS.setLevel(logging.INFO if access else logging.WARNING)
    # Who called the logger is shown nowhere; finding it out costs more than the rest of a line.
    logging._srcfile = None  # noqa: SLF001 - as the documentation of logging advises
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def is_on() -> bool:
    """Whether each request is logged."""
    return ACCESS.isEnabledFor(logging.INFO)


class Tracer:
    """Makes a span of each request; continues the caller's trace where `traceparent` names one.

    The standard variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`, say where spans are sent.

    Args:
        provider: of OpenTelemetry; None for a provider that exports by OTLP over HTTP.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """

    def __init__(self, provider: Any = None) -> None:
        with extra("opentelemetry-sdk", "otel"):
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        self._provider = _exporting() if provider is None else provider
        self._tracer = self._provider.get_tracer("demur.serve")
        self._kind, self._failed = trace.SpanKind.SERVER, trace.StatusCode.ERROR
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def request(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Iterator[Any]:
        """A span around a request."""
        names = [name for name in (b"traceparent", b"tracestate") if name in headers]
        context = self._propagator.extract({name.decode(): headers[name].decode("latin-1") for name in names})
        attributes = {"http.request.method": method, "url.path": path}
        with self._tracer.start_as_current_span(method, context=context, kind=self._kind, attributes=attributes) as one:
            yield one

    def answered(self, span: Any, route: str, status: int, figures: Mapping[str, Any]) -> None:
        """Complete the span of a request; the route names the span, and there should be few different routes."""
        if route:
            span.update_name(route)
        span.set_attribute("http.response.status_code", status)
        for name, value in figures.items():
            span.set_attribute(f"demur.{name}", value)
        if status >= 500:
            span.set_status(self._failed)

    def close(self) -> None:
        """Send the spans that were not sent yet."""
        self._provider.shutdown()


def _exporting() -> Any:
    with extra("opentelemetry-exporter-otlp-proto-http", "otel"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    provider = TracerProvider(resource=Resource.create({"service.name": "demur"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class Journal:
    """Gives each request an id, a line in the log and, with a tracer, a span."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self._prefix, self._numbers = secrets.token_hex(6), itertools.count(1)

    def request_id(self, headers: Mapping[bytes, bytes]) -> str:
        """The id that the client asks for, if that is sane, or else a new one."""
        asked = headers.get(b"x-request-id", b"").decode("latin-1")
        return asked if SANE_ID.fullmatch(asked) else f"{self._prefix}-{next(self._numbers)}"

    def span(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> contextlib.AbstractContextManager[Any]:
        """A span around a request; None where there is no tracer."""
        return contextlib.nullcontext() if self._tracer is None else self._tracer.request(method, path, headers)

    def answered(
        self, request: str, figures: Mapping[str, Any], status: int, seconds: float, *, span: Any, route: str
    ) -> None:
        """Log that a request was answered, and complete the span."""
        if is_on():
            ACCESS.info(request, extra={FIELDS: {**figures, "status": status, "ms": round(1000 * seconds, 3)}})
        if self._tracer is not None and span is not None:
            self._tracer.answered(span, route, status, figures)
