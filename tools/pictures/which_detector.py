"""The pictures of docs/which_detector.md, from docs/results and benchmarks/results.

    python tools/pictures/which_detector.py

Writes docs/images/which-detector.png, what each companion catches, and docs/images/two-detectors.png, how they work.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import ablation_tables  # noqa: E402

from demur.plots.style import INK, MUTED, PALETTE  # noqa: E402

MARKS = dict(zip(ablation_tables.GIST.values(), "osD", strict=True))
COLOURS = dict(zip(ablation_tables.GIST.values(), (PALETTE[0], PALETTE[1], PALETTE[3]), strict=True))


def caught(title: str) -> dict[str, dict[str, float]]:
    """Of attacks on a data set, what each companion catches, in per cent: by companion and attack."""
    head, rows = ablation_tables.gist()
    begin = next(i for i, row in enumerate(rows) if row[0] == f"**{title}**") + 1
    ours = rows[begin : begin + len(MARKS)]
    return {
        row[0]: {name: float(cell.split()[0]) for name, cell in list(zip(head, row, strict=True))[1:-1]} for row in ours
    }


def corrupted() -> dict[str, dict[str, float]]:
    """Of images that a corruption harmed, what either detector catches."""
    found = json.loads((ROOT / "docs/results/tutorial-torch_images.json").read_text(encoding="utf-8"))["found"]
    kinds = ("gaussian noise", "impulse noise", "gaussian blur", "contrast")
    names = dict(zip(MARKS, ("AdversarialAE", "ModelDistillation"), strict=False))
    return {
        name: {
            row["threat"]: 100 * row["flagged"]
            for row in found
            if row["detector"] == detector and row["threat"] in kinds
        }
        for name, detector in names.items()
    }


def draw(ax: Any, title: str, found: dict[str, dict[str, float]]) -> None:
    """One line a change, one mark a companion."""
    changes = list(max(found.values(), key=len))
    for place, change in enumerate(changes):
        values = {name: shares[change] for name, shares in found.items() if change in shares}
        ax.plot([min(values.values()), max(values.values())], [place, place], color=MUTED, linewidth=1, zorder=1)
        for name, value in values.items():
            label = name.replace("`", "")
            ax.plot(
                value,
                place,
                MARKS[name],
                color=COLOURS[name],
                markersize=8,
                label=None if place else label,
                zorder=2,
                clip_on=False,
            )
    ax.set_yticks(range(len(changes)), changes)
    ax.set_ylim(len(changes) - 0.4, -0.6)
    ax.set_xlim(-3, 103)
    ax.axvline(5, color=INK, linewidth=0.8, linestyle=":")
    ax.set_title(title, fontsize=11, color=INK)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def measured() -> None:
    """What each companion catches."""
    ratios = {"height_ratios": [5, 4]}
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.8), layout="constrained", sharex=True, gridspec_kw=ratios)
    draw(axes[0], "Attacks, Fashion-MNIST", caught("Fashion-MNIST"))
    draw(axes[1], "Harmful corruption, Fashion-MNIST", corrupted())
    axes[-1].set_xlabel("caught, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, frameon=False)
    figure.savefig(ROOT / "docs/images/which-detector.png", dpi=110)


def box(ax: Any, x: float, y: float, text: str, colour: str, width: float = 2.3) -> None:
    """A rounded box around its middle."""
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.34), width, 0.68, boxstyle="round,pad=0.02,rounding_size=0.12", fill=False,
            edgecolor=colour, linewidth=1.8,
        )
    )  # fmt: skip
    ax.text(x, y, text, ha="center", va="center", fontsize=10.5, color=INK)


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one box to another."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.2})


def scheme() -> None:
    """How the two work: one panel each."""
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 4.6), layout="constrained")
    for ax, title in zip(axes, ("AdversarialAE", "ModelDistillation"), strict=True):
        ax.set_xlim(-0.9, 9.5)
        ax.set_ylim(-0.7, 2.7)
        ax.axis("off")
        ax.set_title(title, fontsize=12, color=INK)
        ax.text(-0.4, 1, "x", fontsize=14, style="italic", ha="center", va="center", color=INK)
        if title == "AdversarialAE":
            box(ax, 4.6, 2, "classifier", PALETTE[0])
            box(ax, 1.6, 0, "autoencoder", PALETTE[1])
            box(ax, 5.2, 0, "the same classifier", PALETTE[0], 3.1)
            ax.text(3.2, 0.2, "x'", fontsize=12, style="italic", ha="center", color=INK)
            lines = [((-0.2, 1.15), (3.4, 2)), ((-0.2, 0.85), (0.42, 0.3)), ((2.8, 0), (3.6, 0))]
            ends = [(5.8, 2), (6.8, 0)]
        else:
            box(ax, 3.8, 2, "classifier", PALETTE[0])
            box(ax, 3.8, 0, "student", PALETTE[1])
            lines = [((-0.2, 1.15), (2.6, 2)), ((-0.2, 0.85), (2.6, 0))]
            ends = [(5.0, 2), (5.0, 0)]
        for start, end in lines:
            arrow(ax, start, end)
        for start in ends:
            arrow(ax, start, (7.55, 1.25 if start[1] else 0.75))
        ax.text(7.6, 1, "how far apart?\nabove the\nthreshold:\nflagged", fontsize=10.5, va="center", color=INK)
    figure.savefig(ROOT / "docs/images/two-detectors.png", dpi=110)


def main() -> int:
    """Draw both."""
    scheme()
    measured()
    return 0


if __name__ == "__main__":
    sys.exit(main())
