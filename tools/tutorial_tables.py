"""What the tutorials show of committed results: what their code printed, and what two libraries did."""

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "docs/results"

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


def first_example() -> Table:
    """What the quick start's guard catches of attacks, and the best simple score."""
    rows = [
        [
            row["threat"],
            str(row["fooled"]),
            _share(row["guard"]),
            _share(row["simple_caught"]),
            f"{row['simple']}" + (", better" if _verdict(row) == "less" else ""),
        ]
        for row in _quick_start()
        if row["knowledge"] != "corruption"
    ]
    return ["attack", "fooled", "the guard catches", "a simple score", "which"], rows


def first_example_simple() -> str:
    """What the quick start's guard leaves to simple scores, in sentences."""
    rows = {row["threat"]: row for row in _quick_start()}
    corruptions = [row for row in rows.values() if row["knowledge"] == "corruption"]
    counts = _counts(corruptions)
    near, far, large = (_two(rows[title]) for title in ("C&W", "C&W, confident", "PGD 0.2"))
    return "\n".join(
        [
            f"- Corruption: {len(corruptions)} of them, at five severities, changed {FEWEST} predictions or more. A "
            f"simple score catches more on {counts['less']}, the guard on {counts['more']}; on {counts['alike']} the "
            "intervals overlap.",
            f"- Attacks that stop at the decision boundary, such as C&W: {near}.",
            f"- The same attack, gone on until the classifier is sure of the wrong class: {far}.",
            f"- Large changes, such as PGD 0.2: {large}.",
        ]
    )


def _two(row: dict[str, Any]) -> str:
    return f"{row['simple']} catches {_percent(row['simple_caught'])}, the guard {_percent(row['guard'])}"


def first_example_others() -> Table:
    """On how many attacks by those who do not know it each guard beats the best simple score, or is beaten."""
    rows = []
    for name, found in _read("first-example")["guards"].items():
        counts = _counts([one for one in found if one["knowledge"] == "grey-box"])
        rows.append([name, *(str(counts[verdict]) for verdict in ("more", "alike", "less"))])
    return ["the guard catches", "more", "about as much", "less"], rows


FEWEST = 20
"""Rows that a threat in the first example has fooled the classifier on, at least."""


def _quick_start() -> list[dict[str, Any]]:
    return next(iter(_read("first-example")["guards"].values()))  # type: ignore[no-any-return]


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    verdicts = [_verdict(row) for row in rows]
    return {verdict: verdicts.count(verdict) for verdict in ("more", "alike", "less")}


def _verdict(row: dict[str, Any]) -> str:
    """Whether the guard catches more than the best simple score, or less, beyond the 95 % intervals of both."""
    (_, low, high), (_, other_low, other_high) = row["guard"], row["simple_caught"]
    return "more" if low > other_high else "less" if high < other_low else "alike"


def _percent(estimate: list[float]) -> str:
    return f"{100 * estimate[0]:.0f} %"


def _share(estimate: list[float]) -> str:
    """A share and its interval, in percent."""
    value, low, high = (f"{100 * part:.0f}" for part in estimate)
    return f"{value} % ({low} to {high})"


def same_scores() -> Table:
    """How far the scores of the two are apart on the same networks."""
    found = _read("alibi-arguments")["largest_differences_of_scores"]
    return ["64 rows, the same weights", "largest difference, nats"], [[name, f"{d:.2g}"] for name, d in found.items()]


def _read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
