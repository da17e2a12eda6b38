"""The table of docs/results/numbers.md: where every figure comes from."""

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("docs/results", "benchmarks/results")

Table = tuple[list[str], list[list[str]]]
"""The heading, and the rows."""


class Source(NamedTuple):
    """Where the figures in some files come from."""

    files: str
    """A pattern, from the root."""
    page: str
    """Where they are shown, as a link."""
    command: str
    seeds: str = "0"
    took: str = ""
    """Where neither the file nor the script tells: empty."""


SOURCES = (
    Source("docs/results/demo-*.json", "[How good the detectors are](detectors.md)", "make demo DATASET=..."),
    Source(
        "docs/results/false-positive-rate.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/false_positive_rate.py",
        "0; 200 splits",
    ),
    Source("docs/results/agreement.json", "[False alarms and drift](drift.md)", "python benchmarks/agreement.py"),
    Source("docs/results/ties.json", "[False alarms and drift](drift.md)", "python benchmarks/ties.py"),
    Source("docs/results/speed.json", "[Speed and memory](speed.md)", "python benchmarks/speed.py", "medians"),
    Source(
        "docs/results/training-step.json",
        "[Speed and memory](speed.md)",
        "python benchmarks/training_step.py",
        "medians",
    ),
    Source("docs/results/growth.json", "[Speed and memory](speed.md)", "python benchmarks/growth.py", "medians"),
    Source(
        "docs/results/cold-start-*.json",
        "[Speed and memory](speed.md)",
        "KERAS_BACKEND=... python benchmarks/cold_start.py",
        "medians of 3",
    ),
    Source(
        "docs/results/upsampling-*.json",
        "[Speed and memory](speed.md)",
        "KERAS_BACKEND=... python benchmarks/upsampling.py",
        "medians",
    ),
    Source(
        "docs/results/torch-fit.json",
        "[Speed and memory](speed.md)",
        "KERAS_BACKEND=torch python benchmarks/torch_fit.py",
        "medians",
    ),
    Source("docs/results/pipeline.json", "[Speed and memory](speed.md)", "python benchmarks/pipeline.py", "15 epochs"),
    Source(
        "docs/results/columns.json",
        "[How good the detectors are](detectors.md)",
        "python benchmarks/columns.py ...",
        "0",
    ),
    Source("docs/results/texts.json", "[How good the detectors are](detectors.md)", "python benchmarks/texts.py", "0"),
    Source("docs/results/memory.json", "[Speed and memory](speed.md)", "python benchmarks/memory.py", ""),
    Source("docs/results/runtime.json", "[Speed and memory](speed.md)", "python benchmarks/runtime.py", "medians"),
    Source("docs/results/precision.json", "[Speed and memory](speed.md)", "python benchmarks/precision.py"),
    Source("docs/results/serve.json", "[Speed and memory](speed.md)", "python benchmarks/serve.py", "", "40 min"),
    Source(
        "docs/results/batch.json",
        "[Speed and memory](speed.md)",
        "python benchmarks/batch.py throughput, kills, memory",
        "0",
        "40 min",
    ),
    Source(
        "docs/results/several-devices.json",
        "[Speed and memory](speed.md)",
        "python benchmarks/several_devices.py",
        "0",
    ),
    Source(
        "docs/results/drift-batches-*-student.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_batches.py DATASET",
        "0; 300 batches",
    ),
    Source(
        "docs/results/drift-batches-*-copy.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_batches.py DATASET --detector FOLDER --name copy",
        "0; 300 batches",
    ),
    Source(
        "docs/results/flights.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/flights.py",
        "0 to 2",
    ),
    Source(
        "docs/results/trained-rows.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/trained_rows.py",
        "0 to 2",
    ),
    Source(
        "docs/results/wrong-rows.json", "[False alarms and drift](drift.md)", "python benchmarks/wrong_rows.py", "0"
    ),
    Source(
        "docs/results/drift-streams.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_streams.py",
        "a stream each",
        "30 min",
    ),
    Source(
        "docs/results/drift-promises.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_promises.py",
        "a calibration each",
    ),
    Source(
        "docs/results/drift-accuracy-*-student.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_accuracy.py DATASET",
    ),
    Source(
        "docs/results/drift-accuracy-*-copy.json",
        "[False alarms and drift](drift.md)",
        "python benchmarks/drift_accuracy.py DATASET --detector FOLDER --name copy",
    ),
    Source(
        "docs/results/harmful-drift-*.json",
        "[False alarms and drift](drift.md)",
        "python examples/harmful_drift_cifar10.py --dataset DATASET",
    ),
    Source("docs/results/example-*.json", "[How good the detectors are](detectors.md)", "python examples/NAME.py"),
    Source("docs/results/first-example.json", "[Quick start](../quickstart.md)", "python benchmarks/first_example.py"),
    Source(
        "docs/results/alibi-arguments.json",
        "[Moving over](../tutorials/from_alibi_detect.md)",
        "python benchmarks/compare_arguments.py --peer PYTHON",
        "",
    ),
    Source(
        "docs/results/planted-faults.json",
        "Faults that the tests find",
        "python tools/planted_faults.py --out docs/results/planted-faults.json",
        "",
    ),
    Source("docs/results/report-*.json", "[Read a report](../reading_a_report.md)", "python tools/pictures/report.py"),
    Source(
        "docs/results/tutorial-*.json",
        "[Tutorials](../tutorials/endpoint.md)",
        "python tools/pictures/tutorials.py PAGE",
    ),
    Source(
        "benchmarks/results/ablation-*.json",
        "[How good the detectors are](detectors.md)",
        "python benchmarks/ablation.py DATASET --seed N",
        "in the name",
    ),
    Source(
        "docs/results/input-scales.json",
        "[How good the detectors are](detectors.md)",
        "python benchmarks/input_scales.py",
        "0 and 1",
    ),
    Source("docs/results/weaker.json", "[How good the detectors are](detectors.md)", "python benchmarks/weaker.py"),
    Source(
        "docs/results/smallest-change.json",
        "[How good the detectors are](detectors.md)",
        "python benchmarks/smallest_change.py",
    ),
    Source(
        "benchmarks/results/cifar10-*.json",
        "[How good the detectors are](detectors.md)",
        "python benchmarks/quality.py CONFIGURATION",
        "in the name",
    ),
)
"""Every file of results is of exactly one of these: a test sees to that."""


