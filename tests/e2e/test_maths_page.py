"""What docs/maths.md computes comes out as it says; what any page links to is there."""

import re
from pathlib import Path

import numpy as np
from scipy.stats import beta

from demur.drift.conditional import conditional_p_values

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "maths.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())


def test_the_page_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        assert "assert" in block
        exec(block, names)


def slugs(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_what_a_page_links_to_is_there():
    pages, broken = sorted(DOCS.rglob("*.md")), []
    assert DOCS / "maths.md" in pages
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text):
            file = (page.parent / target).resolve() if target else page
            is_there = file.exists()
            if anchor and is_there and file.name != "command_line.md":  # whose headings are made with the site
                is_there = anchor in slugs(file)
            broken += [] if is_there else [f"{page.name}: {target}#{anchor}"]
    assert broken == []


def test_the_smallest_p_values_are_those_on_the_page():
    (said,) = re.findall(
        r"The smallest is `b_1`: ([\d.]+) for 200 scores, ([\d.]+) for 1,000 and ([\d.]+) for 10,000", PROSE
    )
    for n, value in zip((200, 1000, 10000), said, strict=True):
        digits = len(value.split(".")[1])
        assert round(float(conditional_p_values(n, 0.005)[0]), digits) == float(value)


def test_the_spread_of_rates_is_that_on_the_page():
    low, high = beta.ppf([0.05, 0.95], 50, 1001 - 50)
    assert np.round([100 * low, 100 * high], 1).tolist() == [3.9, 6.2]
    assert "from 3.9 % to 6.2 %" in PROSE
