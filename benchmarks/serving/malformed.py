"""Requests that are not as they should be: from schemathesis, by the server's description, and mutations of ours."""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from . import servers
from .clients import Clients, Connection
from .mutations import LARGEST, Mutation, mutations

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
MOST_RUNS = 40
REQUEST_SECONDS = 2
AT_ONCE = 24
HANG = 20.0
"""Seconds without an answer that are taken for none: the server waits 10 for a head, 2 for a body, 2 for an answer."""


async def malformed(folder: Path, quick: bool) -> dict[str, Any]:
    """Both kinds, while clients with good requests are answered right, and none gets a 5xx but 503."""
    cases = 500 if quick else 10_000
    options = ("--request-seconds", REQUEST_SECONDS, "--max-body-mb", LARGEST >> 20)
    with servers.demur(folder / "guard.onnx", *servers.QUIET, *options) as server:
        worker = server.worker()
        async with Clients(server.port, folder, 4, pause=0.02) as clients:
            await asyncio.sleep(1)
            memory = servers.resident(worker)
            own = await _mutated(server.port, folder, cases)
            fuzzed = await asyncio.to_thread(_schemathesis, server, folder, cases)
            most = servers.resident(worker)
        counts = clients.counts()
        alive = server.is_ready() and server.worker() == worker
        tracebacks = server.said("Traceback")
    return {
        "own": own,
        "schemathesis": fuzzed,
        "clients": clients.count,
        "outcomes": dict(counts),
        "longest_gap_seconds": round(clients.longest_gap(), 3),
        "memory_mb": [None if size is None else round(size / 1e6, 1) for size in (memory, most)],
        "tracebacks": tracebacks,
        "alive": alive,
        "passed": alive
        and counts.keys() == {"right"}
        and not own["bad"]
        and not fuzzed["failures"]
        and tracebacks == 0,
    }


# Ours -----------------------------------------------------------------------------------------------------------------


async def _mutated(port: int, folder: Path, cases: int) -> dict[str, Any]:
    """Send mutations, several at once: how many had which status, by kind, and those that must not be."""
    X = np.load(folder / "images.npy")
    waiting = iter(mutations(X, cases))
    statuses: dict[str, Counter[str]] = {}
    bad: list[str] = []

    async def sender() -> None:
        for mutation in waiting:
            status = await _sent(port, mutation)
            statuses.setdefault(mutation.kind, Counter())[status] += 1
            is_error = status.isdigit() and int(status) >= 500 and status != "503"
            if is_error or status == "no answer" or (status == "closed" and not mutation.may_close):
                bad.append(f"{mutation.kind}: {status}; {mutation.data[:160]!r}")

    begun = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))
    total = sum(sum(found.values()) for found in statuses.values())
    return {
        "cases": total,
        "seconds": round(time.perf_counter() - begun, 1),
        "statuses": {kind: dict(sorted(found.items())) for kind, found in sorted(statuses.items())},
        "bad": bad[:20],
    }


async def _sent(port: int, mutation: Mutation) -> str:
    """The status that a request gets."""
    try:
        async with asyncio.timeout(HANG):
            connection = await Connection.open(port)
            try:
                await connection.send(mutation.data)
                if mutation.ends:
                    connection.writer.write_eof()
                return str((await connection.read()).status)
            finally:
                connection.abort()
    except TimeoutError:
        return "no answer"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return "closed"


# schemathesis ---------------------------------------------------------------------------------------------------------


def _schemathesis(server: servers.Server, folder: Path, cases: int) -> dict[str, Any]:
    """Run it in a process of its own, until it has sent so many requests; what it found.

    Every other run is about inference alone, which has 2 of the 11 operations.
    """
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        return {"cases": 0, "failures": ["schemathesis is not installed: pip install schemathesis"]}
    options = [f"--checks={CHECKS}", "--phases=examples,coverage,fuzzing", f"--max-examples={max(10, cases // 20)}"]
    options += ["--workers=1", "--continue-on-failure", "--suppress-health-check=all", "--request-timeout=30"]
    options += ["--generation-database=none", "--no-color", "--report=ndjson"]
    statuses: Counter[str] = Counter()
    failures: list[str] = []
    begun, runs, version = time.perf_counter(), 0, None
    while statuses.total() < cases and runs < MOST_RUNS and len(failures) < 3:
        report = folder / f"schemathesis-{runs}.ndjson"
        only = [f"--report-ndjson-path={report}", *(["--include-path-regex=/infer$"] if runs % 2 else [])]
        done = subprocess.run(
            [command, "run", f"http://127.0.0.1:{server.port}/openapi.json", *options, *only, f"--seed={runs}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        statuses += _read(report)
        found = re.search(r"Schemathesis v(\S+)", done.stdout)
        version = found[1] if found else version
        if done.returncode:
            failures.append(f"seed {runs}, status {done.returncode}: {done.stdout[-3000:]}{done.stderr[-1000:]}")
        runs += 1
    return {
        "version": version,
        "cases": statuses.total(),
        "runs": runs,
        "statuses": dict(sorted(statuses.items())),
        "seconds": round(time.perf_counter() - begun, 1),
        "failures": failures,
    }


def _read(report: Path) -> Counter[str]:
    """The statuses of all requests that a report tells of."""
    statuses: Counter[str] = Counter()
    if report.exists():
        with report.open() as lines:
            for line in lines:
                _count(json.loads(line), statuses)
    return statuses


def _count(found: Any, statuses: Counter[str]) -> None:
    if isinstance(found, dict):
        if "status_code" in found:
            statuses[str(found["status_code"])] += 1
            return
        for value in found.values():
            _count(value, statuses)
    elif isinstance(found, list):
        for value in found:
            _count(value, statuses)
