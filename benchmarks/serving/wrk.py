"""Runs wrk, a load tool: connections that each send the next request as soon as they have an answer."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("wrk.lua")
TIMEOUT = 5
"""Seconds after which wrk counts a request as timed out."""


def version() -> str:
    """Which wrk there is.

    Raises:
        SystemExit: none is.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("the load is made by wrk, which is not installed: apt-get install wrk")
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return " ".join((said.stdout + said.stderr).split()[:2])


def write_requests(folder: Path, requests: Sequence[bytes]) -> Path:
    """Write what shall be sent, one file each; returns the folder."""
    folder.mkdir(parents=True)
    for i, request in enumerate(requests, 1):
        (folder / str(i)).write_bytes(request)
    return folder


def wrk(port: int, requests: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Send the requests of a folder over and over.

    Returns:
        `per_second`; `p50_ms`, `p99_ms` and `max_ms`; `errors` by kind ("status" is 400 and above); `tool_cores`: how
        much of a core wrk itself took.
    """
    count = len(list(requests.iterdir()))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={TIMEOUT}s", "-s", SCRIPT]
    process = subprocess.Popen(
        [str(part) for part in [*command, f"http://127.0.0.1:{port}", "--", requests, count]], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    said = process.stdout.read().decode()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    line = next((line for line in said.splitlines() if line.startswith("JSON ")), None)
    if line is None:
        raise RuntimeError(f"wrk failed with status {process.returncode}:\n{said}")
    found: dict[str, Any] = json.loads(line[5:])
    found["per_second"] = found["requests"] / found["seconds"]
    found["tool_cores"] = (used.ru_utime + used.ru_stime) / found["seconds"]
    return found
