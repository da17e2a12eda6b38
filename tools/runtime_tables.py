"""The tables of what `benchmarks/runtime.py` and `benchmarks/precision.py` have measured: exported guards."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def results(name: str) -> Any:
    """What a script has measured."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def runtime() -> Table:
    """Exported guards against live detectors and against the networks alone."""
    rows = []
    for network, kinds in results("runtime")["networks"].items():
        rows.append([f"**{network}**", *[""] * 5])
        for kind, measured in kinds.items():
            for what, found in measured.items():
                live, file, bare = (found[name] for name in ("live detector", "exported guard", "networks"))
                rows.append(
                    [
                        f"`{kind}`, {what}",
                        *(f"{value:.2f} ms" for value in (live, file, bare)),
                        f"{found['of the live detector']:.2f}x",
                        f"{found['of the networks']:.2f}x",
                    ]
                )
    return ["", "live", "exported", "networks", "exported / live", "exported / networks"], rows


def precision() -> Table:
    """What less precision costs."""
    rows = []
    for title, kinds in results("precision")["guards"].items():
        for kind, measured in kinds.items():
            rows.append([f"**{title}, `{kind}`**", *[""] * 4])
            for name, found in measured.items():
                agreement = f"{100 * found['agreement']:.2f} %" if "agreement" in found else ""
                size, time = f"{found['bytes'] / 1e6:.2f} MB", f"{found['ms of 256 rows']:.0f} ms"
                rows.append([name, size, f"{found['auroc']:.4f}", agreement, time])
    return ["", "size", "AUROC", "agreement", "256 rows"], rows
