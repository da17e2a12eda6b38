"""The server's page in a real browser: what it asks for, shows, fits and refuses."""

import base64
import hashlib
import json
import time

import numpy as np
import pytest
from PIL import Image

from demur.rows.layout import Field
from demur.serve.transport.access import Keys
from demur.serve.watching.summary import SECONDS
from tests.scaffold.chromium import Browser, opened
from tests.scaffold.serve_fakes import SHAPE, FakeGuard, Running, images

pytestmark = pytest.mark.nightly

PHONE, DESK = 360, 1280
HOSTILE = "<img src=x onerror=\"document.title = 'taken'\"> $x_1$ & 100% #1? " + 60 * "x"
KEY = "demur_only-for-this-test"


class LiveBrowser(Browser):
    """A browser whose page goes on asking."""

    def visit(self, url, *, width=DESK, scheme="light"):
        self.open("about:blank", width=width, scheme=scheme)
        self.open(url, width=width, scheme=scheme)

    def until(self, expression, seconds=20):
        """Wait until an expression holds in the page."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, (expression, self.text("body")[:2000], self.complaints())
            time.sleep(0.03)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def choose(self, path):
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(LiveBrowser, tmp_path_factory.mktemp("profile")) as one:
        yield one


def seen(running, name, n=400, seed=7, factor=1.0):
    """Let a watch see rows of which some are flagged."""
    served = running.service.models[name]
    shape = next(iter(served.guard.inputs.values())).shape
    rows = images(n, seed, shape)
    outputs = served.guard.run({"x": rows})
    outputs["instance_score"] = outputs["instance_score"] * np.float32(factor)
    outputs["is_adversarial"] = outputs["instance_score"] > served.guard.threshold
    served.watch.saw({"x": rows}, outputs)
    served.watch.flush()


def before(running, name, seconds):
    """Move what a watch saw into the past."""
    rates = running.service.models[name].watch._stream.rates
    rates._parts = {part - seconds // SECONDS: counts for part, counts in rates._parts.items()}


@pytest.fixture(scope="module")
def server():
    bare = FakeGuard("bare", seed=3)
    bare.calibration, bare.run = None, FakeGuard("bare", seed=3).run
    guards = [FakeGuard("digits"), FakeGuard("drifted", seed=1), FakeGuard("fresh", seed=2), bare]
    guards += [FakeGuard("table", seed=4, shape=(6,)), FakeGuard(HOSTILE, seed=5)]
    del guards[-2].outputs["reconstruction"]
    with Running(guards) as running:
        for name in ("digits", "drifted", "bare", "table", HOSTILE):
            seen(running, name)
        seen(running, "drifted", factor=3.0)
        before(running, "digits", 90)
        seen(running, "digits", seed=8)
        yield running


def address(server, name):
    return f"{server.url}/#{''.join(f'%{byte:02X}' for byte in name.encode())}"


SHOWN = "!document.getElementById('main').hidden"
ASKED = "performance.getEntriesByType('resource').filter(one => one.name.includes('/live/')).length"
DRAWN = "document.querySelectorAll('.plot svg').length >= 2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["digits", "drifted", "fresh", "bare", "table", pytest.param(HOSTILE, id="hostile")])
def test_it_asks_nobody_else_complains_of_nothing_and_fits(browser, server, name, width, scheme):
    browser.visit(address(server, name), width=width, scheme=scheme)
    browser.until(f"{SHOWN} && {DRAWN} && document.querySelector('h1').textContent === {json.dumps(name)}")
    if name == "digits":
        browser.until("[...document.querySelectorAll('#flagged img')].length > 4")
    asked = browser.value(ASKED)
    browser.until(f"{ASKED} > {asked + 1}")
    assert all(url.startswith((f"{server.url}/", f"blob:{server.url}/")) for url in browser.requests())
    assert browser.complaints() == []
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.title") != "taken"
    assert browser.value("document.scripts.length") == 2
    assert browser.value("[...document.images].every(one => one.src.startsWith('blob:'))")


def test_the_figures_of_a_quiet_model_are_there(browser, server):
    browser.visit(address(server, "digits"))
    browser.until(SHOWN)
    summary = server.service.models["digits"].watch.summary()
    assert summary["flagged"] > 0
    assert browser.text("#state") == f"No drift found in {summary['drift']['count']} inputs"
    assert browser.text("#count") == str(summary["count"])
    share, unit = browser.text("#lately").split()
    assert unit == "%"
    assert float(share) == pytest.approx(100 * summary["flagged"] / summary["count"], abs=0.06)
    assert browser.text("#promised") == "promised: at most 5\u00a0% of normal inputs"
    assert browser.value("getComputedStyle(document.getElementById('main')).opacity") == "1"
    labels = browser.value("[...document.querySelectorAll('.plot svg')].map(one => one.getAttribute('aria-label'))")
    assert [label.split(" ")[0] for label in labels] == ["Flagged", "Scores", "Evidence"]
    for plot in ("rate", "scores", "evidence"):
        assert browser.value(f"document.querySelector('#{plot} path.live').getTotalLength() > 8"), plot
    assert browser.value("document.querySelector('#scores line.mark') !== null")
    assert "alarm at 200" in browser.value("document.querySelector('#evidence svg').textContent")
    browser.until("document.querySelectorAll('#flagged .card').length === 12")
    browser.until("[...document.querySelectorAll('#flagged img')].every(one => one.complete && one.naturalWidth === 8)")


def test_drift_is_in_words_on_the_first_screen(browser, server):
    browser.visit(address(server, "drifted"))
    browser.until(SHOWN)
    at = server.service.models["drifted"].watch.summary()["drift"]["alarms"][0]["at"]
    assert browser.text("#state") == f"Drift found at input {at}: the classifier is being hurt"
    assert "where 200 is enough" in browser.text("#meaning")
    assert browser.value("document.title").startswith("Drift: ")
    assert browser.value("document.getElementById('meaning').getBoundingClientRect().bottom") < 800
    red, green, blue = browser.value(
        "getComputedStyle(document.getElementById('state')).color.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert red > 2 * max(green, blue)


def test_an_alarm_can_be_ended_by_hand(browser):
    with Running([FakeGuard("digits"), FakeGuard("calm")]) as running:
        seen(running, "digits")
        seen(running, "calm")
        browser.visit(address(running, "calm"))
        browser.until(SHOWN)
        button = "document.getElementById('reset')"
        assert not browser.value(f"{button}.checkVisibility()")
        seen(running, "digits", factor=3.0)
        browser.visit(address(running, "digits"))
        browser.until(f"{SHOWN} && {button}.checkVisibility()")
        assert browser.text("#state").startswith("Drift found")
        browser.value(f"{button}.click()")
        browser.until(f"!{button}.checkVisibility()")
        assert browser.text("#state").startswith("No drift found")
        assert "There was an alarm before" in browser.text("#meaning")
        assert browser.complaints() == []


def test_what_is_not_there_is_said(browser, server):
    browser.visit(address(server, "fresh"))
    browser.until(SHOWN)
    assert browser.text("#state") == "No inputs yet"
    assert browser.text("#flagged-why") == "Nothing was flagged, as nothing has come yet."
    assert browser.text("#p99") == "no requests answered yet"
    browser.visit(address(server, "bare"))
    browser.until(SHOWN)
    assert browser.text("#state") == "400 inputs seen; drift cannot be told"
    assert "infer_threshold" in browser.text("#meaning")
    assert not browser.value("document.getElementById('drift').checkVisibility()")


def test_numbers_are_a_table_and_no_image_is_asked_for(browser, server):
    browser.visit(address(server, "table"))
    browser.until(f"{SHOWN} && document.querySelectorAll('#flagged tbody tr').length > 3")
    assert browser.value("document.querySelectorAll('#flagged thead th').length") == 4 + 6
    assert not browser.value("document.getElementById('try').checkVisibility()")


def test_the_model_can_be_changed(browser, server):
    browser.visit(f"{server.url}/")
    browser.until(SHOWN)
    assert browser.text("h1") == "digits"
    assert browser.value("[...document.getElementById('models').options].map(one => one.value)")[-1] == HOSTILE
    browser.value(
        "(() => { const box = document.getElementById('models'); box.value = 'fresh';"
        " box.dispatchEvent(new Event('change')); })()"
    )
    browser.until("document.querySelector('h1').textContent === 'fresh'")
    assert browser.text("#state") == "No inputs yet"
    assert browser.value("location.hash") == "#fresh"
    assert browser.complaints() == []


@pytest.fixture
def image_file(tmp_path):
    """A picture of just the model's size, so that its pixels arrive unchanged."""
    shades = np.random.default_rng(0).integers(0, 256, SHAPE[:2], "uint8")
    Image.fromarray(shades).save(tmp_path / "image.png")
    return tmp_path / "image.png", shades


