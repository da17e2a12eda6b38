"""What the tutorials show of committed results: what a script printed, and what two libraries did."""

import json
import re
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
sys.path.append(str(RESULTS.parents[1] / "examples"))

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


def example(name: str) -> str:
    """What an example prints of what its detectors caught."""
    from common import lines

    return block(lines(_read(f"example-{name}")))


def harmful_drift(dataset: str) -> str:
    """What the example of harmful drift prints."""
    from drift_report import lines

    return block(lines(_read(f"harmful-drift-{dataset}")))


def endpoint(part: str) -> str:
    """What a part of that tutorial printed: "guard", "answer" or "client"."""
    found = _read("tutorial-endpoint")[part]
    if isinstance(found, str):
        return block(found.rstrip().splitlines())
    lines = json.dumps({**found, "outputs": "OUTPUTS"}, indent=1).splitlines()
    outputs = [f"  {json.dumps(output)}" for output in found["outputs"]]
    return block("\n".join(lines).replace('"OUTPUTS"', "[\n" + ",\n".join(outputs) + "\n ]").splitlines(), "json")


def block(lines: list[str], language: str = "text") -> str:
    """Lines as they are."""
    return "\n".join([f"```{language}", *lines, "```"])


def seen() -> Table:
    """What alibi-detect did, and what demur does."""
    found = _read("alibi-arguments")
    version = found["versions"]["alibi-detect"]["alibi-detect"]
    rows = [
        [what, *(named(both[library]) for library in ("alibi-detect", "demur"))] for what, both in found["seen"].items()
    ]
    return ["what was tried", f"alibi-detect {version}", "demur"], rows


def named(answer: str) -> str:
    """What happened; the name of a type as such."""
    return f"`{answer}`" if re.fullmatch(r"[A-Z]\w+", answer) else answer


def same_scores() -> Table:
    """How far the scores of the two are apart on the same networks."""
    found = _read("alibi-arguments")["largest_differences_of_scores"]
    return ["64 rows, the same weights", "largest difference, nats"], [[name, f"{d:.2g}"] for name, d in found.items()]


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
