"""Parts of other packages are found through entry points; two of one name are an error, a broken one a warning."""

import importlib
import subprocess
import sys
import warnings

import cloudpickle
import pytest

from demur.errors import NameTaken
from demur.evaluation.corruptions import CORRUPTIONS
from demur.extensions import OrderedRegistry, Registry

SHAPE = """
from demur_test_shapes import Shape


class {class_name}(Shape):
    name = {name!r}
"""
HOME = """
from collections.abc import MutableMapping
from demur.extensions import Registry


class Shape:
    registry = Registry("demur_test.shapes", {home!r})

    def __init_subclass__(cls):
        Shape.registry[cls.name] = cls
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages put into a folder of `sys.path`, as pip does it."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def install(package, modules, entry_points, group="demur_test.shapes"):
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        about = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "RECORD").write_text("".join(f"{name}.py,,\n" for name in modules))
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        importlib.invalidate_caches()

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("demur_test"):
            del sys.modules[name]


@pytest.fixture
def shapes(installed, tmp_path):
    """A kind of part, with none of its own."""
    (tmp_path / "demur_test_shapes.py").write_text(HOME.format(home=None))
    importlib.invalidate_caches()
    return importlib.import_module("demur_test_shapes").Shape


def shape(name, class_name="Own"):
    return SHAPE.format(name=name, class_name=class_name)


def test_a_part_of_a_package_is_found_when_it_is_asked_for(installed, shapes):
    installed("round", {"demur_test_round": shape("circle")}, {"circle": "demur_test_round"})
    assert "demur_test_round" not in sys.modules
    assert list(shapes.registry) == ["circle"]
    assert shapes.registry["circle"].__module__ == "demur_test_round"


def test_an_entry_point_may_name_the_class(installed, shapes):
    installed("round", {"demur_test_round": shape("circle")}, {"circle": "demur_test_round:Own"})
    assert "circle" in shapes.registry


def test_a_part_that_was_imported_by_hand_is_the_same(installed, shapes):
    installed("round", {"demur_test_round": shape("circle")}, {"circle": "demur_test_round"})
    own = importlib.import_module("demur_test_round").Own
    assert dict(shapes.registry) == {"circle": own}


def test_a_module_may_use_the_registry_while_it_is_loaded(installed, shapes):
    uses = shape("circle") + "\nfound = list(Shape.registry)\n"
    installed("round", {"demur_test_round": uses}, {"circle": "demur_test_round"})
    assert list(shapes.registry) == ["circle"]
    assert sys.modules["demur_test_round"].found == ["circle"]


def test_two_packages_with_one_name_are_an_error_that_names_both(installed, shapes):
    for package in ("round", "sharp"):
        installed(package, {f"demur_test_{package}": shape("circle")}, {"circle": f"demur_test_{package}"})
    says = (
        r"'circle' in the group demur_test\.shapes .* demur_test_round\.Own \(package round\), "
        r".* demur_test_sharp\.Own \(package sharp\) .* rename one of them"
    )
    for _ in range(2):  # it is told each time, and not the first time alone
        with pytest.raises(NameTaken, match=says):
            list(shapes.registry)


def test_two_classes_of_one_module_with_one_name_are_an_error(installed, shapes):
    class Circle(shapes):
        name = "circle"

    with pytest.raises(NameTaken, match=r"Circle( .package .*)?, and .*Ring( .package .*)? has it too"):

        class Ring(shapes):
            name = "circle"


def test_a_cell_run_twice_replaces_its_class(shapes):
    cell = 'class Circle(Shape):\n    name = "circle"\n'
    names = {"Shape": shapes, "__name__": "__main__"}
    exec(cell, names)
    first = names["Circle"]
    exec(cell, names)
    assert shapes.registry["circle"] is names["Circle"] is not first


def test_a_script_that_is_imported_as_well_is_one_file(installed, shapes, tmp_path, monkeypatch):
    (tmp_path / "demur_test_script.py").write_text(shape("circle"))
    importlib.invalidate_caches()
    module = importlib.import_module("demur_test_script")
    monkeypatch.setitem(sys.modules, "demur_test_main", module)
    names = {"__name__": "demur_test_main"}
    exec(shape("circle"), names)
    assert shapes.registry["circle"] is names["Own"]


def test_a_package_that_cannot_be_imported_is_told_and_passed_over(installed, shapes):
    installed("broken", {"demur_test_broken": "import nowhere_at_all"}, {"bad": "demur_test_broken"})
    installed("lacking", {"demur_test_lacking": ""}, {"bad": "demur_test_lacking:Square"})
    installed("round", {"demur_test_round": shape("circle")}, {"circle": "demur_test_round"})
    with pytest.warns(UserWarning, match="cannot be loaded") as told:
        assert list(shapes.registry) == ["circle"]
    said = sorted(str(warning.message) for warning in told)
    assert len(said) == 2
    assert "package broken, group demur_test.shapes" in said[0]
    assert "ModuleNotFoundError: No module named 'nowhere_at_all'" in said[0]
    assert "package lacking" in said[1]
    assert all(warning.filename == __file__ for warning in told)  # the line that asked
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(shapes.registry) == ["circle"]  # told once


def test_own_modules_are_found_without_an_import_line(installed, tmp_path):
    package = tmp_path / "demur_test_home"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "circle.py").write_text(shape("circle"))
    (tmp_path / "demur_test_shapes.py").write_text(HOME.format(home="demur_test_home"))
    importlib.invalidate_caches()
    registry = importlib.import_module("demur_test_shapes").Shape.registry
    assert "demur_test_home.circle" not in sys.modules
    assert list(registry) == ["circle"]


def test_a_name_of_demurs_own_is_taken_even_before_it_was_asked_for(installed, tmp_path):
    package = tmp_path / "demur_test_home"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "circle.py").write_text(shape("circle"))
    (tmp_path / "demur_test_shapes.py").write_text(HOME.format(home="demur_test_home"))
    importlib.invalidate_caches()
    kind = importlib.import_module("demur_test_shapes").Shape
    with pytest.raises(NameTaken, match=r"demur_test_home\.circle\.Own"):

        class Circle(kind):
            name = "circle"


def test_a_registry_is_cleared_and_filled_again_as_a_dict(shapes):
    class Circle(shapes):
        name = "circle"

    before = dict(shapes.registry)
    shapes.registry.clear()
    assert not shapes.registry
    shapes.registry.update(before)
    assert shapes.registry == {"circle": Circle}
    del shapes.registry["circle"]
    assert "circle" not in shapes.registry


def known(monkeypatch, *names):
    """Parts that count as demur's own."""
    made = [type(name, (), {}) for name in names]
    monkeypatch.setattr(OrderedRegistry, "is_own", lambda self, part: part in made)
    return made


