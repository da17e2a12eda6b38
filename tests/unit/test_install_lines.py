"""What pages and errors say to install can be installed: the extras exist, and bring what is imported."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALLED = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}
"""Distributions by a module that is called otherwise."""


def brought(extras):
    """The distributions that extras bring, and those that demur always has."""
    found, left = {name_of(one) for one in PROJECT["dependencies"]} | {"demur"}, list(extras)
    while left:
        for requirement in EXTRAS[left.pop()]:
            ours = re.fullmatch(r"demur\[(.*)\]", requirement)
            left += ours[1].split(",") if ours else []
            found |= set() if ours else {name_of(requirement)}
    return found


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0]


def named(text):
    """The extras in `'.[a,b]'` and `demur[a]`, each list of them."""
    return [found.split(",") for found in re.findall(r"(?<![\w\]])(?:\.|demur)\[([\w,-]+)\]", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_extras_that_there_are_of_a_clone(page):
    text = page.read_text(encoding="utf-8")
    assert {extra for extras in named(text) for extra in extras} <= set(EXTRAS)
    assert "demur[" not in text  # which no index has: a clone is installed as '.[...]'
    assert all(first.startswith("'.[") for first in re.findall(r"pip install (\S+)", text))


def test_errors_name_extras_that_bring_the_package():
    found = 0
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert {extra for extras in named(text) for extra in extras if extra.isidentifier()} <= {*EXTRAS, "extra"}, file
        for call in [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]:
            if getattr(call.func, "id", getattr(call.func, "attr", "")) not in ("extra", "imported", "MissingExtra"):
                continue
            if not all(isinstance(one, ast.Constant) for one in call.args) or len(call.args) < 2:
                continue
            package, extra = (one.value for one in call.args[:2])
            package = package.partition(".")[0]  # of a module such as pyarrow.parquet
            assert name_of(package) in brought([extra]), f"{file.name}: {package!r} is not in {extra!r}"
            found += 1
    assert found > 20


PASTED = [page for page in PAGES if page.parent.name == "tutorials" or page.stem == "quickstart"]


@pytest.mark.parametrize(
    "page", [page for page in PASTED if page.stem != "from_alibi_detect"], ids=lambda page: page.stem
)
def test_what_a_page_installs_has_what_its_code_imports(page):
    text = page.read_text(encoding="utf-8")
    installed = brought([extra for line in re.findall(r"pip install .*", text) for one in named(line) for extra in one])
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            for module in {one.partition(".")[0] for one in modules} - set(sys.stdlib_module_names):
                assert CALLED.get(module, module) in installed, f"{module} is not installed by {page.name}"
