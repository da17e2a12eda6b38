"""The names that a server of one machine goes by: what protects it from pages that this machine's browser shows."""

import re
from collections.abc import Iterable

from demur.serve.serving.protocol import ProtocolError, shown

LOCAL = ("localhost", "127.0.0.1", "::1")


class HostNames:
    """The names that requests may call the server by.

    A server that only this machine reaches asks for no key. But the browser on this machine reaches it, too, for any
    page that it shows: by a name that the page's owner lets point here, and which is then the page's own ("DNS
    rebinding"), or from elsewhere. Both say so, in `Host` and in `Origin`.

    Args:
        names: host names and addresses, without ports, beside those of this machine.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        allowed = "|".join(re.escape(_bracketed(name).lower()) for name in (*LOCAL, *names))
        self._host = re.compile(rf"(?:{allowed})\.?(?::\d*)?".encode(), re.IGNORECASE)
        self._origin = re.compile(rf"https?://(?:{allowed})\.?(?::\d+)?".encode(), re.IGNORECASE)

    def check(self, host: bytes, origin: bytes) -> None:
        """Look at two headers of a request; they are empty where it has none.

        Raises:
            ProtocolError: it asks for another host, or is of another's page.
        """
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
    """As it stands in an address."""
    return f"[{name}]" if ":" in name and not name.startswith("[") else name
