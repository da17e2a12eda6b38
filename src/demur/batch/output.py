"""A folder of Parquet files, one a part: each there whole or not at all, so that a job goes on where it stopped."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from demur._version import __version__
from demur.atomic import whole
from demur.batch.formats import Store
from demur.batch.formats.base import fsspec_module
from demur.errors import InvalidSetting

MANIFEST = "_demur.json"
"""Says what the folder holds the answers of. Parquet's readers pass over names with an underscore."""
SHOWN = 10
"""Failed rows that a part remembers by name."""
SUMMARY = b"demur"


class Part(NamedTuple):
    """What a part file says of itself.

    Attributes:
        rows: how many it has.
        flagged: how many of them are.
        failed: how many have no answer.
        faults: of the first of those, why, by id.
    """

    rows: int
    flagged: int
    failed: int
    faults: dict[str, str]


class Output(NamedTuple):
    """The folder.

    Attributes:
        store: the file system.
        path: of the folder on it.
    """

    store: Store
    path: str

    @classmethod
    def at(cls, out: Any, storage_options: dict[str, Any] | None) -> "Output":
        """The folder of a path, on any file system that `fsspec` knows."""
        files, path = fsspec_module().core.url_to_fs(str(out), **(storage_options or {}))
        protocol = files.protocol if isinstance(files.protocol, str) else files.protocol[0]
        return cls(Store(protocol, dict(storage_options or {})), path.rstrip("/"))

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
        about = {SUMMARY: json.dumps(part._asdict()).encode()}
        contents = io.BytesIO()
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
        prefix = f"{self.path}/part-"
        found = self.store.files.ls(self.path, detail=False)
        return [name for name in found if name.startswith(prefix)]

    def _put(self, path: str, contents: bytes) -> None:
        """Write a file, whole or not at all: object stores do, and on a disk it is renamed."""
        if self.store.protocol in ("file", "local"):
            with whole(Path(path)) as stream:
                stream.write(contents)
        else:
            self.store.files.pipe_file(path, contents)


def summary(table: Any) -> Part:
    """What a part of answers has."""
    import pyarrow.compute as pc

    from demur.batch.job import ERROR, Named

    names = table.column_names
    flagged = pc.sum(table["is_adversarial"]).as_py() or 0 if "is_adversarial" in names else 0
    faults: dict[str, str] = {}
    failed = 0
    if ERROR in names:
        failing = table.filter(pc.is_valid(table[ERROR]))
        failed = failing.num_rows
        ids = Named(failing.select([name for name in names if name in _ids(table)]))
        faults = {ids[i]: failing[ERROR][i].as_py() for i in range(min(SHOWN, failed))}
    return Part(table.num_rows, int(flagged), failed, faults)


def _ids(table: Any) -> list[str]:
    from demur.batch.answering import OUTPUTS
    from demur.batch.job import ERROR

    return [name for name in table.column_names if name not in OUTPUTS and name != ERROR]


def digest(state: Any) -> str:
    """A SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()
