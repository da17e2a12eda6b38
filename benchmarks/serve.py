"""How much load does `demur serve` bear, for how long, and what happens when things go wrong?

    python benchmarks/serve.py [--quick] [--only load,rates,soak,faults] [--out FILE]

- load: wrk (apt-get install wrk) on loopback, at several numbers of connections and with several forms of bodies; next
  to it uvicorn with nothing behind it, and the same guard in MLServer where tests/e2e/test_mlserver.py has made it an
  environment. Then half of the peak at a constant rate, by a client of ours that counts a latency from when a request
  was due, and by hey (apt-get install hey) where it is installed.
- rates: requests that arrive at random, at one rate after the other, and how long they take; for docs/batch.md.
- soak: 10 minutes at 70 % of the peak, and the memory of the process that answers.
- faults: a killed process, a full queue, malformed requests, clients that leave, new guards, and an orderly end, each
  while clients ask that know the right answers.

The guard is made first, by TensorFlow in a process of its own. All goes to docs/results/serve.json after each part; the
parts that are not measured stay as they were. Takes about 40 minutes, on a quiet machine: the load shares its cores.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from serving import servers, wrk
from serving.faults import faults
from serving.load import PEAK_AT, closed_loop, load
from serving.rates import rates
from serving.soak import soak

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("load", "rates", "soak", "faults")
PACKAGES = ("onnxruntime", "numpy", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "schemathesis")


def say(text: str) -> None:
    print(text, flush=True)


def made(folder: Path) -> dict[str, Any]:
    """Have the guards made; what this runs on."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-m", "serving.guards", str(folder)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"the guards could not be made:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads((folder / "machine.json").read_text())
    return found | {"python": platform.python_version(), "linux": platform.release()}


def versions() -> dict[str, str]:
    found = {"wrk": wrk.version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    if servers.MLSERVER.exists():
        script = "import importlib.metadata as m; print(m.version('mlserver'))"
        python = servers.MLSERVER.with_name("python")
        found["mlserver"] = subprocess.run(
            [python, "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()
    return found


def peak(folder: Path, results: dict[str, Any]) -> float:
    """What was measured, or a quick guess."""
    if "peak" in results.get("load", {}):
        return float(results["load"]["peak"])
    from serving.bodies import binary
    from serving.guards import images

    X, _ = images()
    requests = wrk.write_requests(folder / "guess", [binary(X[i : i + 1]) for i in range(8)])
    with servers.demur(folder / "guard.onnx", *servers.QUIET) as server:
        return float(closed_loop(server, requests, PEAK_AT, 5)["per_second"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="short runs, to try the script; writes only what --out says"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas; default: %(default)s")
    parser.add_argument("--out", type=Path, help="the file to write; default: docs/results/serve.json")
    args = parser.parse_args()
    parts = [part for part in PARTS if part in args.only.split(",")]
    if not parts:
        parser.error(f"--only takes some of {', '.join(PARTS)}; got {args.only!r}")
    out = args.out or (None if args.quick else ROOT / "docs/results/serve.json")
    results: dict[str, Any] = json.loads(out.read_text()) if out is not None and out.exists() else {}
    results |= {"versions": versions(), "options": " ".join(map(str, servers.QUIET)), "quick": args.quick}
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["machine"] = made(folder)
        for part in parts:
            begun = time.monotonic()
            try:
                if part == "soak":
                    results[part] = soak(folder, peak(folder, results), args.quick, say)
                else:
                    results[part] = {"load": load, "rates": rates, "faults": faults}[part](folder, args.quick, say)
            except Exception:
                traceback.print_exc()
                failed.append(part)
                continue
            say(f"{part} took {time.monotonic() - begun:.0f} s")
            if out is not None:
                out.write_text(json.dumps(results, indent=2) + "\n")
    if failed:
        say(f"could not be measured: {', '.join(failed)}")
    missed = [name for name, found in results.get("faults", {}).items() if not found["passed"]]
    if missed:
        say(f"faults that were not borne: {', '.join(missed)}")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
