"""Many rows of 28x28 from Parquet: how fast, in how much memory, and what becomes of them when workers are killed?

    KERAS_BACKEND=tensorflow python benchmarks/batch.py throughput
    KERAS_BACKEND=tensorflow python benchmarks/batch.py kills
    KERAS_BACKEND=tensorflow python benchmarks/batch.py memory

Rows are test images of Fashion-MNIST, drawn with replacement, as 784 bytes each; the guard of `throughput` is the
CNN's student of `benchmarks/networks.py`, exported, and that of the others a dense network's. Each part writes its
entry of docs/results/batch.json. `--rows` makes it smaller, and then nothing is written.

throughput: rows a second of one and of two Dask workers, against a pool of as many processes that run the same
exported guard over the same row groups without Dask; in turn, medians over the rounds, all processes started and warm.
kills: 20 runs of 100,000 rows on three workers, of which one is killed (SIGKILL) at a random moment; every id must be
there once, with the score that a single process gives.
memory: 10 million rows under a limit of 2 GB a worker; the most that a worker held, by its own status.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client, LocalCluster
from measuring import alternated, machine, seconds

import demur.runtime
from demur import batch, datasets

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs/results/batch.json"
SCALE = 1 / 255
GROUP = 10_000
FILE = 100_000
RUNS, ROUNDS = 20, 3


def write_rows(folder: Path, n: int, group: int = GROUP) -> None:
    """Parquet files of n rows in all: an id and 784 bytes each."""
    images = (datasets.load("fashion_mnist").test.x * 255).round().astype("uint8").reshape(-1, 784)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, n, FILE):
        rows = images[rng.integers(0, len(images), min(FILE, n - start))]
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 784)
        table = pa.table({"id": np.arange(start, start + len(rows)), "image": column})
        pq.write_table(table, folder / f"{start // FILE:05d}.parquet", row_group_size=group, compression="snappy")


def write_guard(path: Path, *, dense: bool) -> None:
    """Export a guard; it need not be a good one, for what is measured does not depend on its weights."""
    import keras
    from networks import NETWORKS

    from demur import ModelDistillation

    if dense:
        hidden = [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu")]
        classifier = keras.Sequential([keras.Input((28, 28, 1)), *hidden, keras.layers.Dense(10, activation="softmax")])
    else:
        classifier, _ = NETWORKS["CNN, 28x28x1"]()
    x = datasets.load("fashion_mnist").held_out.x[:2000]
    ModelDistillation(model=classifier).infer_threshold(x, fpr=0.05).export(path)


def cluster(workers: int, memory_limit: Any = "auto") -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=memory_limit,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    )


def score(guard: Path, rows: Path, out: Path, client: Client, **more: Any) -> Any:
    """Score all rows, anew."""
    shutil.rmtree(out, ignore_errors=True)
    return batch.score(guard, rows, out=out, client=client, ids="id", columns="image", scale=SCALE, **more)


# Throughput -----------------------------------------------------------------------------------------------------------

_guard: Any = None


def start(path: Path) -> None:
    """Load the guard in a process of the pool."""
    global _guard  # noqa: PLW0603 - what a process of a pool keeps
    _guard = demur.runtime.load(path, threads=1)


def plain(task: tuple[Path, int, Path]) -> int:
    """Score a row group and write what comes out: what a user without Dask would write."""
    path, group, out = task
    columns: dict[str, list[Any]] = {}
    file = pq.ParquetFile(path)
    for record in file.iter_batches(256, row_groups=[group]):
        x = record["image"].flatten().to_numpy().reshape(-1, 28, 28, 1).astype("float32") * np.float32(SCALE)
        answer = {"id": record["id"].to_numpy(), **_guard.correct(x)["data"]}
        for name, values in answer.items():
            columns.setdefault(name, []).append(values)
    table = pa.table({name: np.concatenate(values) for name, values in columns.items()})
    pq.write_table(table, out / f"{path.stem}-{group}.parquet")
    return table.num_rows


def throughput(guard: Path, folder: Path, n: int, rounds: int) -> dict[str, Any]:
    rows, out = folder / "rows", folder / "out"
    write_rows(rows, n)
    tasks = [
        (path, group, out) for path in sorted(rows.iterdir()) for group in range(pq.ParquetFile(path).num_row_groups)
    ]
    spawn = multiprocessing.get_context("spawn")
    found = {}
    for workers in (1, 2):
        with cluster(workers) as there, Client(there) as client, spawn.Pool(workers, start, (guard,)) as pool:

            def by_dask(client: Client = client) -> float:
                return n / seconds(lambda: score(guard, rows, out, client, part_rows=GROUP))

            def by_pool(pool: Any = pool) -> float:
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                return n / seconds(lambda: list(pool.imap_unordered(plain, tasks)))

            for contender in (by_dask, by_pool):
                contender()  # to be warm
            found[workers] = alternated({"Dask": by_dask, "processes": by_pool}, rounds)
    return {
        "rows": n,
        "rounds": rounds,
        "rows a second": {str(workers): measured for workers, measured in found.items()},
        "two workers, of one": found[2]["Dask"] / found[1]["Dask"],
        "of processes": {str(workers): measured["Dask"] / measured["processes"] for workers, measured in found.items()},
    }


# Kills ----------------------------------------------------------------------------------------------------------------


def kills(guard: Path, folder: Path, n: int, runs: int) -> dict[str, Any]:
    rows, out = folder / "rows", folder / "out"
    write_rows(rows, n, GROUP // 2)
    pixels = pq.read_table(rows, columns=["image"])["image"].combine_chunks()
    x = pixels.flatten().to_numpy().reshape(-1, 28, 28, 1)
    alone = demur.runtime.load(guard)
    expected = np.concatenate(
        [alone.score(x[i : i + 256].astype("float32") * np.float32(SCALE)) for i in range(0, n, 256)]
    )
    chance = random.Random(0)
    with cluster(3) as there, Client(there) as client:
        whole = seconds(lambda: score(guard, rows, out, client, part_rows=GROUP // 2))
    found = []
    parts = len(list(out.glob("part-*")))
    for _ in range(runs):
        shutil.rmtree(out)
        with cluster(3) as there, Client(there) as client:
            victim = chance.choice(sorted(client.run(os.getpid).values()))
            after, moment = chance.randrange(parts - 3), chance.uniform(0, whole / parts)
            happened: list[int] = []

            def kill(victim: int = victim, after: int = after, moment: float = moment, told: Any = happened) -> None:
                while len(list(out.glob("part-*"))) < after:
                    time.sleep(0.005)
                time.sleep(moment)
                os.kill(victim, signal.SIGKILL)
                told.append(len(list(out.glob("part-*"))))

            killer = threading.Thread(target=kill, daemon=True)
            killer.start()
            took = seconds(lambda client=client: score(guard, rows, out, client, part_rows=GROUP // 2))
            killer.join()
        table = pq.read_table(out)
        order = np.argsort(table["id"].to_numpy())
        ids, scores = table["id"].to_numpy()[order], table["instance_score"].to_numpy()[order]
        once = len(ids) == n and bool((ids == np.arange(n)).all())
        found.append(
            {
                "killed when so many parts were there": happened[0],
                "seconds": took,
                "each id once": once,
                "largest difference": float(np.abs(scores - expected).max()) if once else None,
            }
        )
        print(found[-1], flush=True)
    return {
        "rows": n,
        "workers": 3,
        "parts": parts,
        "seconds without a kill": whole,
        "runs": found,
        "runs with each id once": sum(run["each id once"] for run in found),
        "largest difference": max(run["largest difference"] or 0.0 for run in found),
    }


# Memory ---------------------------------------------------------------------------------------------------------------


def held(pid: int, field: str) -> int:
    """A size in bytes of another process, from its own status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    return 0


