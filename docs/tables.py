"""Write the tables in README.md from the files in docs/results, between their markers.

    python docs/tables.py            rewrite README.md
    python docs/tables.py --check    exit with 1 if that would change it

The files in docs/results come from `demur demo --dataset NAME --out DIR` (`DIR/demo.json`).
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "accuracy": "accuracy",
    "corrected": "corrected",
    "auroc": "AUROC",
    "flagged": "flagged",
    "harmful_score": "harmful",
    "harmless_score": "harmless",
}


def demo_table(name: str) -> str:
    """The table of one demonstration, in Markdown."""
    results = json.loads((ROOT / f"docs/results/demo-{name}.json").read_text(encoding="utf-8"))
    lines = ["| test images | " + " | ".join(COLUMNS.values()) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for detector, result in results["detectors"].items():
        lines.append(f"| **{detector}** |" + " |" * len(COLUMNS))
        for title, row in result["rows"].items():
            lines.append(f"| {title} | " + " | ".join(cell(key, row[key]) for key in COLUMNS) + " |")
    return "\n".join(lines)


def cell(key: str, value: Any) -> str:
    """One figure as the demonstration prints it."""
    if value is None:
        return ""
    if key in ("accuracy", "corrected", "flagged"):
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if key == "auroc" else f"{value:.2f}"


def filled(text: str) -> str:
    """The text with every table between its markers made anew."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{demo_table(match[2])}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    """Rewrite README.md, or say whether that would change it."""
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" in sys.argv:
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
