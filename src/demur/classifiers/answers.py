"""What a classifier outside the graph has answered, by row: in memory, or in a file that outlives the process."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Answer = npt.NDArray[np.float32]
"""The log-probabilities of one row, `(classes,)`."""


class Answers(Protocol):
    """Answers by row."""

    def get(self, keys: list[bytes]) -> dict[bytes, Answer]:
        """The answers that are known, by key."""

    def put(self, answers: dict[bytes, Answer]) -> None:
        """Keep answers."""


class InMemory:
    """Answers for as long as the process needs them."""

    def __init__(self) -> None:
        self.known: dict[bytes, Answer] = {}

    def get(self, keys: list[bytes]) -> dict[bytes, Answer]:
        """The answers that are known, by key."""
        return {key: self.known[key] for key in keys if key in self.known}

    def put(self, answers: dict[bytes, Answer]) -> None:
        """Keep answers."""
        self.known |= answers


class OnDisk:
    """Answers in an SQLite file, one for each row and model, each batch in a transaction of its own.

    Args:
        path: the file; made if it does not exist. Several processes may share it.
        model: what tells one model from another: its fingerprint.
    """

    def __init__(self, path: str | Path, model: str) -> None:
        self.path, self.model = Path(path).expanduser(), hashlib.sha256(model.encode()).digest()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, log_p BLOB) WITHOUT ROWID")

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection a call: SQLite's are not to be shared between threads.
        with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as database, database:
            yield database

    def _key(self, key: bytes) -> bytes:
        return hashlib.blake2b(self.model + key, digest_size=20).digest()

    def get(self, keys: list[bytes]) -> dict[bytes, Answer]:
        """The answers that are known, by key."""
        by_name = {self._key(key): key for key in keys}
        names, found = list(by_name), {}
        with self._open() as database:
            for start in range(0, len(names), 500):
                part = names[start : start + 500]
                marks = ",".join("?" * len(part))
                for name, log_p in database.execute(f"SELECT key, log_p FROM answers WHERE key IN ({marks})", part):
                    found[by_name[name]] = np.frombuffer(log_p, "<f4")
        return found

    def put(self, answers: dict[bytes, Answer]) -> None:
        """Keep answers."""
        rows = [(self._key(key), np.asarray(log_p, "<f4").tobytes()) for key, log_p in answers.items()]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows)
