"""Logs for people and for machines, and traces."""

import json
import logging
import subprocess
import sys

import httpx
import pytest

from demur.errors import MissingExtra
from demur.serve.watching import logs
from demur.serve.watching.logs import FIELDS, JsonFormatter, TextFormatter, Tracer
from tests.scaffold.serve_fakes import Running, images, until

INFER = "/v2/models/guard/infer"
TRACE = "0af7651916cd43dd8448eb211c80319c"


def record(level=logging.INFO, error=None, **figures):
    made = logging.LogRecord("demur.serve.access", level, __file__, 1, "POST %s", ("/x",), error)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    setattr(made, FIELDS, figures)
    return made


def test_a_line_for_machines_is_a_json_object():
    found = json.loads(JsonFormatter().format(record(rows=3, ms=0.5)))
    assert found == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "demur.serve.access",
        "message": "POST /x",
        "rows": 3,
        "ms": 0.5,
    }


def test_a_line_for_people_says_the_same():
    assert TextFormatter().format(record(rows=3)) == "2023-11-14T22:13:20Z POST /x rows=3"
    assert TextFormatter().format(record(logging.ERROR)) == "2023-11-14T22:13:20Z error: POST /x"


def test_errors_are_told_with_where_they_came_from():
    try:
        raise ValueError("why")
    except ValueError:
        error = sys.exc_info()
    assert "ValueError: why" in json.loads(JsonFormatter().format(record(error=error)))["exception"]
    assert "ValueError: why" in TextFormatter().format(record(error=error))


def test_what_a_client_sends_stays_on_its_line():
    made = record()
    made.args = ("/x\n2023-11-14T22:13:20Z error: forged",)
    assert "\n" not in JsonFormatter().format(made)
    assert "\n" not in TextFormatter().format(made)


def test_setting_up_sends_lines_to_standard_error_and_access_lines_only_if_wanted():
    code = """
import sys
from demur.serve.watching import logs
for access in (True, False):
    logs.set_up("json", access=access)
    logs.Journal(None).answered("GET /", {}, 200, 0.0, span=None, route="")
    logs.ACCESS.warning("always")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in found.stderr.splitlines()] == ["GET /", "always", "always"]
    assert not found.stdout
    assert not logs.is_on() or logging.getLogger().isEnabledFor(logging.INFO)  # this process was left as it was


@pytest.fixture
def spans():
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, Tracer(provider)


def test_a_request_is_a_span_of_its_callers_trace(spans):
    exporter, tracer = spans
    x = images(2)
    document = {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}
    with Running(tracer=tracer) as server, httpx.Client(base_url=server.url) as client:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-ID": "r1"}
        client.post(INFER, json=document, headers=headers)
        client.get("/v2/models/nobody")
        until(lambda: len(exporter.get_finished_spans()) == 2)
    infer, other = exporter.get_finished_spans()
    assert infer.name == "POST /v2/models/{name}/infer"
    assert f"{infer.context.trace_id:032x}" == TRACE
    assert f"{infer.parent.span_id:016x}" == "b7ad6b7169203331"
    assert infer.attributes["http.response.status_code"] == 200
    assert infer.attributes["demur.rows"] == 2
    assert infer.attributes["demur.request_id"] == "r1"
    assert other.name == "GET /v2/models/{name}"
    assert other.parent is None
    assert other.attributes["http.response.status_code"] == 404


def test_nothing_of_opentelemetry_is_imported_unless_it_is_asked_for():
    code = "import sys, demur.serve.launch, demur.serve.transport.http; print('opentelemetry.sdk' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_missing_exporter_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    pytest.importorskip("opentelemetry")
    with pytest.raises(MissingExtra, match=r"demur\[otel\]"):
        Tracer()
