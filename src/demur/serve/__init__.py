"""Guards behind a network port, in the standard inference protocol (Open Inference Protocol, version 2).

    from demur.serve import serve
    serve(["guard.onnx"], port=8080)

Three packages, each of which imports only from the ones after it: `transport` takes requests and sends answers, over
HTTP and gRPC, `serving` finds the answers, and `watching` keeps logs, metrics and the watch for drift. `launch` and
`supervisor` run the server, as `settings` say.
"""

from typing import TYPE_CHECKING

from demur.lazy import lazy

if TYPE_CHECKING:
    from demur.serve.launch import serve
    from demur.serve.serving.service import Service
    from demur.serve.settings import Settings
    from demur.serve.transport.http import build_app

__all__ = ["Service", "Settings", "build_app", "serve"]

_HOMES = {
    "Service": "demur.serve.serving.service",
    "Settings": "demur.serve.settings",
    "build_app": "demur.serve.transport.http",
    "serve": "demur.serve.launch",
}


__getattr__, __dir__ = lazy(__name__, _HOMES)
