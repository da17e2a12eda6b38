"""What the page's routes answer, without a browser; `tests/e2e/test_live_page.py` has one."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from demur.serve.transport.http import OPENAPI
from demur.serve.transport.page import FILES, STATIC, routes
from demur.serve.watching.telemetry import Telemetry
from demur.serve.watching.watch import Watch
from tests.scaffold.serve_fakes import FakeGuard, images

NAME = "a <b>/ü"


@pytest.fixture(scope="module")
def watch():
    guard = FakeGuard()
    one = Watch(guard, NAME, Telemetry())
    rows = images(3)
    outputs = guard.run({"x": rows}) | {"is_adversarial": np.array([False, True, False])}
    one.saw({"x": rows}, outputs)
    one.work()
    yield one
    one.close()


@pytest.fixture(scope="module")
def client(watch):
    models = {NAME: SimpleNamespace(watch=watch), "unwatched": SimpleNamespace(watch=None)}
    with TestClient(Starlette(routes=routes(SimpleNamespace(models=models)))) as one:
        yield one


def policy(answer):
    return dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))


def test_the_page_and_its_files_are_answered_with_a_strict_policy(client):
    for path in ("/", *(f"/static/{name}" for name in FILES)):
        answer = client.get(path)
        assert answer.status_code == 200
        assert policy(answer) == {
            "default-src": "'self'",
            "img-src": "'self' data: blob:",
            "object-src": "'none'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert client.get("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert client.get("/static/app.js").headers["Content-Type"].startswith("text/javascript")
    assert client.get("/static/style.css").headers["Content-Type"].startswith("text/css")


def test_all_its_files_are_listed_and_no_other_can_be_had(client):
    assert {path.name for path in STATIC.iterdir()} == set(FILES)
    for path in ("/static/page.py", "/static/../page.py", "/static/..%2fpage.py", "/static/%2e%2e/page.py", "/static/"):
        assert client.get(path).status_code == 404


def test_a_browser_that_has_a_file_is_not_sent_it_again(client):
    first = client.get("/static/app.js")
    again = client.get("/static/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["Cache-Control"] == "no-cache"
    assert client.get("/static/style.css").headers["ETag"] != first.headers["ETag"]
    assert client.head("/").status_code == 200


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    page = Elements()
    page.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    for tag, attributes in page.found:
        assert tag != "style"
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert tag != "script" or attributes["src"].startswith("static/")
        for name in ("src", "href"):
            assert not re.match(r"/|[a-z]+:(?!,)", attributes.get(name, "")), attributes
    for name in FILES:
        found = set(
            re.findall(r"https?://[^\s\"')]+|url\([^)]*\)|@import", (STATIC / name).read_text(encoding="utf-8"))
        )
        assert found <= {"http://www.w3.org/2000/svg"}, name


def test_names_are_never_made_markup():
    for name in ("app.js", "charts.js"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", text
        )


def test_every_control_has_a_label_and_every_reference_is_kept():
    page = Elements()
    page.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.found:
        for name in ("for", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids
    labelled = {attributes.get("for") for tag, attributes in page.found if tag == "label"}
    controls = {attributes["id"] for tag, attributes in page.found if tag in ("input", "select")}
    assert controls - labelled == {"models"}  # which stands within its label
    script = (STATIC / "app.js").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\(\"([^\"]+)\"\)", script)) <= set(ids)


def test_the_models_and_their_figures_are_told(client):
    assert client.get("/live").json() == {"models": [NAME, "unwatched"]}
    # A slash in a name ends the path's part; a file's name has none.
    assert client.get("/live/unwatched").status_code == 404
    assert client.get("/live/nobody").json() == {"error": "there is no model 'nobody' that is watched"}


def test_figures_and_pictures_are_not_cached(watch):
    models = {"digits": SimpleNamespace(watch=watch)}
    with TestClient(Starlette(routes=routes(SimpleNamespace(models=models)))) as client:
        answer = client.get("/live/digits")
        found = answer.json()
        assert (found["model"], found["count"], len(found["recent"])) == (NAME, 3, 1)
        assert answer.headers["Cache-Control"] == "no-store"
        number = found["recent"][0]["id"]
        picture = client.get(f"/live/digits/flagged/{number}/input.png")
        assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
        assert picture.content.startswith(b"\x89PNG")
        assert picture.headers["Cache-Control"] == "no-store"
        numbers = (number + 99, "x", "9" * 5000)
        for path in (f"{number}/other.png", *(f"{one}/input.png" for one in numbers), f"{number}/..%2f.png"):
            assert client.get(f"/live/digits/flagged/{path}").status_code in (404, 422)
        assert client.get(f"/live/nobody/flagged/{number}/input.png").status_code == 404


def test_the_page_is_no_part_of_the_described_interface():
    described = json.loads(OPENAPI.read_text())["paths"]
    assert described
    assert described.keys() & {route.path for route in routes(SimpleNamespace(models={}))} == set()
