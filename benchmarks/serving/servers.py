"""Servers to measure, each a process of its own: `demur serve`, MLServer, and uvicorn with nothing behind it."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .bodies import INFER

ROOT = Path(__file__).resolve().parents[2]
MLSERVER = ROOT / ".venv/mlserver/bin/mlserver"
"""Where the tests of demur.mlserver make it an environment."""
PATIENCE = 90
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A process that answers on a port of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def get(self, path: str, timeout: float = 10) -> bytes:
        """The body of an answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=timeout) as answer:
            found: bytes = answer.read()
        return found

    def is_ready(self, path: str = "/v2/health/ready") -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError):
            self.get(path)
            return True
        return False

    def pids(self) -> list[int]:
        """Its processes: the first one, and all that it has started."""
        return family(self.process.pid)

    def worker(self) -> int:
        """The process that answers: the child of demur's supervisor.

        Raises:
            RuntimeError: there is none.
        """
        pids = self.pids()
        if len(pids) < 2:
            raise RuntimeError(f"no process answers:\n{self.log.read_text(errors='replace')[-4000:]}")
        return pids[1]

    def answered(self) -> dict[str, int]:
        """How many requests for inference it says it has answered, by status; nothing where it is none of demur's."""
        try:
            text = self.get("/metrics").decode()
        except OSError:
            return {}
        found = re.findall(r'demur_requests_total\{[^}]*status="(\d+)"[^}]*\} (\S+)', text)
        return {status: int(float(count)) for status, count in found}

    def said(self, what: str) -> int:
        """How often its log says something."""
        return self.log.read_text(errors="replace").count(what)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """What processes have computed so far."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident(pid: int) -> int | None:
    """Bytes of memory that a process holds; None if it has ended."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else None
    return None


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[Any], port: int, log: Path, ready: str = "/v2/health/ready", **options: Any
) -> Iterator[Server]:
    """Start a server, wait until it answers, and end it at the end, if it still runs."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    server = Server(process, port, log)
    try:
        until = time.monotonic() + PATIENCE
        while not server.is_ready(ready):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not serve:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


QUIET = ("--threads", 1, "--no-access-log")
"""How it is measured: on one thread, as is quickest for a small guard, and without a line for each request."""


def demur(path: Path, *options: Any) -> contextlib.AbstractContextManager[Server]:
    """`demur serve`, which watches for drift, as it does by default."""
    port = free_port()
    command = [sys.executable, "-m", "demur.cli", "serve", path, "--port", port, *options]
    return running(command, port, path.with_name(f"demur-{port}.log"))


@contextlib.contextmanager
def mlserver(guard: Path, workers: int | None) -> Iterator[Server]:
    """MLServer with the same file; with so many workers for models, or as many as by default."""
    port = free_port()
    folder = guard.with_name(f"mlserver-{port}")
    folder.mkdir()
    shutil.copy(guard, folder / "guard.onnx")
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings |= {"debug": False} | ({} if workers is None else {"parallel_workers": workers})
    model = {
        "name": "guard",
        "implementation": "demur.mlserver.GuardRuntime",
        "parameters": {"uri": "./guard.onnx", "extra": {"threads": 1}},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with running([MLSERVER, "start", "."], port, folder / "log", cwd=folder, env=environment) as server:
        yield server


def floor(folder: Path) -> contextlib.AbstractContextManager[Server]:
    """Uvicorn with an application that reads the body and answers with a constant."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "serving.floor:app", "--port", port, "--no-access-log"]
    command += ["--lifespan", "off", "--log-level", "warning"]
    return running(command, port, folder / f"floor-{port}.log", INFER, cwd=ROOT / "benchmarks")
