"""The service over HTTP, as a FastAPI application; `front` is what each request goes through first."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from demur._version import __version__
from demur.serve.serving.protocol import ProtocolError, error_body
from demur.serve.serving.service import Service
from demur.serve.transport import description
from demur.serve.transport.front import REQUEST_ID, App, Front, Receive, Scope, Send
from demur.serve.transport.hosts import HostNames
from demur.serve.transport.inference import FIGURES, JSON, Inference
from demur.serve.transport.security import Keys
from demur.serve.watching.tracing import Tracer


def build_app(
    service: Service, *, keys: Keys | None = None, hosts: HostNames | None = None, tracer: Tracer | None = None
) -> FastAPI:
    """The service as an ASGI application.

    Examples:
        >>> from demur.serve.models import Models, load_guard
        >>> app = build_app(Service(Models.load(["guard.onnx"], load_guard)))
        >>> app.title
        'demur'

    Args:
        service: what answers.
        keys: who may ask; None for everybody.
        hosts: names that requests may call the server by; None for any.
        tracer: makes spans of requests; None for none.
    """
    app = Application(
        title="demur",
        version=__version__,
        summary="A second opinion on a classifier, in the Open Inference Protocol, version 2",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_error, ProtocolError: _protocol_error, Exception: _failed},
    )
    inference = Inference(service)
    app.include_router(_routes(service, inference))
    app.include_router(_page(service))
    app.openapi = lambda: description.describe(app, service)  # type: ignore[method-assign]
    app.front = Front(app.routed, service, inference, keys=keys, hosts=hosts, tracer=tracer)
    return app


class Application(FastAPI):
    """FastAPI's application, with `Front` before all of it."""

    front: App

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.front(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by FastAPI's routes."""
        await super().__call__(scope, receive, send)


def _page(service: Service) -> APIRouter:
    from demur.serve.transport import page

    return page.routes(service)


class Plain(APIRoute):
    """A route whose function takes the request and returns the response: nothing is validated or converted."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        """The function itself."""
        endpoint: Callable[[Request], Any] = self.endpoint
        return endpoint


def _routes(service: Service, inference: Inference) -> APIRouter:
    """The protocol's routes, and that of the metrics."""
    router = APIRouter(route_class=Plain)

    async def infer(request: Request) -> Response:
        body, headers = await inference.answer(request.scope, request.receive, *_model(request))
        return Response(body, headers={name.decode(): value.decode() for name, value in headers})

    async def server(_: Request) -> Response:
        return _json(service.server_metadata())

    async def live(_: Request) -> Response:
        return _json({"live": service.is_live()})

    async def ready(_: Request) -> Response:
        is_ready = service.is_ready()
        # The published specification calls the field "live", too.
        return _json({"live": True, "ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        return _json(service.model_metadata(*_model(request)))

    async def model_ready(request: Request) -> Response:
        name, version = _model(request)
        is_ready = service.model_ready(name, version)
        return _json({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def reset(request: Request) -> Response:
        name, _ = _model(request)
        watch = service.served(name).watch
        # What is not said to be JSON can be sent by a form on any site's page, without the browser asking here first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ProtocolError(415, "ending an alarm takes the header Content-Type: application/json")
        await asyncio.to_thread(watch.reset)  # which looks at what came, and writes a file
        return _json({"name": name, "alarm": False})

    async def metrics(request: Request) -> Response:
        # The figures are asked of threads that may be at work on them.
        body, content_type = await asyncio.to_thread(service.telemetry.exposition, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    for prefix, versioned in (("/v2/models/{name}", False), ("/v2/models/{name}/versions/{version}", True)):
        suffix = "_version" if versioned else ""
        path = description.path_parameters(versioned=versioned)
        add = router.add_api_route
        add(prefix + "/infer", infer, methods=["POST"], name="infer" + suffix, openapi_extra=description.INFER | path)
        add(prefix, model, methods=["GET"], name="model" + suffix, openapi_extra=description.MODEL | path)
        add(
            prefix + "/ready",
            model_ready,
            methods=["GET"],
            name="model_ready" + suffix,
            openapi_extra=description.MODEL_READY | path,
        )
    router.add_api_route("/v2", server, methods=["GET"], name="server", openapi_extra=description.SERVER)
    router.add_api_route("/v2/health/live", live, methods=["GET"], name="live", openapi_extra=description.LIVE)
    router.add_api_route("/v2/health/ready", ready, methods=["GET"], name="ready", openapi_extra=description.READY)
    router.add_api_route(
        "/live/{name}/reset",
        reset,
        methods=["POST"],
        name="reset",
        openapi_extra=description.RESET | description.path_parameters(versioned=False),
    )
    router.add_api_route("/metrics", metrics, methods=["GET"], name="metrics", openapi_extra=description.METRICS)
    return router


def _model(request: Request) -> tuple[str, str | None]:
    """The model that the path names, and its version."""
    name = request.path_params["name"]
    request.scope[FIGURES]["model"] = name[:80]
    return name, request.path_params.get("version")


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type=JSON.decode())


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router refuses: paths and methods that there are not."""
    refused = cast("HTTPException", error)  # which it is registered for
    phrase = HTTPStatus(refused.status_code).phrase.lower()
    message = f"{phrase}: {request.method} {request.url.path[:200]}"
    return Response(error_body(message), refused.status_code, headers=refused.headers, media_type=JSON.decode())


async def _protocol_error(_: Request, error: Exception) -> Response:
    refused = cast("ProtocolError", error)  # which it is registered for
    return Response(error_body(refused.message), refused.status, media_type=JSON.decode())


async def _failed(request: Request, _: Exception) -> Response:
    """The answer where anything else was raised; `Front` logs what."""
    return Response(error_body("internal error", request_id=request.scope[REQUEST_ID]), 500, media_type=JSON.decode())
