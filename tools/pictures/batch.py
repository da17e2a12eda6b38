"""What becomes of a batch job when a worker is killed: the parts, by worker and time, of a real run.

    python tools/pictures/batch.py

Writes docs/images/batch-kill.png. Three workers score 48 parts with the detector of tests/parity; one is killed.
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster, get_task_stream
from drawing import BLUE, IMAGES, INK, METADATA, NORMAL, ORANGE, SMALL, figure

from demur import batch
from demur.starting import start_keras

ROOT = Path(__file__).resolve().parents[2]
PARTS, ROWS = 48, 800


def guard(path: Path) -> Any:
    """A small guard, exported; returns the shape of its rows."""
    start_keras()
    from demur import load_detector

    detector = load_detector(ROOT / "tests/parity/data/adversarial_ae")
    rows = np.random.default_rng(0).random((200, *detector.input_shape), "float32")
    detector.infer_threshold(rows, fpr=0.05).export(path)
    return detector.input_shape


def run(folder: Path) -> tuple[list[dict[str, Any]], float, str]:
    """The tasks of a run, and when which worker was killed."""
    shape = guard(folder / "guard.onnx")
    np.save(folder / "rows.npy", np.random.default_rng(0).random((PARTS * ROWS, *shape), "float32"))
    killed: list[Any] = []
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        address, pid = sorted(client.run(os.getpid).items())[1]
        out = folder / "out"

        def kill() -> None:
            while len(list(out.glob("part-*"))) < PARTS // 4:
                time.sleep(0.01)
            killed.extend([time.time(), address])
            os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        with get_task_stream(client) as stream:
            batch.score(folder / "guard.onnx", folder / "rows.npy", out=out, part_rows=ROWS, batch_size=1)
        killer.join()
    tasks = [
        {"worker": task["worker"], "start": step["start"], "stop": step["stop"]}
        for task in stream.data
        for step in task["startstops"]
        if step["action"] == "compute"
    ]
    return tasks, killed[0], killed[1]


def draw(tasks: list[dict[str, Any]], moment: float, victim: str) -> None:
    """One row of bars a worker."""
    made, (ax,) = figure(3.4)
    began = min(task["start"] for task in tasks)
    first = {}
    for task in tasks:
        first[task["worker"]] = min(task["start"], first.get(task["worker"], task["start"]))
    workers = sorted(first, key=lambda worker: (worker not in sorted(first, key=first.__getitem__)[:3], first[worker]))
    for task in tasks:
        late = first[task["worker"]] > moment
        width = task["stop"] - task["start"]
        ax.barh(
            workers.index(task["worker"]),
            width,
            left=task["start"] - began,
            color=ORANGE if late else BLUE,
            edgecolor="white",
            linewidth=1.2,
            height=0.6,
        )
    row = workers.index(victim)
    ax.plot(moment - began, row, marker="X", color=INK, markersize=13)
    ax.annotate("killed", (moment - began, row), (12, 0), textcoords="offset points", va="center", fontsize=NORMAL)
    ax.set_yticks(range(len(workers)), [f"worker {i + 1}" if i < 3 else "in its place" for i in range(len(workers))])
    ax.invert_yaxis()
    ax.set_xlabel("seconds", fontsize=NORMAL, color=INK)
    ax.tick_params(labelsize=SMALL)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    made.savefig(IMAGES / "batch-kill.png", dpi=150, metadata=METADATA)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        draw(*run(Path(name)))
