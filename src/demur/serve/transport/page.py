"""The page for people, and what it asks for."""

import hashlib
import re
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from demur.serve.transport.front import Plain

STATIC = Path(__file__).parent / "static"
FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
PICTURES = ("input", "reconstruction")
NUMBER = re.compile("[0-9]{1,18}")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def routes(service: Any) -> list[Plain]:
    """The page at `/`, its files under `/static/`, and its figures under `/live`.

    The page and its files hold nothing of a model: they can be answered without a key, and the page then asks for one.

    Args:
        service: whose `models` are shown: a mapping of names to what has a `watch`, or None in its place.
    """
    files = {name: (STATIC / name).read_bytes() for name in FILES}

    # These are plain functions, which run on threads: a summary may wait for figures that are being added up.

    def file(request: Request) -> Response:
        return _file(request.path_params.get("name", "index.html"), files, request)

    def names(_: Request) -> Response:
        return _json({"models": list(service.models)})

    def live(request: Request) -> Response:
        name = request.path_params["name"]
        watch = _watch(service, name)
        if watch is None:
            return _json({"error": f"there is no model {name!r} that is watched"}, 404)
        return _json(watch.summary())

    def picture(request: Request) -> Response:
        name, number, which = (request.path_params[part] for part in ("name", "number", "which"))
        watch = _watch(service, name)
        is_one = watch is not None and which in PICTURES and NUMBER.fullmatch(number)
        found = watch.picture(int(number), which) if is_one else None
        if found is None:
            return _json({"error": "there is no such picture, or none any more"}, 404)
        return Response(found, headers={**HEADERS, "Cache-Control": "no-store"}, media_type="image/png")

    return [
        Plain("/", file, "GET", "HEAD"),
        Plain("/static/{name}", file, "GET", "HEAD"),
        Plain("/live", names, "GET"),
        Plain("/live/{name}", live, "GET"),
        Plain("/live/{name}/flagged/{number}/{which}.png", picture, "GET"),
    ]


def _watch(service: Any, name: str) -> Any:
    served = service.models.get(name)
    return None if served is None else served.watch


def _file(name: str, files: dict[str, bytes], request: Request) -> Response:
    """One of the page's own files: no other can be asked for."""
    if name not in files:
        return _json({"error": "there is no such file"}, 404)
    tag = f'"{hashlib.sha256(files[name]).hexdigest()[:32]}"'
    headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(files[name], headers=headers, media_type=FILES[name])


def _json(body: Any, status: int = 200) -> Response:
    return Response(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
        status_code=status,
        headers={**HEADERS, "Cache-Control": "no-store"},
        media_type="application/json",
    )
