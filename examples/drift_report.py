"""What `harmful_drift_cifar10.py` shows of its findings: the lines that it prints, and its picture."""

from pathlib import Path
from typing import Any

import numpy as np

BATCH = 100
STREAM_SHARE = 0.3


def lines(results: dict[str, Any]) -> list[str]:
    """What it prints."""
    found = [
        f"accuracy on unchanged images: {100 * results['clean_accuracy']:.1f} %",
        "",
        "severity  accuracy  estimated  harmful score  harmless score",
    ]
    for row in results["severities"]:
        accuracies = f"{100 * row['accuracy']:>6.1f} %   {100 * row['estimated_accuracy']:>6.1f} %"
        found.append(
            f"{row['severity']:>8}  {accuracies}  {row['harmful_score']:>13.2f}  {row['harmless_score']:>14.2f}"
        )
    found += ["", f"mean p-value of batches of {BATCH}", "   drifted  harmful  harmless"]
    for row in results["p_values"]:
        found.append(f"{100 * row['share']:>8.0f} %  {row['harmful']:>7.3f}  {row['harmless']:>8.3f}")
    stream = results["stream"]
    at = stream["alarm_at"]
    after = "no alarm" if at is None else f"alarm after {at - stream['turns_at']} more"
    return [*found, "", f"of a stream {100 * STREAM_SHARE:g} % turn bad after {stream['turns_at']:,} scores: {after}"]


def draw(results: dict[str, Any], file: Path) -> None:
    """The four findings in one figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    (top_left, top_right), (bottom_left, bottom_right) = figure.subplots(2, 2)
    rows = results["severities"]
    x = [row["severity"] for row in rows]
    top_left.plot(x, [100 * row["accuracy"] for row in rows], "o-", label="accuracy")
    top_left.plot(x, [100 * row["estimated_accuracy"] for row in rows], "s--", label="estimated, without labels")
    top_left.set(title="Corruption hurts", xlabel="severity", ylabel="%", xticks=x, ylim=(0, 100))
    top_right.plot(x, [row["harmful_score"] for row in rows], "o-", color="tab:red", label="harmful")
    top_right.plot(x, [row["harmless_score"] for row in rows], "s-", color="tab:green", label="harmless")
    top_right.set(title="Scores tell which", xlabel="severity", ylabel="mean score (nats)", xticks=x)
    top_right.set_ylim(bottom=0)
    rows = results["p_values"]
    x = [100 * row["share"] for row in rows]
    bottom_left.plot(x, [row["harmful"] for row in rows], "o-", color="tab:red", label="harmful")
    bottom_left.plot(x, [row["harmless"] for row in rows], "s-", color="tab:green", label="harmless")
    bottom_left.set(title=f"Batches of {BATCH}", xlabel="% of the batch that has drifted", ylabel="mean p-value")
    stream = results["stream"]
    evidence = stream["log_evidence"]
    bottom_right.plot(np.arange(1, len(evidence) + 1), evidence, label="evidence")
    bottom_right.axhline(stream["log_limit"], color="tab:red", linestyle="--", label="alarm")
    bottom_right.axvline(stream["turns_at"], color="grey", linestyle=":", label="drift begins")
    bottom_right.set(
        title=f"A stream of which {100 * STREAM_SHARE:g} % turn bad",
        xlabel="scores",
        ylabel="log evidence",
        ylim=(min(evidence) - 1, 4 * stream["log_limit"]),
    )
    for ax in (top_left, top_right, bottom_left, bottom_right):
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)
