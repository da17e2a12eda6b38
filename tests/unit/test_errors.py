"""The error tree is whole: drawn as it is, caught as builtins are, and used."""

import inspect
import re
from pathlib import Path

import pytest

from demur import errors
from demur.errors import DemurError, MissingExtra

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, DemurError)]
DERIVED = [error for error in CLASSES if error is not DemurError]
SOURCE = {path: path.read_text(encoding="utf-8") for path in Path(errors.__file__).parent.rglob("*.py")}


@pytest.mark.parametrize("error", DERIVED, ids=lambda error: error.__name__)
def test_each_error_is_also_the_builtin_it_is_drawn_as(error):
    (builtin,) = re.findall(rf"── {error.__name__} +\((\w+)\)", errors.__doc__)
    assert issubclass(
        error, __builtins__[builtin] if isinstance(__builtins__, dict) else getattr(__builtins__, builtin)
    )


@pytest.mark.parametrize("error", DERIVED, ids=lambda error: error.__name__)
def test_each_error_is_raised_somewhere(error):
    raised = re.compile(rf"raise {error.__name__}\(|with reading\(.*\b{error.__name__}\)")
    assert any(raised.search(text) for text in SOURCE.values())


def test_nothing_is_drawn_that_is_not_there():
    assert set(re.findall(r"── (\w+) ", errors.__doc__)) == {error.__name__ for error in DERIVED}


def test_a_missing_extra_says_what_to_install():
    assert str(MissingExtra("foolbox", "attacks")).endswith("pip install 'demur[attacks]'")


def test_no_assert_guards_the_input_of_a_user():
    library = {path: text for path, text in SOURCE.items() if "testing" not in path.parts}
    assert [str(path) for path, text in library.items() if re.search(r"^\s*assert ", text, re.MULTILINE)] == []
