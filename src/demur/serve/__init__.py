"""Guards behind a network port, in the standard inference protocol (Open Inference Protocol, version 2).

    from demur.serve import serve
    serve(["guard.onnx"], port=8080)

The modules: `service` answers, whatever the transport, in the terms of `protocol`; `batching` puts requests together,
`models` loads guards and replaces them. `http` and `grpc` are the ways in: of the first, `front` and `inference` are
what is asked often, `bodies` reads and writes messages, `limits`, `security` and `hosts` keep others out. `watch` looks
at what came of it, for `telemetry`, `page` and `alarms`. `launch` and `supervisor` run it all.
"""

from typing import TYPE_CHECKING

from demur.lazy import lazy

if TYPE_CHECKING:
    from demur.serve.http import build_app
    from demur.serve.launch import serve
    from demur.serve.service import Service
    from demur.serve.settings import Settings

__all__ = ["Service", "Settings", "build_app", "serve"]

_HOMES = {
    "Service": "demur.serve.service",
    "Settings": "demur.serve.settings",
    "build_app": "demur.serve.http",
    "serve": "demur.serve.launch",
}


__getattr__, __dir__ = lazy(__name__, _HOMES)
