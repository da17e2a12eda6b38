"""What the server can be told. Standard library only: the process that listens needs no more."""

import ipaddress
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

from demur.errors import InvalidSetting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve; each is an option of `demur serve`.

    Examples:
        >>> settings = Settings(paths=("guard.onnx",), port=0, max_batch=128)
        >>> settings.is_local, settings.scheme
        (True, 'http')

    Attributes:
        paths: guards in ONNX files, or folders of saved detectors; NAME=PATH for one that is served by another name.
        host: address to listen on.
        port: 0 for any that is free.
        allow_hosts: names that requests may call a server by that only this machine reaches, and that asks for no keys;
            beside localhost.
        grpc_port: of the same protocol over gRPC; None for none.
        api_keys: file of hashed keys; None: everybody may ask.
        tls_cert: PEM file with the certificate, and those above it.
        tls_key: PEM file with its private key.
        max_batch: rows that one pass through a guard takes.
        max_queue: rows that may wait, of a model, and rows of a request.
        threads: that one pass may use; None for one a core.
        classifier: file of the classifier of a saved detector that was saved without it.
        module: what makes the classifier's PyTorch module, "package.module:function".
        trust: types in the classifier's .skops file that are trusted.
        max_body_mb: largest body of a request, in MiB, unpacked if it was compressed.
        max_json_mb: most JSON in it, in MiB; larger tensors come as binary data.
        max_depth: deepest nesting of JSON.
        max_connections: open at once.
        head_seconds: until the head of a request has come whole.
        request_seconds: until its body has come whole, and from then on until it is answered.
        idle_seconds: that a connection may stay open between two requests.
        allow_threshold: whether requests may bring a threshold of their own.
        monitor: whether to watch for harmful drift.
        alpha: the chance that a monitor ever raises a false alarm.
        tolerance: share of the inputs that may be bad without an alarm.
        every: how many inputs apart those are that the monitor looks at, where inputs depend on each other.
        cooldown: inputs after an alarm until evidence is gathered anew; None: until somebody ends the alarm.
        state: folder in which the monitors keep their state; None: none is kept.
        webhooks: addresses that alarms are posted to.
        reload: whether to look for new files each second.
        log_format: "text" for people, "json" for machines.
        access_log: whether each request is logged.
        otel: whether to trace requests with OpenTelemetry.
        shutdown_seconds: to finish what was accepted.

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
        for name in ("max_batch", "max_queue", "max_depth", "max_connections", "every"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"{name} is a whole number of at least 1; got {getattr(self, name)!r}")
        if self.threads is not None and self.threads < 1:
            raise InvalidSetting(f"threads is a whole number of at least 1, or None; got {self.threads!r}")
        for name in ("max_body_mb", "max_json_mb", "head_seconds", "request_seconds", "idle_seconds"):
            if not getattr(self, name) > 0:
                raise InvalidSetting(f"{name} is a number above 0; got {getattr(self, name)!r}")
        if not 0 < self.alpha < 1:
            raise InvalidSetting(f"alpha is the chance of a false alarm, above 0 and below 1; got {self.alpha!r}")
        if not 0 <= self.tolerance < 1:
            raise InvalidSetting(f"tolerance is a share of the inputs, from 0 to below 1; got {self.tolerance!r}")
        if self.cooldown is not None and self.cooldown < 1:
            raise InvalidSetting(f"cooldown is a whole number of at least 1, or None; got {self.cooldown!r}")
        if not self.shutdown_seconds >= 0:
            raise InvalidSetting(f"shutdown_seconds is a number not below 0; got {self.shutdown_seconds!r}")
        for name in ("port", "grpc_port"):
            if not 0 <= (getattr(self, name) or 0) <= 65535:
                raise InvalidSetting(f"{name} is a port, from 0 to 65535; got {getattr(self, name)!r}")
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
    def scheme(self) -> str:
        """Of its addresses."""
        return "http" if self.tls_cert is None else "https"

    def to_json(self) -> str:
        """All of it on one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings that `to_json` wrote."""
        given: dict[str, Any] = json.loads(text)
        known = {field.name for field in fields(cls)}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return cls(**{name: value for name, value in (given | lists).items() if name in known})

    @property
    def max_json(self) -> int:
        """Most JSON of a request, in bytes."""
        return int(self.max_json_mb * 2**20)
