"""docs/results/numbers.md tells where every file of results and every picture is from; guides quote what they say."""

import fnmatch
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "results" / "numbers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import research_tables
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return research_tables


def test_every_file_of_results_has_one_row_and_each_row_has_files(tables):
    there = [file.relative_to(ROOT).as_posix() for file in tables.every_file()]
    rows = re.findall(r"^\| `((?:docs|benchmarks)/results/[^`]+)` \|", PAGE, re.MULTILINE)
    assert len(there) > 40
    hint = "add the file to SOURCES in tools/research_tables.py, and run python tools/tables.py"
    assert sorted(rows) == sorted(source.files for source in tables.SOURCES), hint
    fitting = {name: [row for row in rows if fnmatch.fnmatch(name, row)] for name in there}
    assert [name for name, found in fitting.items() if len(found) != 1] == [], hint
    assert [row for row in rows if not any(row in found for found in fitting.values())] == []


def test_every_source_has_a_script_that_is_there(tables):
    for source in tables.SOURCES:
        script = re.search(r"(?:benchmarks|examples|tools)/[\w/]+\.py", source.command)
        if script and "NAME" not in script[0]:
            assert (ROOT / script[0]).is_file(), source.command
        else:
            assert source.command.startswith("make ") or "NAME" in source.command


def test_every_picture_is_named_and_made_by_a_script_that_is_there():
    section = PAGE.split("## The pictures")[1]
    rows = re.findall(r"^\| (`[^|]*\.png[^|]*`) \|.*\| `([^`]*)` \|$", section, re.MULTILINE)
    patterns = [pattern for names, _ in rows for pattern in re.findall(r"`([^`]+)`", names)]
    for picture in (ROOT / "docs" / "images").glob("*.*"):
        fitting = [pattern for pattern in patterns if fnmatch.fnmatch(picture.name, pattern)]
        assert len(fitting) == 1, f"{picture.name} is named {len(fitting)} times in docs/results/numbers.md"
    for _, command in rows:
        script = re.search(r"\S+\.py", command)
        assert command.startswith("make ") if script is None else (ROOT / script[0]).is_file(), command


def test_figures_that_a_guide_quotes_are_on_the_page_of_results_that_it_links_to():
    quoted, wrong = 0, []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = re.sub(r"```.*?```|<!-- table.*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for part in re.split(r"\n(?=\n|- |\| )", text):
            results = re.findall(r"\]\((results/\w+\.md)", part)
            said = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in results)
            figures = re.findall(r"(?<![\w.=(:/])\d[\d,]*\.\d+(?![\w.)])", part) if results else []
            quoted += len(figures)
            wrong += [f"{page.name}: {figure}" for figure in figures if figure not in said]
    assert wrong == []
    assert quoted > 20
