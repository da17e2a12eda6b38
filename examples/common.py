"""What the examples share: their options, the measuring of a detector, the table and the JSON file."""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kstest

from demur.metrics import auroc, flagged_rate, split_by_harm

FPR = 0.05
CORRUPTIONS = ("gaussian noise", "impulse noise", "gaussian blur", "contrast")
COLUMNS = {
    "accuracy": "accuracy",
    "corrected": "corrected",
    "harmed": "harmed",
    "caught": "caught",
    "false_alarms": "false alarms",
    "auroc": "AUROC",
    "auroc_harmless": "from harmless",
    "batches": "batches",
}
"""What is measured, and how the tables call it; a column that no row has is left out."""

NOTES = {
    "accuracy": "of the classifier alone",
    "corrected": "accuracy with the companion's class where flagged",
    "harmed": "rows that the classifier got right before the change and gets wrong after it",
    "caught": "share of the harmed rows that are flagged",
    "false_alarms": f"share of the unchanged rows that are flagged, asked to be {100 * FPR:g} %; of changed rows,\n"
    + " " * 15
    + "of those that the classifier still gets right",
    "auroc": "of the scores of harmed rows against those of unchanged rows",
    "auroc_harmless": "the same against those of changed rows that it still gets right",
    "batches": "share of the batches whose p-values a Kolmogorov-Smirnov test rejects, at 5 %",
}


def options(about: str, *, plot: bool = False) -> argparse.Namespace:
    """The command line of every example; `plot` for one that draws, too."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="little data and short training, as the tests run it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures to this JSON file")
    if plot:
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what came out in this picture")
    return parser.parse_args()


def measure(detector: Any, X: Any, y: np.ndarray, changed: dict[str, Any], *, batch: int = 0) -> dict[str, Any]:
    """What a detector with a threshold makes of unchanged test rows and of the same rows, changed.

    Args:
        detector: fitted, with a threshold.
        X: the test rows, as the detector takes them.
        y: `(n,)`, their true classes.
        changed: what befell them, by name; each as many rows as `X`, in its order.
        batch: rows of a batch, to measure too on how many batches the p-values betray the change.
    """
    before = detector.correct(X)["data"]
    clean, rows = before["instance_score"], {"unchanged": _accuracies(before, y)}
    rows["unchanged"]["false_alarms"] = flagged_rate(clean, detector.threshold)
    if batch:
        rows["unchanged"]["batches"] = betrayed(before["p_value"], batch)
    for title, changed_rows in changed.items():
        after = detector.correct(changed_rows)["data"]
        split = split_by_harm(y, before["no_defense"], after["no_defense"])
        harmful, harmless = (after["instance_score"][part] for part in split)
        rows[title] = _accuracies(after, y) | {"harmed": len(harmful)}
        if batch:
            rows[title]["batches"] = betrayed(after["p_value"], batch)
        if len(harmless):
            rows[title]["false_alarms"] = flagged_rate(harmless, detector.threshold)
        if len(harmful):
            rows[title] |= {"caught": flagged_rate(harmful, detector.threshold), "auroc": auroc(clean, harmful)}
        if len(harmful) and len(harmless):
            rows[title]["auroc_harmless"] = auroc(harmless, harmful)
    return {"threshold": float(detector.threshold), "rows": rows}


def betrayed(p_value: np.ndarray, batch: int) -> float:
    """Share of the batches on which a Kolmogorov-Smirnov test, at 5 %, says that the p-values are not uniform."""
    found = p_value[np.random.default_rng(0).permutation(len(p_value))]
    whole = found[: len(found) // batch * batch].reshape(-1, batch)
    return float(np.mean(kstest(whole, "uniform", axis=1).pvalue < 0.05))


def report(results: dict[str, Any], packages: list[str], out: Path | None) -> None:
    """Print the table of what the detectors caught, and write the file if there shall be one."""
    columns = columns_of(results)
    print("", *lines(results), "", sep="\n")
    for key in columns:
        print(f"{COLUMNS[key]:13}  {NOTES[key]}")
    if out is not None:
        versions = {name: importlib.import_module(name).__version__ for name in ["demur", "keras", *packages]}
        titles = {key: COLUMNS[key] for key in columns}
        document = {"versions": versions, "fpr": FPR, **results, "columns": titles}
        out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def lines(results: dict[str, Any]) -> list[str]:
    """The table as it is printed."""
    columns = columns_of(results)
    table = [["test rows", *(COLUMNS[key] for key in columns)]]
    for name, found in results["detectors"].items():
        table.append([name, *[""] * len(columns)])
        table += [[f"  {title}", *(cell(key, row.get(key)) for key in columns)] for title, row in found["rows"].items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))]
        ).rstrip()
        for first, *others in table
    ]


def columns_of(results: dict[str, Any]) -> list[str]:
    """The columns that some row has."""
    rows = [row for found in results["detectors"].values() for row in found["rows"].values()]
    return [key for key in COLUMNS if any(key in row for row in rows)]


def cell(key: str, value: float | None) -> str:
    """One figure as the tables show it."""
    if value is None:
        return ""
    if key == "harmed":
        return f"{value:,}"
    return f"{value:.3f}" if key.startswith("auroc") else f"{100 * value:.1f} %"


def _accuracies(answer: Any, y: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float(np.mean(answer["no_defense"] == y)),
        "corrected": float(np.mean(answer["corrected"] == y)),
    }
