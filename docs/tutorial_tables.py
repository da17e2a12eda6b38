"""What the tutorials show of committed results: what their code printed, and what two libraries did."""

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


PAGES = {
    "keras_images": "threat",
    "torch_images": "threat",
    "tabular": "change",
    "text": "change",
    "harmful_drift": "severity",
    "endpoint": "threat",
}
"""The pages, and a word of what their block prints that is shown."""


def printed(page: str, word: str = "") -> str:
    """What a tutorial's code printed, from the block on that first printed the word: after the epochs of training."""
    found = _read(f"tutorial-{page}")["printed"]
    first = next(i for i, text in enumerate(found) if (word or PAGES[page]) in text)
    shown = found[first : first + 1] if page == "endpoint" else found[first:]
    return block("\n".join(text.strip("\n") for text in shown if text.strip()).splitlines())


def answer() -> str:
    """What the server of the endpoint's tutorial answered."""
    found = _read("tutorial-endpoint")["answer"]
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
