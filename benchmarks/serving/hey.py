"""Runs hey, a load tool that can keep a rate: of each of its workers, which all send at the same moments."""

import csv
import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from .bodies import HEADER_LENGTH, INFER, binary_body
from .open_loop import percentiles

WORKERS = 8


def hey(port: int, X: Any, folder: Path, rate: float, seconds: float) -> dict[str, Any] | None:
    """Send one image over and over; None where hey is not installed.

    A worker sends nothing while it waits for an answer, and hey counts from when it sent: see `open_loop` for the
    other way. What it says of the first second is left out.
    """
    if shutil.which("hey") is None:
        return None
    body, length = binary_body(X[:1])
    (folder / "hey-body").write_bytes(body)
    command = [
        "hey",
        "-z",
        f"{seconds + 1:g}s",
        "-c",
        WORKERS,
        "-q",
        f"{rate / WORKERS:.2f}",
        "-o",
        "csv",
        "-m",
        "POST",
    ]
    command += ["-T", "application/octet-stream", "-H", f"{HEADER_LENGTH}: {length}", "-D", folder / "hey-body"]
    done = subprocess.run(
        [str(part) for part in [*command, f"http://127.0.0.1:{port}{INFER}"]],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [row for row in csv.DictReader(io.StringIO(done.stdout)) if float(row["offset"]) > 1]
    right = np.array([float(row["response-time"]) for row in rows if row["status-code"] == "200"])
    p50, p99 = percentiles(right)
    return {
        "rate": rate,
        "per_second": len(right) / seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "p99_of_p50": p99 / p50,
        "outcomes": {"right": len(right), "others": len(rows) - len(right)},
        "workers": WORKERS,
    }
