"""The documentation as a site: it builds, its links lead somewhere, it asks nobody for anything, it fits the screen."""

import ast
import html.parser
import importlib
import re
import runpy
import subprocess
import sys
import urllib.parse
import zlib
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demur
from tests.scaffold.chromium import Browser, opened

ROOT = Path(__file__).resolve().parents[2]
PHONE, DESK = 390, 1440
ADDRESS = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?(/[^\s<>\"]*)?$", re.IGNORECASE)

PACKAGES = [
    "demur",
    "demur.batch",
    "demur.classifiers",
    "demur.detectors",
    "demur.drift",
    "demur.evaluation.attacks",
    "demur.evaluation.corruptions",
    "demur.export",
    "demur.plots",
    "demur.report",
    "demur.serve",
    "demur.testing",
]
"""What they name in `__all__` is public."""
WHOLE = [
    "demur.errors",
    "demur.runtime",
    "demur.sklearn",
    "demur.pyod",
    "demur.mlflow",
    "demur.mlserver",
    "demur.datasets",
]
"""Modules of which every name is public that does not begin with an underscore."""
UNTOLD = {"demur.__version__"}


class Page(html.parser.HTMLParser):
    """What a page refers to, what it loads, and what can be referred to in it."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.ids, self.alts = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.loaded += [given[name] for name in ("src", "srcset", "data", "poster") if given.get(name)]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        if tag == "img":
            self.alts.append(given.get("alt"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: it would leave out warnings, and strict mode counts those that are not left out.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(Browser, tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.nightly
def test_every_link_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            target = urllib.parse.urlsplit(link)
            if target.scheme in ("http", "https"):
                broken += [] if ADDRESS.match(link) else [(path.name, link)]
                continue
            assert target.scheme in ("", "data"), link
            there = (path.parent / urllib.parse.unquote(target.path)).resolve() if target.path else path
            there = there / "index.html" if there.is_dir() else there
            is_known = there.is_relative_to(site) and there.is_file()
            if is_known and target.fragment and there in pages:
                is_known = urllib.parse.unquote(target.fragment) in pages[there].ids
            broken += [] if is_known else [(path.relative_to(site).as_posix(), link)]
    assert broken == []


@pytest.mark.nightly
def test_what_a_page_loads_is_there_and_no_page_asks_another_host(site, pages):
    for path, page in pages.items():
        for source in page.loaded:
            target = urllib.parse.urlsplit(source)
            assert target.scheme in ("", "data"), (path, source)
            assert target.netloc == "", (path, source)
            assert target.scheme or (path.parent / urllib.parse.unquote(target.path)).is_file(), (path, source)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.nightly
def test_every_picture_says_what_is_to_be_seen(pages):
    for path, page in pages.items():
        assert all(page.alts), path


def tree_of(module):
    """A module that perhaps cannot be imported here."""
    return ast.parse((ROOT / "src" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def public_names():
    for name in PACKAGES:
        yield from (f"{name}.{one}" for one in importlib.import_module(name).__all__)
    for name in WHOLE:
        definitions = [node for node in tree_of(name).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        yield from (f"{name}.{node.name}" for node in definitions if not node.name.startswith("_"))


@pytest.mark.nightly
def test_every_public_name_is_on_a_page(site):
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    told = {entry.split()[0] for entry in entries}
    assert set(public_names()) - told - UNTOLD == set()


def public_classes():
    """Names of classes that one makes oneself, and their docstrings."""
    for name in PACKAGES:
        package = importlib.import_module(name)
        for title in package.__all__:
            found = getattr(package, title)
            is_result = hasattr(found, "_fields") or hasattr(found, "__required_keys__") or is_dataclass(found)
            if isinstance(found, type) and not is_result:
                yield f"{name}.{title}", found.__doc__ or ""
    for name in WHOLE:
        for node in tree_of(name).body:
            bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
            if isinstance(node, ast.ClassDef) and "NamedTuple" not in bases and not node.name.startswith("_"):
                yield f"{name}.{node.name}", ast.get_docstring(node) or ""


def test_every_public_class_that_one_makes_has_an_example():
    docstrings = dict(public_classes())
    one_of_many = ("demur.errors.", "demur.evaluation.attacks.")  # their base has the example
    without = [name for name, text in docstrings.items() if ">>>" not in text and not name.startswith(one_of_many)]
    assert without == []
    for name in ("demur.errors.DemurError", "demur.evaluation.attacks.Attack"):
        assert ">>>" in docstrings[name]


def test_examples_are_headed_so_that_the_site_shows_them_as_code():
    wrong = [
        file.name for file in (ROOT / "src").rglob("*.py") if re.search(r"^\s*Example:$", file.read_text("utf-8"), re.M)
    ]
    assert wrong == []


SHOWN = ["index", "which_detector", "reading_a_report", "results/detectors", "api/detectors", "api/command_line"]


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_fits_and_complains_of_nothing(site, browser, width, scheme):
    for name in SHOWN:
        address = (site / f"{name}.html").as_uri()
        browser.open(address, width=width, scheme=scheme)
        assert browser.complaints() == [], name
        assert all(url.startswith("file:") for url in browser.requests()), browser.requests()
        assert browser.value("document.documentElement.scrollWidth") <= width, name
        assert browser.value("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
        assert browser.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)"), name


def pictures(browser, expression):
    """What an expression gives of each picture that is shown, by the name of its file."""
    shown = "[...document.querySelectorAll('a.picture img')].filter(one => one.offsetParent)"
    return browser.value(f"Object.fromEntries({shown}.map(one => [one.src.split('/').pop(), {expression}]))")


WITH_PICTURES = sorted(
    page.relative_to(ROOT / "docs").with_suffix("").as_posix()
    for page in (ROOT / "docs").rglob("*.md")
    if "](images/" in page.read_text(encoding="utf-8") or "](../images/" in page.read_text(encoding="utf-8")
)


@pytest.mark.nightly
def test_pictures_can_be_read_on_a_telephone_and_photographs_are_no_negatives_in_the_dark(site, browser):
    hooks = runpy.run_path(str(ROOT / "docs/site/hooks.py"))
    small, wrong = {}, {}
    for name in WITH_PICTURES:
        browser.open((site / f"{name}.html").as_uri(), width=PHONE, scheme="dark")
        small |= {
            one: share for one, share in pictures(browser, "one.clientWidth / one.naturalWidth").items() if share < 0.39
        }
        for one, style in pictures(browser, "getComputedStyle(one).filter").items():
            if ("invert" in style) != one.startswith(hooks["CHARTS"]):
                wrong[one] = style
    assert small == {}
    assert wrong == {}


def test_what_the_dark_turns_round_is_a_drawing_on_white():
    charts = runpy.run_path(str(ROOT / "docs/site/hooks.py"))["CHARTS"]
    files = [file for file in (ROOT / "docs/images").glob("*.png") if file.name.startswith(charts)]
    assert len(files) > 15
    for file in files:
        greys = np.asarray(Image.open(file).convert("L"))
        assert (greys > 240).mean() > 0.6, (
            f"{file.name} is not black on white: take it out of CHARTS in docs/site/hooks.py"
        )


@pytest.mark.nightly
def test_the_version_stands_at_the_head_of_each_page(site, browser):
    for name in ("index", "maths"):
        browser.open((site / f"{name}.html").as_uri(), width=PHONE, scheme="light")
        assert demur.__version__ in browser.value("document.querySelector('.md-header').innerText")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("alarms.html#webhooks", "runbook.html#webhooks"),
        ("memory.html", "results/speed.html#memory"),
        ("api/errors.html#demur.errors.NotFitted", "api/index.html#demur.errors.NotFitted"),
    ],
)
def test_the_address_of_a_former_page_leads_on(site, browser, former, now):
    browser.open(
        (site / former.partition("#")[0]).as_uri() + "".join(former.partition("#")[1:]), width=DESK, scheme="light"
    )
    for _ in range(100):
        there = browser.value("location.href")
        if there.endswith(now):
            break
        browser.value("new Promise(done => setTimeout(done, 50))")
    assert there == f"{site.as_uri()}/{now}"


@pytest.mark.nightly
def test_a_search_finds_a_name_without_a_server(site, browser):
    browser.open((site / "index.html").as_uri() + "?q=infer_threshold", width=DESK, scheme="light")
    for _ in range(100):
        found = browser.value("[...document.querySelectorAll('.md-search-result__link')].map(one => one.href)")
        if found:
            break
        browser.value("new Promise(done => setTimeout(done, 50))")
    assert any("api/detectors.html" in link for link in found)