def test_an_image_that_is_chosen_is_judged_as_the_guard_does(browser, server, image_file):
    path, shades = image_file
    browser.visit(address(server, "fresh"))
    browser.until(SHOWN)
    browser.choose(path)
    browser.until("document.querySelector('#verdict dl')")
    guard = server.service.models["fresh"].guard
    outputs = guard.run({"x": (shades[None, ..., None] / 255).astype("float32")})
    rows = browser.value(
        "[...document.querySelectorAll('#verdict dt')].map(one => [one.textContent, one.nextSibling.textContent])"
    )
    said = dict(rows)
    assert said["classifier"] == f"class {outputs['no_defense'][0]}"
    assert said["guard"] == f"class {outputs['defense'][0]}"
    assert said["answer"] == f"class {outputs['corrected'][0]}"
    assert float(said["score"].split(" ")[0]) == pytest.approx(float(outputs["instance_score"][0]), rel=0.01)
    assert float(said["p-value"].split(":")[0]) == pytest.approx(float(outputs["p_value"][0]), rel=0.01)
    assert "normal input" in said["p-value"]
    word = "Flagged" if outputs["is_adversarial"][0] else "Accepted"
    assert browser.text("#verdict h3").startswith(word)
    assert browser.value("document.getElementById('verdict').getAttribute('aria-live')") == "polite"
    data = "[...document.getElementById('{}').getContext('2d').getImageData(0, 0, 8, 8).data]"
    drawn = f"{data}.filter((_, i) => i % 4 === 0)"
    assert browser.value(drawn.format("sent")) == shades.ravel().tolist()
    made = np.array(browser.value(drawn.format("reconstruction")))
    assert np.abs(made - shades.ravel() / 2).max() <= 1
    assert browser.complaints() == []


