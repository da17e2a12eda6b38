"""Runs the server in this process; `supervisor` has another process do that."""

import asyncio
import contextlib
import functools
import gc
import importlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demur.errors import InvalidSetting
from demur.extras import extra
from demur.serve.settings import Settings

if TYPE_CHECKING:
    from demur.serve.serving.models import Models
    from demur.serve.transport.access import Keys
    from demur.serve.watching.logs import Tracer

logger = logging.getLogger("demur.serve.launch")

BACKLOG = 2048
PATIENCE = 5.0
"""Seconds beyond `shutdown_seconds` after which a process that still runs is killed."""
SWITCH_SECONDS = 0.001


def serve(paths: Iterable[str | Path], *, supervised: bool = False, **settings: Any) -> int:
    """Serve guards until SIGINT or SIGTERM.

    Examples:
        >>> serve(["guard.onnx"], port=8080, log_format="json")            # doctest: +SKIP

    Args:
        paths: guards in ONNX files, or folders of saved detectors; NAME=PATH for one that is served by another name.
        supervised: whether a child process serves, which is started again if it dies.
        **settings: see `Settings`.

    Returns:
        The exit status.

    Raises:
        DemurError, OSError: the server cannot start.
    """
    chosen = Settings(paths=tuple(map(str, paths)), **settings)
    if supervised:
        from demur.serve.supervisor import Supervisor

        return Supervisor(chosen).run()
    return run(chosen, listening(chosen))


def listening(settings: Settings) -> socket.socket:
    """A socket that listens on the address of the settings; OSError if the address is taken or not valid."""
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return listener


# Serving --------------------------------------------------------------------------------------------------------------


class Host:
    """A server in this process; without a listener it listens as the settings say, without keys everybody may ask.

    `ready` is called once requests can come; `port` and `grpc_port` are known then.
    """

    def __init__(
        self,
        models: "Models",
        settings: Settings,
        listener: socket.socket | None = None,
        *,
        keys: "Keys | None" = None,
        tracer: "Tracer | None" = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.models, self.settings = models, settings
        self._listener = listening(settings) if listener is None else listener
        self._keys, self._tracer, self._ready = keys, tracer, ready
        self.port: int = self._listener.getsockname()[1]
        self.grpc_port: int | None = None
        self.loop: asyncio.AbstractEventLoop
        self.service: Any = None
        self.server: Any = None

    def run(self) -> None:
        """Serve until `stop` is called, or by SIGINT or SIGTERM in the main thread."""
        factory: Any = None
        with contextlib.suppress(ImportError):
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """Shut down; what was accepted is finished. From any thread."""
        self.loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self.service.is_stopping = True
        self._stopping.set()

    async def _serve(self) -> None:
        from demur.serve.serving.service import Service
        from demur.serve.transport.access import HostNames
        from demur.serve.transport.http import build_app

        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.service = Service(self.models, self.settings)
        # Where keys are asked for, a page would have to know one.
        settings, is_open = self.settings, self._keys is None
        hosts = HostNames((settings.host, *settings.allow_hosts)) if is_open and settings.is_local else None
        app = build_app(self.service, keys=self._keys, hosts=hosts, tracer=self._tracer)
        self.server = server = _uvicorn(app, settings)
        grpc = await self._start_grpc()
        self._listen_to_signals()
        self.service.start()
        serving = self.loop.create_task(server.serve(sockets=[self._listener]))
        stopping = self.loop.create_task(self._stopping.wait())
        while not (server.started or serving.done()):
            await asyncio.sleep(0.005)
        if not serving.done():
            self._ready()
        try:
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.service.is_stopping = True
            server.should_exit = True
            stopping.cancel()
            ends = [serving] if grpc is None else [serving, grpc.stop(settings.shutdown_seconds)]
            try:
                await asyncio.gather(*ends)
            finally:
                await self._close()

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE / 2):
                await self.service.close()
        except TimeoutError:
            logger.error("a guard does not return: its requests were given up")
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)

    async def _start_grpc(self) -> Any:
        settings = self.settings
        if settings.grpc_port is None:
            return None
        from demur.serve.transport import grpc

        tls = None if settings.tls_cert is None or settings.tls_key is None else (settings.tls_cert, settings.tls_key)
        server = grpc.Server(self.service, self._keys, self._tracer)
        await server.start(f"{_in_address(settings.host)}:{settings.grpc_port}", tls)
        self.grpc_port = server.port
        return server

    def _listen_to_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, self._stop)
        self.loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        if self._keys is not None and self.settings.api_keys is not None:
            try:
                self._keys.renew(self.settings.api_keys)
            except (OSError, InvalidSetting) as error:
                logger.error("the keys stay as they were: %s", error)
        self._reloading = self.loop.create_task(self.service.refresh(force=True))  # kept: tasks are held weakly


