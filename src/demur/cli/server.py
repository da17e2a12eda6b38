"""`demur serve`: guards behind a network port, in the standard inference protocol."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demur.cli.guards import classifier_file
from demur.cli.options import Commands, add, add_classifier, add_command, derive, name_of, number, values

GROUPS = {
    "who may ask, and where": (
        "host ADDRESS",
        "port N",
        "allow_hosts NAME",
        "grpc_port N",
        "api_keys FILE",
        "--new-key NAME: print a new key and the line for the file, and end",
        "tls_cert FILE.pem",
        "tls_key FILE.pem",
        "allow_threshold: let requests bring a threshold of their own as a parameter",
    ),
    "limits": (
        "max_batch N",
        "max_queue N",
        "threads N",
        "max_body_mb MB",
        "max_json_mb MB",
        "max_connections N",
        "request_seconds S",
    ),
    "watching for harmful drift": (
        "monitor: do not watch",
        "alpha A",
        "tolerance SHARE",
        "cooldown N",
        "every N",
        "state DIR: keep there what the monitors know, for the next start; default: a folder for the port, in "
        "$XDG_STATE_HOME/demur (~/.local/state/demur), if that can be written",
        "webhooks URL",
    ),
    "operation": (
        "reload: do not look each second for a new file in PATH's place",
        "log_format",
        "access_log: no line for each request",
        "otel: trace requests with OpenTelemetry",
        "--no-supervisor: serve in this process, not in one that is restarted when it dies",
        "shutdown_seconds S",
    ),
}
"""Options by their groups in the help: of `Settings`, where they are explained, and two of the command alone."""
SETTINGS = [spec for specs in GROUPS.values() for spec in specs if not spec.startswith("--")]


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, serve)
    add(
        parser,
        "paths: a guard, as demur export has written it (no Keras is needed), or the folder of a saved detector; "
        "NAME=PATH to serve it under another name",
        action="store",
        nargs="*",
        metavar="PATH",
    )
    add(parser, "--name NAME: to serve a single PATH under")
    add_classifier(parser)
    for title, specs in GROUPS.items():
        group = parser.add_argument_group(title)
        for spec in specs:
            if spec.startswith("--"):
                add(group, spec)
            elif spec.split()[-1] in ("N", "S", "MB"):
                derive(group, "Settings", spec, type=_number_for(name_of(spec), int if spec.endswith("N") else float))
            else:
                derive(group, "Settings", spec)


def serve(args: argparse.Namespace) -> int:
    """Serve guards over HTTP, in the Open Inference Protocol, with a page for people.

    Each is served under the name of its file or folder. demur serve guard.onnx, then open http://127.0.0.1:8080 or
    point a client of the protocol there.
    """
    if args.new_key is not None:
        from demur.serve.transport.access import new_key

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
    from demur.serve.serving.models import named
    from demur.serve.settings import Settings
    from demur.serve.supervisor import Supervisor

    check_packages()
    folders = [path for _, path in map(named, args.paths) if path.is_dir()]
    classifiers = [classifier_file(path, args) for path in folders]
    classifier = classifiers[0] if len(classifiers) == 1 else None
    state = args.state or (usual_state(args.port) if args.monitor else None)
    chosen = values(args, SETTINGS) | {
        "paths": args.paths if args.name is None else [f"{args.name}={path}" for path in args.paths],
        "classifier": None if classifier is None else str(classifier),
        "module": args.module,
        "trust": args.trust,
        "state": None if state is None else str(state),
    }
    frozen: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in chosen.items()}
    settings = Settings(**frozen)
    if args.no_supervisor:
        return run_here(settings, listening(settings))
    return Supervisor(settings).run()


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


def _number_for(name: str, kind: type[float]) -> Callable[[str], float]:
    """What reads a number that `Settings` allows for a setting."""

    def read(text: str) -> float:
        from demur.serve.settings import RANGES

        what, allows = RANGES[name]
        return number(text, what, allows, kind)

    return read