def memory(guard: Path, folder: Path, n: int, _: int) -> dict[str, Any]:
    rows, out = folder / "rows", folder / "out"
    write_rows(rows, n)
    with cluster(2, "2GB") as there, Client(there) as client:
        before = client.run(os.getpid)
        took = seconds(lambda: score(guard, rows, out, client))
        after = client.run(os.getpid)
        most = [held(pid, "VmHWM") for pid in after.values()]
    ids = pq.read_table(out, columns=["id"])["id"].to_numpy()
    return {
        "rows": n,
        "workers": 2,
        "limit, bytes": 2_000_000_000,
        "most held by a worker, bytes": max(most),
        "workers started anew": len(set(after.values()) - set(before.values())),
        "each id once": bool(len(ids) == n and (np.sort(ids) == np.arange(n)).all()),
        "parts": len(list(out.glob("part-*"))),
        "input, bytes": sum(path.stat().st_size for path in rows.iterdir()),
        "seconds": took,
    }


PARTS = {
    "throughput": (throughput, 100_000, ROUNDS),
    "kills": (kills, 100_000, RUNS),
    "memory": (memory, 10_000_000, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--folder", type=Path, help="where there is room for the rows: 6 GB for the memory's")
    args = parser.parse_args()
    measure, n, times = PARTS[args.part]
    began = time.time()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_guard(folder / "guard.onnx", dense=args.part != "throughput")
        found = measure(folder / "guard.onnx", folder, args.rows or n, 2 if args.rows else times)
    print(json.dumps(found, indent=1), f"{time.time() - began:.0f} s")
    if args.rows is None:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[args.part] = {**found, "machine": machine()}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
