"""What functions and classes of demur can be told, read from their source: importing them would import Keras."""

import ast
import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
SOURCES = {
    "Settings": ("serve/settings.py", "Settings"),
    "detector": ("detectors/model_distillation.py", "ModelDistillation"),
    "fit": ("network/fit.py", "Learner.fit"),
    "infer_threshold": ("detectors/base.py", "Detector.infer_threshold"),
    "export": ("detectors/base.py", "Detector.export"),
    "calibrate_accuracy": ("drift/accuracy.py", "calibrate_accuracy"),
    "test": ("drift/batch.py", "test"),
    "Monitor": ("drift/monitor.py", "Monitor"),
    "score": ("batch/job.py", "score"),
    "evaluate": ("evaluation/run.py", "evaluate"),
    "demo": ("demo.py", "main"),
}
"""What options set: files of the package, and the functions, methods and classes in them."""


class Parameter(NamedTuple):
    """A parameter of a function, or a field of a class: its annotation, its default, and a sentence of the docstring.

    The default is None where there is none, or where it is not written as a literal.
    """

    kind: str
    default: Any
    text: str


@functools.cache
def parameters(source: str) -> dict[str, Parameter]:
    """The parameters of a function, or of a class: those of `__init__`, or else the fields; `source` is in SOURCES."""
    path, place = SOURCES[source]
    node: Any = _parsed(path)
    assigned = [one for one in node.body if isinstance(one, ast.Assign)]
    aliases = {ast.unparse(one.targets[0]): one.value for one in assigned}
    for name in place.split("."):
        node = _inside(node, name)
    texts = _texts(ast.get_docstring(node, clean=False) or "")
    if isinstance(node, ast.ClassDef):
        node = _inside(node, "__init__")
    found: list[tuple[Any, Any, Any]]
    if isinstance(node, ast.ClassDef):
        fields: list[Any] = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        found = [(one.target.id, one.annotation, one.value) for one in fields]
    else:
        names = [*node.args.args, *node.args.kwonlyargs]
        defaults = [*node.args.defaults, *node.args.kw_defaults]
        defaults = [None] * (len(names) - len(defaults)) + defaults
        found = [(one.arg, one.annotation, value) for one, value in zip(names, defaults, strict=True)]
    kinds = {name: "" if kind is None else ast.unparse(kind) for name, kind, _ in found}
    kinds = {name: ast.unparse(aliases[kind]) if kind in aliases else kind for name, kind in kinds.items()}
    return {name: Parameter(kinds[name], _value(default), texts.get(name, "")) for name, _, default in found}


@functools.cache
def _parsed(path: str) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def _inside(node: Any, name: str) -> Any:
    """The function or the class of a name in a module or a class; of a class without `__init__`, the class."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    found = [one for one in node.body if isinstance(one, kinds) and one.name == name]
    return found[0] if found or name != "__init__" else node


def _value(default: Any) -> Any:
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:  # a call or a name, which only running the code would tell
        return None


def _texts(docstring: str) -> dict[str, str]:
    """The first sentence on each parameter, without backticks."""
    section = re.search(r"^( *)(?:Args|Attributes):\n((?:\1 +.*\n|\n)*)", docstring, re.MULTILINE)
    if section is None:
        return {}
    _, *parts = re.split(rf"^{section[1]}    (\w+): ", section[2], flags=re.MULTILINE)
    whole = {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return {name: re.split(r"\.(?= |$)", text)[0].replace("`", "") for name, text in whole.items()}
