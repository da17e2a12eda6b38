"""The page for people, and the figures that it asks for."""

import hashlib
import re
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from demur.serve.transport.front import Plain, as_json

STATIC = Path(__file__).parent / "static"
FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
PICTURES = ("input", "reconstruction")
NUMBER = re.compile("[0-9]{1,18}")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FRESH = {**HEADERS, "Cache-Control": "no-store"}


def routes(service: Any) -> list[Plain]:
    """The page at `/`, its files under `/static/`, and its figures under `/live`.

    The page and its files hold nothing of a model: they can be answered without a key, and the page then asks for one.

    Args:
        service: whose `models` are shown: a mapping of names to values with a `watch`, which may be None.
    """
    files = {name: (STATIC / name).read_bytes() for name in FILES}

    # These are plain functions, which run on threads: a summary may wait for figures that are being added up.

    def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in files:
            return as_json({"error": "there is no such file"}, 404, FRESH)
        tag = f'"{hashlib.sha256(files[name]).hexdigest()[:32]}"'
        headers = {**HEADERS, "Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(files[name], headers=headers, media_type=FILES[name])

    def names(_: Request) -> Response:
        return as_json({"models": list(service.models)}, headers=FRESH)

    def watch_of(request: Request) -> Any:
        return getattr(service.models.get(request.path_params["name"]), "watch", None)

    def live(request: Request) -> Response:
        watch = watch_of(request)
        if watch is None:
            return as_json({"error": f"there is no model {request.path_params['name']!r} that is watched"}, 404, FRESH)
        return as_json(watch.summary(), headers=FRESH)

    def picture(request: Request) -> Response:
        number, which = (request.path_params[part] for part in ("number", "which"))
        watch = watch_of(request)
        is_one = watch is not None and which in PICTURES and NUMBER.fullmatch(number)
        found = watch.picture(int(number), which) if is_one else None
        if found is None:
            return as_json({"error": "there is no such picture, or it is no longer kept"}, 404, FRESH)
        return Response(found, headers=FRESH, media_type="image/png")

    return [
        Plain("/", file, "GET", "HEAD"),
        Plain("/static/{name}", file, "GET", "HEAD"),
        Plain("/live", names, "GET"),
        Plain("/live/{name}", live, "GET"),
        Plain("/live/{name}/flagged/{number}/{which}.png", picture, "GET"),
    ]
