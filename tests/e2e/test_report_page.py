"""A report in a real browser: Chromium opens the file, and says what it asked for and how wide it came out."""

import dataclasses

import pytest

from demur.report import write_report
from tests.scaffold.chromium import Browser, opened
from tests.scaffold.evaluation_example import example

pytestmark = pytest.mark.nightly

PHONE, DESK = 360, 1280
HOSTILE = "<script>document.title = 'taken'</script><img src='http://example.invalid/x.png'> $x_1$ & \"q\""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with opened(Browser, tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with as many scores to compare as an evaluation has by default."""
    whole, names = example(), ("maximum probability", "untrained companion", "reconstruction error")
    threats = [
        dataclasses.replace(t, detection=t.detection | dict.fromkeys(names, t.detection["entropy"]))
        for t in whole.threats
    ]
    return write_report(dataclasses.replace(whole, threats=threats), tmp_path_factory.mktemp("report") / "report.html")


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
    browser.open(page.as_uri(), width=width, scheme=scheme)
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.title") != "taken"
    assert browser.value("[...document.images].every(one => one.complete && one.naturalWidth > 0)")


@pytest.mark.parametrize("width", [PHONE, 800, DESK])
def test_tables_fit_without_scrolling_and_show_every_cell(browser, report, width):
    browser.open(report.as_uri(), width=width, scheme="light")
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.value("[...document.querySelectorAll('.scroll')].every(one => one.scrollWidth <= one.clientWidth)")
    cells = "[...document.querySelectorAll('.stack td')].filter(one => one.textContent)"
    assert browser.value(f"{cells}.every(one => one.checkVisibility())")
    # No cell runs into the next one of its row.
    inside = "one.getBoundingClientRect().right <= one.closest('table').getBoundingClientRect().right + 1"
    assert browser.value(f"{cells}.every(one => {inside} && one.scrollWidth <= one.clientWidth + 1)")


def test_a_narrow_table_says_in_each_cell_which_column_it_is_of(browser, report):
    browser.open(report.as_uri(), width=PHONE, scheme="light")
    labels = browser.value(
        "[...document.querySelectorAll('.wide tbody tr:not(.group, .attack) td:not(:empty)')]"
        ".map(one => getComputedStyle(one, '::before').content)"
    )
    assert '"AUROC"' in labels
    assert "none" not in labels


def test_images_of_the_gallery_stand_in_even_rows(browser, report):
    for width in (PHONE, DESK):
        browser.open(report.as_uri(), width=width, scheme="light")
        rows = browser.value(
            "[...document.querySelectorAll('.card')].map(card => ['img', 'figcaption b'].map(part => "
            "[...new Set([...card.querySelectorAll(part)].map(one => one.getBoundingClientRect().top))].length))"
        )
        assert rows
        assert all(row == [1, 1] for row in rows)


def test_ink_and_page_change_places_in_the_dark(browser, report):
    brightness = "getComputedStyle({}).{}.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    found = {}
    for scheme in ("light", "dark"):
        browser.open(report.as_uri(), width=DESK, scheme=scheme)
        page = browser.value(brightness.format("document.body", "backgroundColor"))
        inks = [browser.value(brightness.format(f"document.querySelector('{one}')", "color")) for one in ("h1", "td")]
        label = browser.value(brightness.format("document.querySelector('.plots text')", "fill"))
        found[scheme] = [ink - page for ink in (*inks, label)]
    assert max(found["light"]) < -400
    assert min(found["dark"]) > 400


def test_a_failed_check_is_red_and_on_the_first_screen(browser, report):
    browser.open(report.as_uri(), width=DESK, scheme="light")
    assert browser.value("document.querySelector('[role=alert]').getBoundingClientRect().bottom") < 800
    red, green, blue = browser.value(
        "getComputedStyle(document.querySelector('[role=alert] strong')).color.match(/\\d+/g).map(Number)"
    )
    assert red > 2 * max(green, blue)


def test_ids_are_the_only_ones_and_every_reference_is_kept(browser, report):
    browser.open(report.as_uri(), width=DESK, scheme="light")
    ids = browser.value("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    used = browser.value(
        "[...document.querySelectorAll('*')].flatMap(one => [...one.attributes])"
        ".filter(one => ['href', 'xlink:href', 'clip-path', 'aria-labelledby'].includes(one.name))"
        ".map(one => one.value.replace(/^url\\(|\\)$/g, '').replace(/^#/, ''))"
    )
    assert {one for one in used if not one.startswith("data:")} <= set(ids)


def test_it_prints_in_full_and_on_paper_of_its_width(browser, report):
    browser.open(report.as_uri(), width=DESK, scheme="dark")
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
