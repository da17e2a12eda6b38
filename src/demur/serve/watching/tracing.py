"""Traces of requests, with OpenTelemetry; nothing of it is imported unless they are asked for."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from demur.extras import extra


class Tracer:
    """Makes a span of each request; goes on with the caller's trace where `traceparent` names one.

    Where to send them is said by the standard variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.

    Args:
        provider: of OpenTelemetry; None for one that exports by OTLP over HTTP.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """

    def __init__(self, provider: Any = None) -> None:
        with extra("opentelemetry-sdk", "otel"):
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        self._provider = _exporting() if provider is None else provider
        self._tracer = self._provider.get_tracer("demur.serve")
        self._kind = trace.SpanKind.SERVER
        self._failed = trace.StatusCode.ERROR
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def request(self, scope: Mapping[str, Any]) -> Iterator[Any]:
        """A span around a request that ASGI describes by `scope`."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        context = self._propagator.extract(carrier)
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            scope["method"], context=context, kind=self._kind, attributes=attributes
        ) as span:
            yield span

    def answered(self, span: Any, route: str, status: int, figures: Mapping[str, Any]) -> None:
        """Say what became of the request.

        Args:
            span: of the request.
            route: what kind of request it was: the span's name, of which there should be few.
            status: as HTTP has it.
            figures: of the request.
        """
        if route:
            span.update_name(route)
        span.set_attribute("http.response.status_code", status)
        for name, value in figures.items():
            span.set_attribute(f"demur.{name}", value)
        if status >= 500:
            span.set_status(self._failed)

    def close(self) -> None:
        """Send what was not sent yet."""
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
