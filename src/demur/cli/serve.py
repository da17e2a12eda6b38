"""`demur serve`: guards behind a network port, in the standard inference protocol."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from demur.cli.guards import add_classifier, classifier_file
from demur.cli.options import Commands, add_command, whole_number

EXAMPLE = "demur serve guard.onnx, then open http://127.0.0.1:8080 or point a client of the protocol there."


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "serve",
        run,
        "serve guards over HTTP, in the Open Inference Protocol, with a page for people",
        f"Each is served under the name of its file or folder. {EXAMPLE}",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a guard, as demur export has written it (no Keras is needed), or the folder of a saved detector; "
        "NAME=PATH to serve it under another name",
    )
    parser.add_argument("--name", metavar="NAME", help="to serve a single PATH under")
    add_classifier(parser)
    _add_network(parser)
    _add_limits(parser)
    _add_monitor(parser)
    _add_operation(parser)


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may ask, and where")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="to listen on; 0.0.0.0 for all of this machine's; default: %(default)s, this machine alone",
    )
    group.add_argument("--port", type=_port, default=8080, metavar="N", help="default: %(default)s; 0 for a free one")
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="where it listens on this machine alone and asks for no keys, let requests call it so, beside localhost; "
        "may be repeated",
    )
    group.add_argument("--grpc-port", type=_port, metavar="N", help="serve the same protocol over gRPC there")
    group.add_argument("--api-keys", type=Path, metavar="FILE", help="ask for a key; of each, the file has a hash")
    group.add_argument("--new-key", metavar="NAME", help="print a new key and the line for the file, and end")
    group.add_argument("--tls-cert", type=Path, metavar="FILE.pem", help="the certificate, for https")
    group.add_argument("--tls-key", type=Path, metavar="FILE.pem", help="its private key")
    group.add_argument(
        "--allow-threshold", action="store_true", help="let requests bring a threshold of their own as a parameter"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    group.add_argument(
        "--max-batch", type=whole_number, default=64, metavar="N", help="rows that one pass takes; default: %(default)s"
    )
    group.add_argument(
        "--max-queue",
        type=whole_number,
        default=4096,
        metavar="N",
        help="rows that may wait, of a model, and rows of a request; default: %(default)s",
    )
    group.add_argument(
        "--threads",
        type=whole_number,
        metavar="N",
        help="that one pass may use; default: one a core. 1 is quickest for a small guard",
    )
    group.add_argument(
        "--max-body-mb", type=_seconds, default=32.0, metavar="MB", help="largest body; default: %(default)g"
    )
    group.add_argument(
        "--max-json-mb",
        type=_seconds,
        default=4.0,
        metavar="MB",
        help="most JSON in it: more comes as binary tensors; default: %(default)g",
    )
    group.add_argument(
        "--max-connections", type=whole_number, default=1000, metavar="N", help="open at once; default: %(default)s"
    )
    group.add_argument(
        "--request-seconds",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="for a body to come, and then for an answer; default: %(default)g",
    )


def _add_monitor(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("watching for harmful drift")
    group.add_argument("--no-monitor", action="store_true", help="do not watch")
    group.add_argument(
        "--alpha", type=float, default=0.01, metavar="A", help="chance of ever raising a false alarm; default: 0.01"
    )
    group.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the inputs, that may be bad without an alarm; default: 0",
    )
    group.add_argument(
        "--cooldown", type=whole_number, metavar="N", help="inputs after an alarm; default: the alarm stays"
    )
    group.add_argument(
        "--every",
        type=whole_number,
        default=1,
        metavar="N",
        help="look at every N-th input alone, where inputs depend on those before; default: 1",
    )
    group.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="keep there what the monitors know, for the next start; default: a folder for the port, in "
        "$XDG_STATE_HOME/demur (~/.local/state/demur), if that can be written",
    )
    group.add_argument(
        "--webhook",
        action="append",
        default=[],
        metavar="URL",
        help="post alarms there, as CloudEvents; may be repeated",
    )


def _add_operation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("operation")
    group.add_argument(
        "--no-reload", action="store_true", help="do not look each second for a new file in PATH's place"
    )
    group.add_argument("--log-format", choices=("text", "json"), default="text", help="default: %(default)s")
    group.add_argument("--no-access-log", action="store_true", help="no line for each request")
    group.add_argument("--otel", action="store_true", help="trace requests with OpenTelemetry")
    group.add_argument(
        "--no-supervisor", action="store_true", help="serve in this process, not in one that is restarted when it dies"
    )
    group.add_argument(
        "--shutdown-seconds",
        type=_natural_seconds,
        default=30.0,
        metavar="S",
        help="to finish what was accepted when told to end; default: %(default)g",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until told to end."""
    if args.new_key is not None:
        from demur.serve.transport.security import new_key

        key, line = new_key(args.new_key)
        print(f"the key, which is kept nowhere:\n  {key}\nthe line for the file of --api-keys:\n  {line}")
        return 0
    if not args.paths:
        args.parser.error("name at least one PATH to serve")
    if args.name is not None and len(args.paths) > 1:
        args.parser.error("--name is for a single PATH: with several, write NAME=PATH")
    if args.name is not None and (not args.name or "/" in args.name):
        args.parser.error(f"--name is without slashes, and not empty; got {args.name!r}")
    if args.classifier is not None and len(args.paths) > 1:
        args.parser.error("--classifier is for a single PATH")
    from demur.serve.launch import check_packages, listening
    from demur.serve.launch import run as run_here
    from demur.serve.settings import Settings
    from demur.serve.supervisor import Supervisor

    check_packages()
    settings = Settings(
        paths=tuple(args.paths if args.name is None else [f"{args.name}={path}" for path in args.paths]),
        host=args.host,
        port=args.port,
        allow_hosts=tuple(args.allow_host),
        grpc_port=args.grpc_port,
        api_keys=_text(args.api_keys),
        tls_cert=_text(args.tls_cert),
        tls_key=_text(args.tls_key),
        max_batch=args.max_batch,
        max_queue=args.max_queue,
        threads=args.threads,
        classifier=_text(outside_classifier(args)),
        module=args.module,
        trust=tuple(args.trust),
        max_body_mb=args.max_body_mb,
        max_json_mb=args.max_json_mb,
        max_connections=args.max_connections,
        request_seconds=args.request_seconds,
        allow_threshold=args.allow_threshold,
        monitor=not args.no_monitor,
        alpha=args.alpha,
        tolerance=args.tolerance,
        cooldown=args.cooldown,
        every=args.every,
        state=_text(args.state or (None if args.no_monitor else usual_state(args.port))),
        webhooks=tuple(args.webhook),
        reload=not args.no_reload,
        log_format=args.log_format,
        access_log=not args.no_access_log,
        otel=args.otel,
        shutdown_seconds=args.shutdown_seconds,
    )
    if args.no_supervisor:
        return run_here(settings, listening(settings))
    return Supervisor(settings).run()


