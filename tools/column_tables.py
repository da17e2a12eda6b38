"""What docs/classifiers.md shows of tables with missing values and many categories, and of texts."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def columns() -> Table:
    """Flights: what the companion costs by how columns become numbers, and what it flags."""
    shares = ("agreement", "flagged, whole rows", "flagged, rows that lack a value")
    rows = []
    for name, found in _read("columns").items():
        costs = [f"{found['width']:,}", *(f"{found[cost]:.2f}" for cost in ("time", "memory"))]
        rows.append([name, *costs, *(f"{100 * found[share]:.1f} %" for share in shares)])
    return ["columns", "numbers a row", "time of `fit`", "memory of the process", *shares], rows


def texts() -> Table:
    """Docstrings: what the student of characters says of typing errors that a classifier of words does not take."""
    rows = []
    for name, found in _read("texts").items():
        shares = [percent(found[key]) for key in ("accuracy", "opinion", "agreement", "corrected", "flagged")]
        rows.append([name, *shares, f"{found['auroc_harmful']:.3f}"])
    return ["texts", "classifier", "student", "they agree", "corrected", "flagged", "AUROC of the errors"], rows


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{100 * share:.1f} %"


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
