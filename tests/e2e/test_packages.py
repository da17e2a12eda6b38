"""What docs/extending.md says of packages: their parts of every kind are found, and nothing is imported by hand."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## In a package of your own\n")[2].partition("\n## ")[0]
GROUPS = re.findall(r"^\| `(demur\.\w+)` \|", SECTION, re.MULTILINE)

PARTS = {
    "demur.detectors": """
from demur.detectors import ModelDistillation

class Committee(ModelDistillation):
    pass
""",
    "demur.classifiers": """
from demur.classifiers import BlackBoxClassifier, register

@register
class LookupClassifier(BlackBoxClassifier):
    @classmethod
    def accepts(cls, model):
        return isinstance(model, dict)

    def ask(self, rows):
        return self.model
""",
    "demur.classifier_files": """
from demur.classifiers.files import FORMATS, Format

FORMATS[".cbm"] = Format("CatBoost", lambda path, asked: ("read", path.name))
""",
    "demur.attacks": """
from demur.evaluation.attacks import Attack

class Guessing(Attack):
    name, knowledge, model, passes = "guessing", "black-box", "asks the classifier", 1

    def run(self, target, x, y, *, seed=0):
        raise NotImplementedError
""",
    "demur.baselines": """
from demur.evaluation.baselines import Baseline

class Margin(Baseline):
    name = "margin"

    def score(self, X, outputs):
        raise NotImplementedError
""",
    "demur.corruptions": """
from demur.evaluation.corruptions.images import corruption

@corruption("dead rows", (1, 2, 3, 4, 5))
def dead_rows(x, level, draws):
    return 0 * x
""",
    "demur.table_corruptions": """
from demur.evaluation.corruptions.tables import NUMBERS, table_corruption

@table_corruption("dead columns", (1, 2, 3, 4, 5), NUMBERS)
def dead_columns(table, level):
    return {}
""",
    "demur.evidence": """
from demur.drift.evidence import Martingale

class Powers(Martingale):
    name = "power"
""",
    "demur.batch_formats": """
from demur.batch.formats import Format

class Csv(Format):
    suffixes = (".csv",)

    @classmethod
    def pieces(cls, store, paths, asked):
        return []
""",
}
FOUND = """
import sys, numpy as np
from pathlib import Path
from demur.classifiers import source_of
from demur.classifiers.files import load_classifier
from demur.detectors import Detector
from demur.drift.evidence import Evidence
from demur.evaluation.attacks import Attack
from demur.evaluation.baselines import Baseline
from demur.evaluation.corruptions import applies, corrupt
from demur.batch.formats import Format

Path("model.cbm").write_bytes(b"")
assert not [name for name in sys.modules if name.startswith("my_package")]
assert Detector.registry["Committee"].__module__ == "my_package.detectors"
assert {"AdversarialAE", "ModelDistillation"} < set(Detector.registry)
assert source_of({}).__name__ == "LookupClassifier"
assert load_classifier("model.cbm") == ("read", "model.cbm")
assert Attack.registry["guessing"](0.1).title == "guessing 0.1"
assert {"entropy", "margin"} < set(Baseline.registry)
assert not corrupt(np.ones((1, 8, 8, 1)), name="dead rows", severity=1).any()
assert applies("dead columns", np.ones((2, 2)))
assert set(Evidence.registry) == {"cusum", "martingale", "power", "window"}
assert {".csv", ".npy", ".parquet"} < {suffix for form in Format.registry for suffix in form.suffixes}
print("all found")
"""
CLASH = """
import sys
from demur.errors import NameTaken
from demur.{module} import {kind}
try:
    sorted({kind}{registry})
except NameTaken as error:
    print(error)
"""


def installed(site, package, parts):
    """Put a package into a folder, as pip does it."""
    name = package.replace("-", "_")
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text("")
    about = site / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "RECORD").write_text(f"{name}/__init__.py,,\n")
    lines = []
    for group, source in parts.items():
        kind = group.partition(".")[2]
        (site / name / f"{kind}.py").write_text(source)
        lines += [f"[{group}]", f"own = {name}.{kind}"]
    (about / "entry_points.txt").write_text("\n".join([*lines, ""]))


def said_by(site, code, folder, *options):
    """What code prints and what it writes to standard error, in a process that has the packages of a folder."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_page_shows_groups_that_there_are():
    assert set(PARTS) == set(GROUPS)
    (block,) = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    shown = tomllib.loads(block)["project"]["entry-points"]
    assert set(shown) < set(GROUPS)
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "demur").rglob("*.py"))
    assert set(re.findall(r'Registry\(\s*"(demur\.\w+)"', source)) == set(GROUPS)


def test_parts_of_every_kind_are_found(tmp_path):
    installed(tmp_path / "site", "my-package", PARTS)
    out, _ = said_by(tmp_path / "site", FOUND, tmp_path, "-W", "error:the entry point")
    assert out.strip() == "all found"


@pytest.mark.parametrize(
    ("group", "module", "kind", "registry", "name"),
    [
        ("demur.attacks", "evaluation.attacks", "Attack", ".registry", "'guessing'"),
        ("demur.corruptions", "evaluation.corruptions", "CORRUPTIONS", "", "'dead rows'"),
        ("demur.batch_formats", "batch.formats", "Format", ".registry", "'.csv'"),
    ],
)
def test_two_packages_with_one_name_are_an_error_that_names_both(tmp_path, group, module, kind, registry, name):
    for package in ("first", "second"):
        installed(tmp_path / "site", package, {group: PARTS[group]})
    out, _ = said_by(tmp_path / "site", CLASH.format(module=module, kind=kind, registry=registry), tmp_path)
    assert name in out
    assert "(package first)" in out
    assert "(package second)" in out


def test_a_broken_package_is_told_and_demur_works(tmp_path):
    installed(tmp_path / "site", "broken", {"demur.detectors": "import nowhere_at_all"})
    code = "from demur.detectors import Detector\nprint(sorted(Detector.registry))"
    out, err = said_by(tmp_path / "site", code, tmp_path)
    assert out.strip() == "['AdversarialAE', 'ModelDistillation']"
    assert re.search(r"UserWarning: .*\(package broken, group demur\.detectors\) cannot be loaded.*nowhere", err)
