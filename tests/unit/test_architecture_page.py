"""docs/architecture.md says where things are, and they are there."""

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_what_the_pages_link_to_is_there():
    for page in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\((\.\./[^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_each_class_of_a_detector_is_in_its_file():
    rows = re.findall(r"^\| `(\w+)` \| \[[^]]+\]\(\.\./([^)]+)\)", PAGE, re.MULTILINE)
    assert [name for name, _ in rows] == ["Guard", "Pair", "LiveGuard", "Learner", "Detector"]
    for name, file in rows:
        assert f"class {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_functions_of_the_journeys_are_in_the_files_that_are_named():
    told = re.findall(r"`(?:\w+\.)?(\w+)`\s\(\[[^]]+\]\(\.\./(src[^)]+\.py)\)", PAGE)
    assert len(told) > 6
    for name, file in told:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *((def|class) {name}\b|{name}(:| =))", text, re.MULTILINE), f"{name}: {file}"


def test_the_picture_has_the_layers_that_are_checked():
    picture = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)[1]
    drawn = [re.findall(r"(\w+)(?:/|\.py)", line) for line in picture.splitlines()]
    order = {name: number for number, names in enumerate(drawn) for name in names}
    layers = re.search(r"layers = \[(.*?)\n\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)[1]
    levels = [[name.split(".")[-1] for name in re.findall(r"demur\.\w+", line)] for line in layers.splitlines()]
    found = [{order[name] for name in level if name in order} for level in levels]
    assert sum(map(len, found)) > 12
    for above, below in itertools.pairwise(found):
        assert not (above and below) or max(above) <= min(below)
    packages = {path.parent.name for path in (ROOT / "src" / "demur").glob("*/__init__.py")}
    assert packages <= set(order), packages - set(order)
