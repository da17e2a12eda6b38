"""What the site adds to its Markdown: pages for files outside docs/, the commands' help, addresses of former pages.

MkDocs calls the functions named `on_...`. Pages link to the code as files, `../benchmarks/speed.py`, which works in a
checkout; in the site such a link leads to a page with that file.
"""

import argparse
import functools
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?P<path>(?!\w+:|/|#)[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
IMAGE = re.compile(r'<img (?P<rest>[^>]*?src="(?P<source>[^":]+\.(?:png|svg))"[^>]*)>')
CHARTS = ("batch-", "false-", "harmful-", "maths-", "operate-", "threats-", "tutorial-t", "two-", "which-")
"""How the names of pictures begin that are black on white: the dark turns these round, and leaves photographs alone."""
WIDE = 920
"""Pixels from which on the letters of a picture are too small on a telephone: there it is moved about in a frame."""
HELP = re.compile(r"<!-- help of all commands -->")
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash"}
LONGEST = 200_000
"""Characters of a file that a page shows; longer ones are there to be downloaded."""
MOVED = {
    "api/attacks": "api/evaluation.html#attacks",
    "api/batch": "api/operation.html#batch",
    "api/calibration": "api/detectors.html#calibration",
    "api/classifiers": "api/detectors.html#classifiers-that-are-asked-not-computed",
    "api/drift": "api/operation.html#drift",
    "api/errors": "api/index.html#errors",
    "api/export": "api/operation.html#export",
    "api/integrations": "api/operation.html#scikit-learn",
    "api/pictures": "api/evaluation.html#reports",
    "api/serve": "api/operation.html#server",
    "api/testing": "api/extending.html#checks-for-detectors",
    "alarms": "runbook.html#what-raises-an-alarm",
    "benchmarks": "results/detectors.html",
    "devices": "batch.html#train-on-several-devices",
    "ecosystem": "deploy.html#in-scikit-learn-and-pyod",
    "examples": "results/detectors.html#examples",
    "harmful_drift": "results/drift.html#one-example",
    "memory": "results/speed.html#memory",
    "numbers": "results/numbers.html",
    "scale": "batch.html#sizing",
    "speed": "results/speed.html",
}
"""Where what a former page had is now; an anchor is kept, and where there is none, that of the new address is taken."""
STUB = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Moved</title>
<meta name="robots" content="noindex">
<p>This page is now <a href="{to}">{to}</a>.</p>
<script>location.replace("{page}" + (location.hash || "{anchor}"))</script>
</html>
"""
UNINDEXED = "---\nsearch:\n  exclude: true\nhide:\n  - navigation\n  - toc\n---\n\n"


def on_config(config: Any) -> Any:
    """Have the site be called by its version, too: it stands at the head of each page."""
    version = re.search(r'__version__ = "(.*)"', (ROOT / "src/demur/_version.py").read_text(encoding="utf-8"))
    assert version is not None
    config.site_name = f"{config.site_name} {version[1]}"
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page, or the file itself, for each file of the repository that a page links to."""
    docs = Path(config.docs_dir)
    found: dict[Path, None] = {}
    for file in list(files.documentation_pages()):
        text = (docs / file.src_uri).read_text(encoding="utf-8")
        found.update(dict.fromkeys(target for target, _ in outside(text, file.src_uri, docs)))
    for folder in [target for target in found if target.is_dir()]:
        found.update(dict.fromkeys(_members(folder)))
    for target in found:
        files.append(_page_of(target, config))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 - as MkDocs calls it
    """Have links to files of the repository lead to their pages, and put the commands' help where it is asked for."""
    if HELP.search(markdown):
        markdown = HELP.sub(lambda _: command_line(), markdown)
    uri, docs = page.file.src_uri, Path(config.docs_dir)
    for target, link in outside(markdown, uri, docs):
        there = posixpath.relpath(uri_of(target), posixpath.dirname(uri) or ".")
        markdown = re.sub(rf"(?<=\]\(){re.escape(link)}(?=[)#])", there, markdown)
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001 - as MkDocs calls it
    """Have a picture open when it is clicked, say what kind it is, and take the one for the dark where there is one."""
    folder = (Path(config.docs_dir) / page.file.src_uri).parent

    def picture(match: re.Match[str]) -> str:
        source = match["source"]
        kinds = ["chart"] if Path(source).name.startswith(CHARTS) else []
        kinds += ["wide"] if source.endswith(".png") and width_of(folder / source) > WIDE else []
        image = f'<img class="{" ".join(kinds)}" {match["rest"]}>'
        links = {source: image}
        dark = str(Path(source).with_name(f"{Path(source).stem}-dark{Path(source).suffix}"))
        if (folder / dark).is_file():
            links = {
                source: image.replace(source, f"{source}#only-light"),
                dark: image.replace(source, f"{dark}#only-dark"),
            }
        frame = " ".join(["picture", *kinds])
        return "".join(f'<a class="{frame}" href="{there}">{one}</a>' for there, one in links.items())

    return IMAGE.sub(picture, html)


def on_post_build(config: Any) -> None:
    """Have the addresses of former pages lead to where their contents are."""
    for old, new in MOVED.items():
        to = posixpath.relpath(new, posixpath.dirname(old) or ".")
        page, hash_, anchor = to.partition("#")
        stub = Path(config.site_dir) / f"{old}.html"
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(STUB.format(to=to, page=page, anchor=hash_ + anchor), encoding="utf-8")


def width_of(picture: Path) -> int:
    """Pixels; a PNG file has them at a fixed place."""
    with picture.open("rb") as file:
        return int.from_bytes(file.read(20)[16:])


def outside(text: str, uri: str, docs: Path) -> list[tuple[Path, str]]:
    """The files of the repository that are no pages, and how a page links to them."""
    found = {}
    for match in LINK.finditer(text):
        target = Path(os.path.normpath((docs / uri).parent / match["path"]))
        is_ours = target.is_relative_to(ROOT) and target.exists()
        if is_ours and (target.suffix == ".py" or not target.is_relative_to(docs)):
            found[match["path"]] = target
    return [(target, link) for link, target in found.items()]


def uri_of(target: Path) -> str:
    """Where the site has a file of the repository."""
    name = f"source/{target.relative_to(ROOT).as_posix()}"
    if target.is_dir():
        return f"{name}/index.md"
    return name if _is_download(target) else f"{name}.md"


def _is_download(target: Path) -> bool:
    return target.suffix == ".json" or target.stat().st_size > LONGEST


def _members(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.py") if file.stat().st_size)


def _page_of(target: Path, config: Any) -> File:
    if target.is_dir():
        lines = "".join(f"- [{one.name}]({one.name}.md)\n" for one in _members(target))
        title = f"# `{target.relative_to(ROOT).as_posix()}`\n\n"
        return File.generated(config, uri_of(target), content=UNINDEXED + title + lines)
    if _is_download(target):
        return File.generated(config, uri_of(target), abs_src_path=str(target))
    text = target.read_text(encoding="utf-8")
    if target.suffix != ".md":
        fence = "`" * (3 + max((len(ticks) for ticks in re.findall("`{3,}", text)), default=0))
        language = LANGUAGES.get(target.suffix, "dockerfile" if target.name == "Dockerfile" else "text")
        text = f"# `{target.relative_to(ROOT).as_posix()}`\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
    return File.generated(config, uri_of(target), content=UNINDEXED + text)


@functools.cache
def command_line() -> str:
    """The help of every command, in sections."""
    sys.path.insert(0, str(ROOT / "src"))
    # argparse breaks lines as the terminal is wide; a page has no terminal.
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="88", NO_COLOR="1")
    try:
        from demur.cli import build_parser

        parser = build_parser()
        commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
        parts = [f"## demur\n\n```text\n{parser.format_help().rstrip()}\n```"]
        parts += [f"## demur {name}\n\n```text\n{one.format_help().rstrip()}\n```" for name, one in commands.items()]
    finally:
        sys.path.pop(0)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return "\n\n".join(parts)
