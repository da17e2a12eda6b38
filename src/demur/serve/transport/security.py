"""Who may ask: keys, of which the server knows only hashes."""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from demur.errors import InvalidSetting

LINE = re.compile(r"(?P<name>[^:\s#][^:\s]*):(?P<hash>[0-9a-f]{64})")
PREFIX = "demur_"
SCHEME = b"bearer "


class Keys:
    """The keys that are valid.

    Args:
        hashes: by the name of whoever has the key, its SHA-256 in hexadecimal.
    """

    # A key is 256 random bits: nobody can guess it from its hash, so that a slow hash, which passwords need, would only
    # cost time at each request.

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = {name: bytes.fromhex(digest) for name, digest in hashes.items()}

    @classmethod
    def read(cls, path: str | Path) -> "Keys":
        """Read a file of lines `name:hash`; empty lines and those that begin with # are passed over.

        Raises:
            OSError: it cannot be read.
            InvalidSetting: a line is no such line, a name is there twice, or there are none.
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
        """Read the file again: from now on its keys are valid, and no others.

        Raises:
            OSError, InvalidSetting: see `read`; the keys stay as they were.
        """
        self._hashes = Keys.read(path)._hashes  # noqa: SLF001 - of its own class

    def holder(self, authorization: bytes) -> str | None:
        """Whose key an `Authorization` header holds; None if it is none."""
        if authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        digest = hashlib.sha256(authorization[len(SCHEME) :].strip()).digest()
        holder = None
        for name, expected in self._hashes.items():  # all of them, so that time tells nothing
            if hmac.compare_digest(digest, expected):
                holder = name
        return holder


def new_key(name: str) -> tuple[str, str]:
    """Make a key.

    Args:
        name: of whoever shall have it.

    Returns:
        The key, which is kept nowhere, and the line for the file.

    Raises:
        InvalidSetting: the name cannot stand in the file.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    if LINE.fullmatch(line) is None:
        raise InvalidSetting(f"the name of a key is without spaces and colons, and does not begin with #; got {name!r}")
    return key, line
