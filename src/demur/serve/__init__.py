"""Guards behind a network port, in the standard inference protocol (Open Inference Protocol, version 2).

    from demur.serve import serve
    serve(["guard.onnx"], port=8080)

Three rooms, each of which imports only from those after it: `transport` is how requests come in and answers go out,
`serving` is what is done with a request, whatever it came by, and `watching` is what is told of what came. `launch` and
`supervisor` run it all, as `settings` say.
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
