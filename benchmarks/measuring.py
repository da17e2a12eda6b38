"""What the benchmarks measure with: memory of this process, medians of alternating contenders, the machine."""

import gc
import os
import platform
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def status(field: str) -> int:
    """A size in bytes from the process's own status."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


@contextmanager
def growth() -> Iterator[dict[str, int]]:
    """Watch the process's anonymous memory; afterwards the dictionary says by how many bytes it grew at most."""
    gc.collect()
    before, found, done = status("RssAnon"), {"bytes": 0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found["bytes"] = max(found["bytes"], status("RssAnon") - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        found["bytes"] = max(found["bytes"], status("RssAnon") - before)
        done.set()
        watcher.join()


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def alternated(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median over the rounds of what each contender measures, one after the other in each round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            gc.collect()
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def machine() -> dict[str, Any]:
    """What the measurements ran on."""
    import keras

    model = re.search(r"model name\s+: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        **_accelerator(keras.backend.backend()),
    }


def _accelerator(backend: str) -> dict[str, str]:
    """Its name, where the backend has one."""
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return {} if device.platform == "cpu" else {"accelerator": device.device_kind}
    if backend == "torch":
        import torch

        return {"accelerator": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return {"accelerator": tf.config.experimental.get_device_details(found[0])["device_name"]} if found else {}