def test_an_image_that_is_dropped_is_judged_too_and_can_be_inverted(browser, server, image_file):
    path, shades = image_file
    browser.visit(address(server, "digits"))
    browser.until(SHOWN)
    encoded = base64.b64encode(path.read_bytes()).decode()
    browser.value(
        f"(() => {{ const bytes = Uint8Array.from(atob('{encoded}'), one => one.charCodeAt(0));"
        " const carried = new DataTransfer(); carried.items.add(new File([bytes], 'x.png', { type: 'image/png' }));"
        " document.getElementById('drop').dispatchEvent("
        "new DragEvent('drop', { dataTransfer: carried, bubbles: true, cancelable: true })); })()"
    )
    browser.until("document.querySelector('#verdict dl')")
    browser.value("document.getElementById('invert').click()")
    drawn = "document.getElementById('sent').getContext('2d').getImageData(0, 0, 1, 1).data[0]"
    browser.until(f"{drawn} === {255 - int(shades[0, 0])} && document.querySelector('#verdict dl')")
    assert browser.value("location.pathname") == "/"
    assert browser.complaints() == []


def test_a_file_that_is_no_image_is_refused_in_words(browser, server, tmp_path):
    (tmp_path / "image.png").write_bytes(b"no image")
    browser.visit(address(server, "digits"))
    browser.until(SHOWN)
    browser.choose(tmp_path / "image.png")
    browser.until("document.querySelector('#verdict h3').textContent === 'It could not be tried'")
    assert "cannot read this file as an image" in browser.text("#verdict")
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("shape", "dtype"), [((6, 9, 3), "float32"), ((3, 6, 9), "float32"), ((6, 9), "float32"), ((6, 9, 3), "uint8")]
)
def test_channels_and_values_arrive_as_the_model_takes_them(browser, tmp_path, shape, dtype):
    guard, fed = FakeGuard(shape=shape), []
    if dtype != "float32":
        guard.inputs = {"x": Field(shape, dtype)}
    run = guard.run

    def recording(feed, *args, **kwargs):
        fed.append(feed["x"])
        return run({"x": feed["x"].astype("float32")}, *args, **kwargs)

    guard.run = recording
    colours = np.random.default_rng(0).integers(0, 256, (6, 9, 3), "uint8")
    Image.fromarray(colours).save(tmp_path / "image.png")
    with Running([guard]) as running:
        browser.visit(f"{running.url}/")
        browser.until(SHOWN)
        browser.choose(tmp_path / "image.png")
        browser.until("document.querySelector('#verdict dl')")
    grey = np.rint(colours @ [0.299, 0.587, 0.114])
    expected = {2: grey, 3: colours if shape[-1] == 3 else np.moveaxis(colours, -1, 0)}[len(shape)]
    scale = 1 if dtype == "uint8" else 255
    assert fed[0].dtype == dtype
    assert np.abs(fed[0][0] * scale - expected.astype("float64")).max() <= (1 if len(shape) == 2 else 1e-3)


