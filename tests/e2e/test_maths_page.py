"""What docs/maths.md computes comes out as it says, and the files and functions that it names are there."""

import re
from pathlib import Path

import numpy as np
import pytest
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


@pytest.mark.parametrize(
    "page", ["maths.md", "threat_models.md", "extending.md", "numbers.md", "alarms.md", "runbook.md"]
)
def test_what_the_page_links_to_is_there(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text)
    assert targets
    for target, anchor in targets:
        file = (DOCS / target).resolve() if target else DOCS / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{target}#{anchor}"


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
