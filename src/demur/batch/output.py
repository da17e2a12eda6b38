"""Answers as a folder of Parquet files, a part a task: each there whole or not at all, so that a job can go on."""

import functools
import hashlib
import io
import json
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from demur._version import __version__
from demur.atomic import whole
from demur.batch.answer import OUTPUTS
from demur.batch.collections import pieces_of
from demur.batch.formats import Found, Piece, Store
from demur.batch.task import ERROR, Job, Named, answered
from demur.errors import DemurError, InvalidSetting, UnfinishedBatch

MANIFEST = "_demur.json"
"""The file that says what the folder holds the answers of. Parquet's readers pass over names with an underscore."""
SHOWN = 10
"""Failed rows that are remembered by name."""
SUMMARY = b"demur"
RETRIES = 3
"""How often a part is tried again whose reading or writing fails, as networks and object stores do."""


class Part(NamedTuple):
    """What a part file says of itself: see `Written`."""

    rows: int
    flagged: int
    failed: int
    faults: dict[str, str]


class Written(NamedTuple):
    """What was written.

    Attributes:
        path: the folder.
        rows: how many rows there are.
        flagged: how many of the rows are flagged; 0 where that was not asked for.
        failed: how many of the rows have no answer, but a reason in the column `error`.
        parts: how many files there are.
        reused: how many of the files were there before.
        faults: why the first of the failed rows have no answer, by id.
    """

    path: str
    rows: int
    flagged: int
    failed: int
    parts: int
    reused: int
    faults: dict[str, str]


class Output(NamedTuple):
    """A folder of part files, at a path on a file system."""

    store: Store
    path: str

    @classmethod
    def at(cls, out: str | Path, storage_options: dict[str, Any] | None) -> "Output":
        """The folder of a path, on any file system that `fsspec` knows."""
        store, path = Store.at(out, storage_options)
        return cls(store, path.rstrip("/"))

    def part(self, number: int) -> str:
        """The path of a part."""
        return f"{self.path}/part-{number:06d}.parquet"

    def begin(self, manifest: dict[str, Any], *, overwrite: bool) -> set[int]:
        """Begin, or go on: write what the folder is for, and return the parts that are there.

        Raises:
            InvalidSetting: the folder holds something else.
        """
        files = self.store.files
        document = {"format": 1, "demur": __version__, **manifest}
        there = self._document()
        if there is not None and not overwrite:
            told = {name for name in {*there, *document} if there.get(name) != document.get(name)} - {"demur"}
            if told:
                raise InvalidSetting(
                    f"{self.path} holds answers of another job: {', '.join(sorted(told))} differ. Choose another "
                    "folder, or overwrite=True"
                )
        elif files.isdir(self.path) and files.ls(self.path, detail=False):
            if there is None:
                raise InvalidSetting(f"{self.path} holds something else: choose another folder")
            for name in self._files():
                files.rm_file(name)
        files.makedirs(self.path, exist_ok=True)
        self._put(f"{self.path}/{MANIFEST}", json.dumps(document, indent=1, default=str).encode() + b"\n")
        parts = {self.part(number): number for number in range(document["parts"])}
        files.invalidate_cache()
        return {parts[name] for name in self._files() if name in parts}

    def write(self, number: int, table: Any) -> Part:
        """Write a part."""
        import pyarrow.parquet as pq

        part = summary(table)
        contents = io.BytesIO()
        about = {SUMMARY: json.dumps(part._asdict()).encode()}
        pq.write_table(table.replace_schema_metadata(about), contents)
        self._put(self.part(number), contents.getvalue())
        return part

    def read(self, number: int) -> Part:
        """What a part says of itself."""
        import pyarrow.parquet as pq

        with self.store.files.open(self.part(number), "rb") as stream:
            return Part(**json.loads(pq.read_metadata(stream).metadata[SUMMARY]))

    def _document(self) -> Any:
        try:
            return json.loads(self.store.files.cat_file(f"{self.path}/{MANIFEST}"))
        except (FileNotFoundError, ValueError):
            return None

    def _files(self) -> list[str]:
        found = self.store.files.ls(self.path, detail=False)
        return [name for name in found if name.startswith(f"{self.path}/part-")]

    def _put(self, path: str, contents: bytes) -> None:
        """Write a file, whole or not at all: as object stores do by themselves."""
        if self.store.is_local:
            with whole(Path(path)) as stream:
                stream.write(contents)
        else:
            self.store.files.pipe_file(path, contents)


