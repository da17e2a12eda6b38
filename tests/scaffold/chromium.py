"""Chromium, for tests of pages: it opens them, and says what they asked for, how wide they came out and what they hold.

Tests talk to it over a pipe in the DevTools protocol (https://chromedevtools.github.io/devtools-protocol), which needs
no package. It is Debian's: `apt-get install chromium`; $CHROMIUM names another.
"""

import contextlib
import json
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
)


class Browser:
    """Chromium with one open page."""

    def __init__(self, profile):
        (read, self._to_it), (self._from_it, write) = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and writes to 4; bash puts the pipes there.
        start = f'exec "$@" 3<&{read} 4>&{write}'
        command = ["bash", "-c", start, "bash", str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._log = (profile / "log").open("wb")
        self._process = subprocess.Popen(command, pass_fds=(read, write), stdout=self._log, stderr=self._log)
        os.close(read)
        os.close(write)
        self._session, self._received, self._count, self.events = None, b"", 0, []

    def open_page(self):
        """Open its one page, and have it tell what happens there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Have it do something; what happens meanwhile is added to `events`."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, address, *, width, scheme):
        """Open an address in a window of a width, in light or dark; `events` are those of this page."""
        self.events = []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def value(self, expression):
        """What an expression of JavaScript gives in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def requests(self):
        """The addresses that the page asked for, but for those that hold their own data."""
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self):
        """What is in its console: messages, errors, what its policy blocked."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def close(self):
        """End it, in whatever state it is."""
        self._session = None
        with contextlib.suppress(OSError, EOFError, AssertionError):
            self.call("Browser.close")
        os.close(self._to_it)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from_it)
        self._log.close()

    def _receive(self):
        deadline = time.monotonic() + 60
        while b"\0" not in self._received:
            if not select.select([self._from_it], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no word from Chromium in a minute; {Path(self._log.name).read_text()[-2000:]}")
            part = os.read(self._from_it, 1 << 20)
            if not part:
                raise EOFError(f"Chromium has ended; {Path(self._log.name).read_text()[-2000:]}")
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def opened(kind, profile):
    """A browser, of `Browser`'s kind, that ends with the block; what it keeps goes to the folder `profile`."""
    if not CHROMIUM.exists():
        pytest.fail(f"there is no {CHROMIUM}: apt-get install chromium, or name yours in $CHROMIUM")
    one = kind(profile)
    try:
        one.open_page()
        yield one
    finally:
        one.close()
