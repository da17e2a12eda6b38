"""What brings a guard to each worker of a Dask cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import WorkerPlugin

from demur.batch.guards import GuardRef


class Delivery(WorkerPlugin):  # type: ignore[misc]
    """Writes a guard's forms into the worker's own folder, when the plugin or the worker comes."""

    idempotent = True

    def __init__(self, ref: GuardRef, forms: Mapping[str, bytes]) -> None:
        self.name = f"demur-{ref.content}"
        self.ref, self.forms = ref, dict(forms)

    def setup(self, worker: Any) -> None:
        """Write what is not there yet."""
        for kind, contents in self.forms.items():
            path = Path(worker.local_directory) / self.ref.file_name(kind)
            if not path.exists():
                draft = path.with_suffix(".tmp")
                draft.write_bytes(contents)
                draft.replace(path)