def test_a_key_is_asked_for_kept_in_the_tab_and_used_for_all(browser, image_file):
    keys = Keys({"me": hashlib.sha256(KEY.encode()).hexdigest()})
    with Running([FakeGuard("digits")], keys=keys) as running:
        seen(running, "digits")
        browser.visit(f"{running.url}/")
        browser.until("document.getElementById('login').checkVisibility()")
        assert not browser.value("document.getElementById('main').checkVisibility()")
        assert browser.value("document.activeElement.id") == "key"

        def enter(key):
            browser.call("Input.insertText", text=key)
            for kind in ("rawKeyDown", "char", "keyUp"):
                browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")

        enter("wrong")
        browser.until("document.getElementById('login-why').textContent.includes('does not know that key')")
        enter(KEY)
        browser.until(SHOWN)
        assert not browser.value("document.getElementById('login').checkVisibility()")
        browser.until("document.querySelectorAll('#flagged img').length > 2")
        browser.choose(image_file[0])
        browser.until("document.querySelector('#verdict dl')")
        assert browser.value("[sessionStorage.getItem('demur-key'), localStorage.length, location.search]") == [
            KEY,
            0,
            "",
        ]
        browser.value("sessionStorage.clear()")


def test_a_server_that_is_gone_is_said_and_forgiven(browser):
    with Running([FakeGuard("digits")]) as running:
        browser.visit(f"{running.url}/")
        browser.until(SHOWN)
    browser.until("document.getElementById('lost').checkVisibility()")
    assert browser.text("#lost").startswith("No answer from the server since ")
    assert browser.value("document.getElementById('main').classList.contains('stale')")


def test_values_are_shown_where_the_pointer_is(browser, server):
    browser.visit(address(server, "digits"))
    browser.until(SHOWN)
    for plot, word in (("scores", "calibration: "), ("evidence", "evidence ")):
        left, top, width, height = browser.value(
            f"(() => {{ const one = document.getElementById('{plot}'); one.scrollIntoView({{ block: 'center' }});"
            " const at = one.getBoundingClientRect(); return [at.x, at.y, at.width, at.height]; })()"
        )
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + 0.6 * width, y=top + height / 2)
        browser.until(f"document.querySelector('#{plot} .tip').checkVisibility()")
        assert word in browser.text(f"#{plot} .tip")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)


def test_texts_stand_out_from_what_is_behind_them(browser, server):
    """The contrast that WCAG's level AA asks for, 4.5, in light and dark."""
    contrast = """[...document.querySelectorAll('h1, h2, h3, p, dt, dd, label, b, span, footer, .plot text')]
        .filter(one => one.checkVisibility() && one.textContent.trim()).map(one => {
          const rgb = text => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(
            v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const style = getComputedStyle(one);
          let under = one, behind = 'rgba(0, 0, 0, 0)';
          while (under && rgb(behind)[3] === 0) {
            behind = getComputedStyle(under).backgroundColor;
            under = under.parentElement;
          }
          const [a, b] = [light(rgb(one.closest('svg') ? style.fill : style.color)), light(rgb(behind))];
          return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.slice(0, 60)];
        }).filter(([ratio]) => ratio < 4.5)"""
    for name in ("digits", "drifted"):
        for scheme in ("light", "dark"):
            browser.visit(address(server, name), scheme=scheme)
            browser.until(f"{SHOWN} && {DRAWN}")
            assert browser.value("document.querySelectorAll('p').length") > 5
            assert browser.value(contrast) == [], (name, scheme)