def outside_classifier(args: argparse.Namespace) -> Path | None:
    """The file of the classifier that a single guard, a folder, was saved without.

    Raises:
        WrongClassifier: no file is named.
    """
    from demur.serve.serving.models import named

    folders = [path for _, path in map(named, args.paths) if path.is_dir()]
    files = [classifier_file(path, args) for path in folders]
    return files[0] if len(files) == 1 else None


def usual_state(port: int) -> Path | None:
    """The folder in which a server on this port keeps what its monitors know; None if nothing can be written there."""
    if port == 0:  # another one each time
        return None
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(home) / "demur" / f"port-{port}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path()
    if folder == Path() or not os.access(folder, os.W_OK | os.X_OK):
        print("demur: what the drift monitors know will not survive a restart: name a folder, --state", file=sys.stderr)
        return None
    return folder


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be a port, from 0 to 65535; got {text!r}")
    return int(text)


def _number(text: str, allows: Callable[[float], bool], what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (allows(number) and number < float("inf")):
        raise argparse.ArgumentTypeError(f"must be a number {what}; got {text!r}")
    return number


def _seconds(text: str) -> float:
    return _number(text, lambda number: number > 0, "above 0")


def _natural_seconds(text: str) -> float:
    return _number(text, lambda number: number >= 0, "not below 0")
