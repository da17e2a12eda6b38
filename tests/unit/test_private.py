"""Names that are not public, of packages that demur builds on, stand in one file."""

import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src/demur"
PRIVATE = re.compile(
    r"\b(?:keras|tensorflow|jax|torch)\.(?:src|python|_[a-z]\w*)\b"
    r"|\._(?:flatten_layers|keras_history|inbound_nodes|functional|nodes_by_depth|available)\b"
)


def test_private_names_of_other_packages_stand_in_one_file():
    files = {path.relative_to(SOURCES).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")}
    assert len(files) > 200
    assert [name for name, text in files.items() if PRIVATE.search(text)] == ["private.py"]


def test_they_are_found():
    assert all(map(PRIVATE.search, ["keras.src.utils", "layer._flatten_layers()", "tensorflow.python.eager"]))
    assert not any(map(PRIVATE.search, ["self._layers", "keras.layers", "torch.nn"]))
