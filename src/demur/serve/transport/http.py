"""The service over HTTP, as a Starlette application; each request passes `front` first."""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from demur._version import __version__
from demur.guards.tensors import TensorGuard
from demur.serve.serving.models import one_row
from demur.serve.serving.protocol import ProtocolError, datatype_of
from demur.serve.serving.service import Service
from demur.serve.transport import page
from demur.serve.transport.access import HostNames, Keys
from demur.serve.transport.front import FIGURES, Front, Plain, answer, as_json
from demur.serve.watching.logs import Tracer

OPENAPI = Path(__file__).with_name("openapi.json")
"""The description of the routes, without what depends on the models: for clients that are generated, and fuzzers."""


def build_app(
    service: Service, *, keys: Keys | None = None, hosts: HostNames | None = None, tracer: Tracer | None = None
) -> Starlette:
    """The service as an ASGI application.

    Examples:
        >>> from demur.serve.models import Models, load_guard
        >>> app = build_app(Service(Models.load(["guard.onnx"], load_guard)))
        >>> type(app).__name__
        'Starlette'

    Args:
        service: answers.
        keys: who may ask; None for everybody.
        hosts: names that requests may call the server by; None for any.
        tracer: makes spans of requests; None for no spans.
    """
    app = Starlette(
        routes=[*_routes(service), *page.routes(service)],
        middleware=[Middleware(Front, service=service, keys=keys, hosts=hosts, tracer=tracer)],
        exception_handlers={HTTPException: _http_error},  # `Front` answers all others
    )
    app.router.redirect_slashes = False
    return app


def _routes(service: Service) -> list[Plain]:
    """The protocol's routes, and those of the metrics, of alarms and of the description."""

    async def infer(request: Request) -> Response:
        body, headers = await answer(service, request.scope, request.receive, *_model(request))
        return Response(body, headers={name.decode(): value.decode() for name, value in headers})

    async def server(_: Request) -> Response:
        return as_json(service.server_metadata())

    async def live(_: Request) -> Response:
        return as_json({"live": True})

    async def ready(_: Request) -> Response:
        is_ready = service.is_ready()
        # The published specification calls the field "live", too.
        return as_json({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        return as_json(service.model_metadata(*_model(request)))

    async def model_ready(request: Request) -> Response:
        name, version = _model(request)
        is_ready = service.model_ready(name, version)
        return as_json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def reset(request: Request) -> Response:
        name, _ = _model(request)
        watch = service.served(name).watch
        # A form on any site's page can send other types, without the browser asking here first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ProtocolError(415, "ending an alarm takes the header Content-Type: application/json")
        await asyncio.to_thread(watch.reset)  # it counts what came, and writes a file
        return as_json({"name": name, "alarm": False})

    async def metrics(request: Request) -> Response:
        # Other threads may be at work on the figures, and hold their locks.
        body, content_type = await asyncio.to_thread(service.telemetry.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def openapi(request: Request) -> Response:
        return as_json(_described(service, request.scope.get("root_path", "")))

    of_models = [
        Plain(prefix + suffix, endpoint, method)
        for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        for suffix, endpoint, method in (("/infer", infer, "POST"), ("", model, "GET"), ("/ready", model_ready, "GET"))
    ]
    return [
        *of_models,
        Plain("/v2", server, "GET"),
        Plain("/v2/health/live", live, "GET"),
        Plain("/v2/health/ready", ready, "GET"),
        Plain("/live/{name}/reset", reset, "POST"),
        Plain("/metrics", metrics, "GET"),
        Plain("/openapi.json", openapi, "GET", "HEAD"),
    ]


def _described(service: Service, root_path: str) -> dict[str, Any]:
    """The description of all routes, for the models that are served now."""
    document: dict[str, Any] = orjson.loads(OPENAPI.read_bytes())
    document["info"]["version"] = __version__
    if root_path:
        document["servers"] = [{"url": root_path}]
    examples = {name: {"value": _example(served.guard)} for name, served in service.models.items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "name":
                    parameter["schema"]["enum"] = list(service.models)
            if path.endswith("/infer"):
                operation["requestBody"]["content"]["application/json"]["examples"] = examples
    return document


def _example(guard: TensorGuard) -> dict[str, Any]:
    """A request of one row of zeros."""
    inputs = [
        {"name": name, "shape": array.shape, "datatype": datatype_of(array.dtype), "data": array.ravel().tolist()}
        for name, array in one_row(guard).items()
    ]
    return {"inputs": inputs}


def _model(request: Request) -> tuple[str, str | None]:
    """The model that the path names, and its version."""
    name = request.path_params["name"]
    request.scope[FIGURES]["model"] = name[:80]
    return name, request.path_params.get("version")


async def _http_error(request: Request, error: Exception) -> Response:
    """The answer where there is no such path or method."""
    refused = cast("HTTPException", error)  # which it is registered for
    message = f"{HTTPStatus(refused.status_code).phrase.lower()}: {request.method} {request.url.path[:200]}"
    return as_json({"error": message}, refused.status_code, refused.headers)