def summary(table: Any) -> Part:
    """What a table of answers has."""
    import pyarrow.compute as pc

    names = table.column_names
    flagged = pc.sum(table["is_adversarial"]).as_py() or 0 if "is_adversarial" in names else 0
    faults: dict[str, str] = {}
    failed = 0
    if ERROR in names:
        failing = table.filter(pc.is_valid(table[ERROR]))
        failed = failing.num_rows
        ids = Named(failing.select([name for name in names if name not in OUTPUTS and name != ERROR]))
        faults = {ids[i]: failing[ERROR][i].as_py() for i in range(min(SHOWN, failed))}
    return Part(table.num_rows, int(flagged), failed, faults)


def written(
    job: Job, data: Any, found: Found | None, output: Output, client: Any, *, overwrite: bool, verbose: bool
) -> Written:
    """Have a cluster write the answers, but for the parts that are there.

    Raises:
        RowsFailed: rows cannot be answered, and the job's `on_error` is "raise".
        UnfinishedBatch: workers died, again and again, of the same rows.
        InvalidSetting: the folder holds something else.
    """
    import dask

    pieces = pieces_of(data, job) if found is None else found.pieces
    manifest = {
        "guard": job.ref.content,
        "outputs": list(job.outputs),
        "ids": list(job.ids),
        "columns": None if job.reading.columns is None else list(job.reading.columns),
        "scale": job.reading.scale,
        "on_error": job.on_error,
        "data": dask.base.tokenize(data) if found is None else digest([found.state, repr(found.pieces)]),
        "parts": len(pieces),
    }
    done = output.begin(manifest, overwrite=overwrite)
    todo = [number for number in range(len(pieces)) if number not in done]
    run = uuid.uuid4().hex  # a key that the scheduler remembers would not be computed again
    keys = [f"demur-score-{run}-{number}" for number in todo]
    if found is not None:
        write = functools.partial(write_part, job, output)
        futures = client.map(write, todo, [pieces[number] for number in todo], key=keys, retries=RETRIES)
    else:
        tasks = [
            dask.delayed(write_part)(job, output, number, pieces[number], dask_key_name=key)
            for number, key in zip(todo, keys, strict=True)
        ]
        futures = client.compute(tasks, retries=RETRIES)
    told = [*_results(client, futures, verbose), *(output.read(number) for number in sorted(done))]
    output.store.files.invalidate_cache()  # the workers have written what this process has listed before
    faults = {name: reason for part in told for name, reason in part.faults.items()}
    rows, flagged, failed = (sum(counts) for counts in zip(*(part[:3] for part in told), strict=True))
    return Written(output.path, rows, flagged, failed, len(pieces), len(done), dict(list(faults.items())[:SHOWN]))


def write_part(job: Job, output: Output, number: int, piece: Piece) -> "Part | DemurError":
    """Answer for a piece and write the answers; a `DemurError` is returned, so that Dask does not try again."""
    try:
        return output.write(number, answered(job, piece))
    except DemurError as error:
        return error


def _results(client: Any, futures: list[Any], verbose: bool) -> list[Part]:
    """Wait for all parts; the first error ends the job."""
    from distributed import KilledWorker, as_completed, progress

    if verbose and futures:
        progress(futures, notebook=False, scheduler=client.scheduler.address)
        print(file=sys.stdout)
    told: list[Part] = []
    try:
        for future in as_completed(futures, loop=client.loop):
            part = future.result()
            if isinstance(part, DemurError):
                raise part
            told.append(part)
    except KilledWorker as error:
        raise UnfinishedBatch(
            "the same rows have ended one worker after the other, for lack of memory perhaps: pass a smaller "
            f"batch_size, or more memory a worker. What is done is kept, and the same call goes on ({error.task})"
        ) from error
    finally:
        client.cancel([future for future in futures if not future.done()])
    return told


def digest(state: Any) -> str:
    """A SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()
