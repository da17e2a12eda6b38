"""What the server can be told. Standard library only: the process that listens needs no more."""

import ipaddress
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from demur.errors import InvalidSetting

Range = tuple[str, Callable[[Any], bool]]
"""Numbers that are allowed: in words, and as a test."""
PORT: Range = ("a port, from 0 to 65535", lambda number: 0 <= number <= 65535)
COUNT: Range = ("a whole number of at least 1", lambda number: number >= 1)
POSITIVE: Range = ("a number above 0", lambda number: number > 0)
RANGES: dict[str, Range] = {
    **dict.fromkeys(("port", "grpc_port"), PORT),
    **dict.fromkeys(("max_batch", "max_queue", "max_depth", "max_connections", "threads", "cooldown", "every"), COUNT),
    **dict.fromkeys(("max_body_mb", "max_json_mb", "head_seconds", "request_seconds", "idle_seconds"), POSITIVE),
    "alpha": ("the chance of a false alarm, above 0 and below 1", lambda number: 0 < number < 1),
    "tolerance": ("a share of the inputs, from 0 to below 1", lambda number: 0 <= number < 1),
    "shutdown_seconds": ("a number not below 0", lambda number: number >= 0),
}
"""Of the settings that are numbers; None is always allowed."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve. The options of `demur serve`, and their help, are made from this class.

    Examples:
        >>> settings = Settings(paths=("guard.onnx",), port=0, max_batch=128)
        >>> settings.is_local, settings.scheme
        (True, 'http')

    Attributes:
        paths: guards in ONNX files, or folders of saved detectors; NAME=PATH for one that is served by another name.
        host: address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 all of its addresses.
        port: to listen at, 0 for any that is free.
        allow_hosts: where it listens on this machine alone and asks for no keys, let requests call it so, beside
            localhost; may be repeated.
        grpc_port: serve the same protocol over gRPC there.
        api_keys: ask for a key; the file has a hash of each.
        tls_cert: the certificate, and those above it, for https.
        tls_key: the private key of the certificate.
        max_batch: rows that one pass through a guard takes.
        max_queue: rows that may wait, of a model, and rows of a request.
        threads: that one pass may use; default: one a core; 1 is quickest for a small guard.
        classifier: file of the classifier of a saved detector that was saved without it.
        module: what makes the classifier's PyTorch module, "package.module:function".
        trust: types in the classifier's .skops file that are trusted.
        max_body_mb: largest body of a request, in MiB, unpacked if it was compressed.
        max_json_mb: most JSON in a body, in MiB; larger tensors come as binary data.
        max_depth: deepest nesting of JSON.
        max_connections: open at once.
        head_seconds: until the head of a request has come whole.
        request_seconds: for a body to come whole, and then for an answer.
        idle_seconds: that a connection may stay open between two requests.
        allow_threshold: whether requests may bring a threshold of their own.
        monitor: whether to watch for harmful drift.
        alpha: chance that a monitor ever raises a false alarm.
        tolerance: share of the inputs that may be bad without an alarm.
        every: look at every N-th input alone, where inputs depend on those before.
        cooldown: inputs after an alarm until evidence is gathered anew; default: the alarm stays until somebody ends
            it.
        state: folder in which the monitors keep their state; None: none is kept.
        webhooks: post alarms to this address, as CloudEvents; may be repeated.
        reload: whether to look for new files each second.
        log_format: text for people, json for machines.
        access_log: whether each request is logged.
        otel: whether to trace requests with OpenTelemetry.
        shutdown_seconds: to finish what was accepted when told to end.

    Raises:
        InvalidSetting: a number is out of its range.
    """

    paths: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    allow_hosts: tuple[str, ...] = ()
    grpc_port: int | None = None
    api_keys: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    max_batch: int = 64
    max_queue: int = 4096
    threads: int | None = None
    classifier: str | None = None
    module: str | None = None
    trust: tuple[str, ...] = ()
    max_body_mb: float = 32.0
    max_json_mb: float = 4.0
    max_depth: int = 16
    max_connections: int = 1000
    head_seconds: float = 10.0
    request_seconds: float = 30.0
    idle_seconds: float = 75.0
    allow_threshold: bool = False
    monitor: bool = True
    alpha: float = 0.01
    tolerance: float = 0.0
    cooldown: int | None = None
    every: int = 1
    state: str | None = None
    webhooks: tuple[str, ...] = ()
    reload: bool = True
    log_format: Literal["text", "json"] = "text"
    access_log: bool = True
    otel: bool = False
    shutdown_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, (what, allows) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not allows(value):
                raise InvalidSetting(f"{name} is {what}; got {value!r}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidSetting("TLS takes both a certificate and its key: pass tls_cert and tls_key")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def max_body(self) -> int:
        """The largest body, in bytes."""
        return int(self.max_body_mb * 2**20)

    @property
    def max_json(self) -> int:
        """Most JSON of a request, in bytes."""
        return int(self.max_json_mb * 2**20)

    @property
    def scheme(self) -> str:
        """The scheme of the server's addresses."""
        return "http" if self.tls_cert is None else "https"

    def to_json(self) -> str:
        """All settings, on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings that `to_json` wrote, perhaps of another version."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {name: value for name, value in json.loads(text).items() if name in known}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**(given | lists))