def _uvicorn(app: Any, settings: Settings) -> Any:
    """The server of uvicorn, without handling of signals and logs."""
    import uvicorn

    from demur.serve.transport.connections import protocol_class

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    return Server(
        uvicorn.Config(
            app,
            http=protocol_class(settings),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]  # a float does as well
            timeout_graceful_shutdown=settings.shutdown_seconds,  # type: ignore[arg-type]
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
    )


def check_packages() -> None:
    """Raise MissingExtra if a package that the server needs is not installed."""
    for package in ("starlette", "uvicorn", "orjson", "prometheus_client"):
        with extra(package, "serve"):
            importlib.import_module(package)


def run(settings: Settings, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> int:
    """Load the models and serve them in this process; DemurError or OSError if the server cannot start."""
    check_packages()
    from demur.serve.serving.models import Models, load_guard
    from demur.serve.transport.access import Keys
    from demur.serve.watching import logs

    with listener:
        keys = None if settings.api_keys is None else Keys.read(settings.api_keys)
        tracer = logs.Tracer() if settings.otel else None
        load_model = None if settings.classifier is None else functools.partial(_load_model, settings)
        load = functools.partial(load_guard, threads=settings.threads, load_model=load_model)
        models = Models.load(settings.paths, load)
        logs.set_up(settings.log_format, access=settings.access_log)
        # The thread that runs guards gets its turn sooner than by default, while the loop is busy with requests.
        sys.setswitchinterval(SWITCH_SECONDS)
        if keys is None and not settings.is_local:
            logger.warning(
                "everybody who reaches %s may ask: --api-keys FILE asks for keys, demur serve --new-key NAME makes one",
                settings.host,
            )

        def started() -> None:
            # What is there now stays: to look through all of it for garbage would halt answers for a while.
            gc.collect()
            gc.freeze()
            print(greeting(models, settings, host.port, host.grpc_port), flush=True)
            ready()

        host = Host(models, settings, listener, keys=keys, tracer=tracer, ready=started)
        host.run()
        return 0


def greeting(models: "Models", settings: Settings, port: int, grpc_port: int | None = None) -> str:
    """What is served, and where, for people."""
    host = "127.0.0.1" if settings.host == "0.0.0.0" else _in_address(settings.host)
    lines = [f"demur serves on {settings.scheme}://{host}:{port}/ (a page for people; /v2 for clients)"]
    for name, served in models.items():
        threshold = served.guard.threshold
        limit = f"threshold {threshold:.4g}" if isinstance(threshold, float) else f"{len(threshold)} thresholds"
        lines.append(f"  {name}: {served.guard.detector}, {limit}, version {served.version}, from {served.path}")
        if served.guard.scale is not None:
            lines.append(f"    takes rows as the classifier does: the data of demur fit, times {served.guard.scale:g}")
    if grpc_port is not None:
        lines.append(f"  gRPC: {host}:{grpc_port}")
    return "\n".join(lines)


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _load_model(settings: Settings) -> Any:
    """Start Keras, and load the classifier that the settings name."""
    from demur.starting import start_keras

    path = Path(settings.classifier or "")
    start_keras(for_file=path)
    from demur.classifiers.files import load_classifier

    return load_classifier(path, module=settings.module, trust=settings.trust)