def ordered(parts):
    return OrderedRegistry("demur_test.ordered", names=lambda part: (part.__name__,), known=parts)


def test_what_the_caller_puts_first_comes_before_what_packages_put_first(installed, monkeypatch, shapes):
    first, last = known(monkeypatch, "First", "Last")
    shapes.ordered = ordered([first, last])
    source = "from demur_test_shapes import Shape\n\n\nclass Found:\n    pass\n\n\nShape.ordered.insert(0, Found)\n"
    installed("round", {"demur_test_round": source}, {"found": "demur_test_round"}, group="demur_test.ordered")

    class Asked:
        pass

    shapes.ordered.insert(0, Asked)
    assert [part.__name__ for part in shapes.ordered] == ["Asked", "Found", "First", "Last"]


def test_an_ordered_part_defined_again_goes_where_it_is_put_now():
    registry = ordered([])
    for name in ("A", "B", "A"):
        part = type(name, (), {"__module__": "notebook"})
        registry.insert(0, part)
    assert [part.__name__ for part in registry] == ["A", "B"]
    assert registry[0] is part
    with pytest.raises(NameTaken, match=r"'A' in the group demur_test\.ordered .* notebook\.A, and elsewhere\.A"):
        registry.append(type("A", (), {"__module__": "elsewhere"}))
    assert len(registry) == 2


def test_a_record_is_told_by_the_function_in_it():
    registry = Registry("demur_test.records", definition=lambda record: record["change"])

    def change(x):
        return x

    registry["dead rows"] = {"change": change, "level": 1}
    registry["dead rows"] = {"change": change, "level": 2}
    assert registry["dead rows"]["level"] == 2
    with pytest.raises(
        NameTaken, match=r"'dead rows' .*\.change( .package .*)?, and .*<lambda>( .package .*)? has it too"
    ):
        registry["dead rows"] = {"change": lambda x: x}


def test_a_function_that_uses_a_registry_reaches_workers():
    again = cloudpickle.loads(cloudpickle.dumps(lambda: CORRUPTIONS["fog"]))()
    assert again == CORRUPTIONS["fog"]
    assert list(cloudpickle.loads(cloudpickle.dumps(CORRUPTIONS))) == list(CORRUPTIONS)


def test_the_module_imports_neither_numpy_nor_keras():
    code = "import sys, demur.extensions; print({'numpy', 'keras'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "set()"