def numbers() -> Table:
    """Each source of results: its page, its command, and what its files say of themselves."""
    table: list[list[str]] = []
    files = every_file()
    for page in dict.fromkeys(source.page for source in SOURCES):
        table.append([f"**{page}**", "", "", "", ""])
        for source in (source for source in SOURCES if source.page == page):
            found = [json.loads(file.read_text(encoding="utf-8")) for file in files if owner(file) == source]
            machines = "; ".join(dict.fromkeys(machine(document) for document in found if machine(document)))
            times = sorted(minutes for document in found if (minutes := took(document)) is not None)
            last = (
                f"{' to '.join(dict.fromkeys(f'{m:.0f}' for m in (times[0], times[-1])))} min" if times else source.took
            )
            table.append([f"`{source.files}`", f"`{source.command}`", source.seeds, machines, last])
    return ["file", "made by", "seed", "machine", "took"], table


def owner(file: Path) -> Source | None:
    """The source of a file: the longest pattern that fits, if only one does."""
    fitting = [source for source in SOURCES if file.match(source.files)]
    return max(fitting, key=lambda source: len(source.files), default=None)


def every_file() -> list[Path]:
    """All files of results."""
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).glob("*.json"))


def machine(document: Any) -> str:
    """Cores and backend, as the file says."""
    said = document.get("machine") or {}
    backend = said.get("backend") or document.get("backend") or ""
    cores = said.get("cores") or document.get("cores")
    parts = [f"{cores} core{'' if cores == 1 else 's'}" if cores else "", backend]
    trained = [one.get("trained_on") for one in [document, *document.get("companions", {}).values()]]
    chips = {one["accelerator"] for one in trained if one and "accelerator" in one}
    return ", ".join([part for part in parts if part] + [f"trained on an {chip}" for chip in sorted(chips)])


def took(document: Any) -> float | None:
    """How many minutes it took, training alone where companions were trained, if the file says so."""
    if "companions" in document:
        return sum(one.get("fit_seconds", 0) for one in document["companions"].values()) / 60
    seconds = document.get("seconds")
    return None if seconds is None else seconds / 60
