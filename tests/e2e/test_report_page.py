"""A report in a real browser: Chromium opens the file, and says what it asked for and how wide it came out.

Tests talk to it over a pipe in the DevTools protocol (https://chromedevtools.github.io/devtools-protocol), which needs
no package. It is Debian's: `apt-get install chromium`; $CHROMIUM names another.
"""

import contextlib
import dataclasses
import json
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from demur.report import write_report
from evaluation_example import example

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
PHONE, DESK = 360, 1280
HOSTILE = "<script>document.title = 'taken'</script><img src='http://example.invalid/x.png'> $x_1$ & \"q\""


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

    def open(self, path, *, width, scheme):
        """Open a file in a window of a width, in light or dark; `events` are those of this page."""
        self.events = []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=path.as_uri())
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM.exists():
        pytest.fail(f"there is no {CHROMIUM}: apt-get install chromium, or name yours in $CHROMIUM")
    one = Browser(tmp_path_factory.mktemp("profile"))
    try:
        one.open_page()
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(example(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory):
    """A report whose every name is code, a picture from the network, and too long."""
    whole = example()
    evaluation = dataclasses.replace(
        whole,
        detector=HOSTILE,
        classifier=HOSTILE,
        class_names=[HOSTILE] * 10,
        notes=[HOSTILE],
        settings={HOSTILE: {HOSTILE: [HOSTILE, "x" * 300]}},
        versions={HOSTILE: HOSTILE},
        threats=[dataclasses.replace(threat, name=HOSTILE + threat.name, model=HOSTILE) for threat in whole.threats],
        checks=[dataclasses.replace(check, name=HOSTILE, detail=HOSTILE) for check in whole.checks],
    )
    return write_report(evaluation, tmp_path_factory.mktemp("hostile") / "report.html")


@pytest.fixture(params=["report", "hostile_report"])
def page(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_asks_for_nothing_complains_of_nothing_and_fits(browser, page, width, scheme):
    browser.open(page, width=width, scheme=scheme)
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.title") != "taken"
    assert browser.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)")


def test_ink_and_page_change_places_in_the_dark(browser, report):
    brightness = "getComputedStyle({}).{}.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    found = {}
    for scheme in ("light", "dark"):
        browser.open(report, width=DESK, scheme=scheme)
        page = browser.value(brightness.format("document.body", "backgroundColor"))
        inks = [browser.value(brightness.format(f"document.querySelector('{one}')", "color")) for one in ("h1", "td")]
        label = browser.value(brightness.format("document.querySelector('.plots text')", "fill"))
        found[scheme] = [ink - page for ink in (*inks, label)]
    assert max(found["light"]) < -400
    assert min(found["dark"]) > 400


def test_a_failed_check_is_red_and_on_the_first_screen(browser, report):
    browser.open(report, width=DESK, scheme="light")
    assert browser.value("document.querySelector('[role=alert]').getBoundingClientRect().bottom") < 800
    red, green, blue = browser.value(
        "getComputedStyle(document.querySelector('[role=alert] strong')).color.match(/\\d+/g).map(Number)"
    )
    assert red > 2 * max(green, blue)


def test_ids_are_the_only_ones_and_every_reference_is_kept(browser, report):
    browser.open(report, width=DESK, scheme="light")
    ids = browser.value("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    used = browser.value(
        "[...document.querySelectorAll('*')].flatMap(one => [...one.attributes])"
        ".filter(one => ['href', 'xlink:href', 'clip-path', 'aria-labelledby'].includes(one.name))"
        ".map(one => one.value.replace(/^url\\(|\\)$/g, '').replace(/^#/, ''))"
    )
    assert {one for one in used if not one.startswith("data:")} <= set(ids)


def test_it_prints_in_full_and_on_paper_of_its_width(browser, report):
    browser.open(report, width=DESK, scheme="dark")
    browser.call("Emulation.setEmulatedMedia", media="print")
    paper = 703  # A4 less its margins, in pixels
    browser.call("Emulation.setDeviceMetricsOverride", width=paper, height=1000, deviceScaleFactor=1, mobile=False)
    assert browser.value("document.documentElement.scrollWidth") <= paper
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    closed = "[...document.querySelectorAll('details:not([open]) td')]"
    assert browser.value(f"{closed}.length") > 0
    assert browser.value(f"{closed}.every(one => one.checkVisibility())")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.call("Page.printToPDF", preferCSSPageSize=True)["data"].startswith("JVBERi")
