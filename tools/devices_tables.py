"""The table of what `benchmarks/several_devices.py` has measured."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "docs/results" / "several-devices.json"
BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
COLUMNS = {
    "difference in the first epoch": "two devices, first epoch",
    "difference": "two devices",
    "difference of moved weights": "one, weights moved",
}

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def differences() -> Table:
    """The largest difference of each fit's losses from those of one device, by backend."""
    rows = []
    for backend, fits in json.loads(RESULTS.read_text(encoding="utf-8"))["backends"].items():
        rows.append([f"**{BACKENDS[backend]}**", *["" for _ in COLUMNS]])
        rows += [[f"`{name}`", *(f"{fit[key]:.1e}" for key in COLUMNS)] for name, fit in fits.items()]
    return ["", *COLUMNS.values()], rows
