"""Who may ask: keys, of which the server knows only hashes, and host names, against DNS rebinding."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from demur.errors import InvalidSetting
from demur.serve.serving.protocol import ProtocolError, shown

LINE = re.compile(r"(?P<name>[^:\s#][^:\s]*):(?P<hash>[0-9a-f]{64})")
PREFIX = "demur_"
SCHEME = b"bearer "
LOCAL = ("localhost", "127.0.0.1", "::1")


class Keys:
    """The valid keys, from the SHA-256 of each, in hexadecimal, by the name of the holder."""

    # A key is 256 random bits: nobody can guess it from its hash, so that a slow hash, which passwords need, would only
    # cost time at each request.

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = {name: bytes.fromhex(digest) for name, digest in hashes.items()}

    @classmethod
    def read(cls, path: str | Path) -> "Keys":
        """Read a file of lines `name:hash`; empty lines and those that begin with # are skipped.

        Raises:
            OSError: the file cannot be read.
            InvalidSetting: a line is not `name:hash`, a name is there twice, or there is no key.
        """
        hashes: dict[str, str] = {}
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            found = LINE.fullmatch(line.strip())
            if found is None:
                # The line is not shown: it may be a key that was put there by mistake.
                raise InvalidSetting(
                    f"{path}, line {number}: not name:hash; demur serve --new-key NAME prints such a line"
                )
            if found["name"] in hashes:
                raise InvalidSetting(f"{path}, line {number}: there are two keys of {found['name']}")
            hashes[found["name"]] = found["hash"]
        if not hashes:
            raise InvalidSetting(f"{path} holds no key: demur serve --new-key NAME prints a line for it")
        return cls(hashes)

    def renew(self, path: str | Path) -> None:
        """Read the file again, which replaces all keys; errors are as in `read`, and change nothing."""
        self._hashes = Keys.read(path)._hashes  # noqa: SLF001 - of its own class

    def holder(self, authorization: bytes) -> str | None:
        """The holder of the key in an `Authorization` header; None if the key is not valid."""
        if authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        digest = hashlib.sha256(authorization[len(SCHEME) :].strip()).digest()
        holder = None
        for name, expected in self._hashes.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, expected):
                holder = name
        return holder

    def admit(self, headers: Mapping[bytes, bytes], figures: dict[str, Any], where: str) -> None:
        """Note the holder of a request's key in the figures; ProtocolError, with where keys go, if there is none."""
        holder = self.holder(headers.get(b"authorization", b""))
        if holder is None:
            raise ProtocolError(401, f"this needs a valid key{where}: Bearer KEY")
        figures["key"] = holder


def new_key(name: str) -> tuple[str, str]:
    """Make a key, which is kept nowhere, and the line for the file; InvalidSetting if the name cannot stand there."""
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    if LINE.fullmatch(line) is None:
        raise InvalidSetting(f"the name of a key is without spaces and colons, and does not begin with #; got {name!r}")
    return key, line


class HostNames:
    """The names that requests may call the server by: protects a server without keys from DNS rebinding.

    A server that only this machine reaches asks for no key. But any web page that a browser on this machine shows can
    reach it, too: from the page's own address, or by a host name of the page's owner that points to this machine. The
    headers `Origin` and `Host` tell.

    Args:
        names: host names and addresses, without ports, beside those of this machine.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        allowed = "|".join(re.escape(_bracketed(name).lower()) for name in (*LOCAL, *names))
        self._host = re.compile(rf"(?:{allowed})\.?(?::\d*)?".encode(), re.IGNORECASE)
        self._origin = re.compile(rf"https?://(?:{allowed})\.?(?::\d+)?".encode(), re.IGNORECASE)

    def check(self, host: bytes, origin: bytes) -> None:
        """Raise ProtocolError if `Host` or `Origin` of a request is not allowed; a missing header is empty."""
        if self._host.fullmatch(host) is None:
            raise ProtocolError(
                421,
                f"this server is not called {shown(host.decode('latin-1'))}, but localhost: whoever runs it can allow "
                "other names, with --allow-host NAME, or ask for keys",
            )
        if origin and self._origin.fullmatch(origin) is None:
            raise ProtocolError(
                403,
                f"a page of {shown(origin.decode('latin-1'))} may not ask this server: whoever runs it can allow it, "
                "with --allow-host NAME, or ask for keys",
            )


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
