"""Where tasks run: a cluster that is there, or one of this machine's cores; and how a guard gets to its workers."""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from demur.batch.guards import GuardRef, Packed
from demur.errors import InvalidSetting, WrongType
from demur.extras import extra

TIMEOUT = 10.0
"""Seconds for a scheduler to answer."""


def distributed_module() -> Any:
    """Import Dask's distributed scheduler; raises MissingExtra where Dask is missing."""
    with extra("dask", "batch"):
        import dask.dataframe  # noqa: F401 - so that a missing part of it is told here
        import distributed
    return distributed


def current_client() -> Any:
    """The client that the caller has made current, or None."""
    try:
        return distributed_module().default_client()
    except ValueError:
        return None


@contextlib.contextmanager
def connected(client: Any = None, *, workers: int | None = None, memory_limit: Any = "auto") -> Iterator[Any]:
    """Yield a client: the one that is given, the current one, a new one for an address, or one of a local cluster.

    What was made here, a client or a cluster, ends with the block. A local cluster is made where no client is given and
    none is current; it has one thread in each of its processes, one process a core if `workers` does not say how many.
    The memory limit of a process is what Dask reads ("2GB"): at 60 and 70 % of it data go to disk, at 80 % the worker
    waits, at 95 % it is started anew.

    Raises:
        WrongType: `client` is something else.
        InvalidSetting: there is no scheduler at the address.
        MissingExtra: Dask is not installed.
    """
    distributed = distributed_module()
    client = current_client() if client is None else client
    if isinstance(client, distributed.Client):
        yield client
    elif isinstance(client, str):
        try:
            # Whether anybody listens, first: a Client that was not made whole can, when it is collected, hang whatever
            # Dask is starting then.
            socket.create_connection(distributed.comm.get_address_host_port(client), timeout=TIMEOUT).close()
            found = distributed.Client(client, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"there is no Dask scheduler at {client}: {error}") from error
        with found:
            yield found
    elif client is not None:
        raise WrongType(f"client is a distributed.Client or the address of a scheduler; got {type(client).__name__}")
    else:
        check_memory(memory_limit)
        cluster = distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=memory_limit,
            dashboard_address="127.0.0.1:0",
            silence_logs=40,
        )
        with cluster, distributed.Client(cluster, set_as_default=False) as found:
            yield found


def check_memory(memory_limit: Any) -> None:
    """Raise InvalidSetting unless Dask can read a limit: with one that it cannot read, a local cluster never starts."""
    from dask.utils import parse_bytes

    try:
        fine = memory_limit in ("auto", None) or parse_bytes(memory_limit) > 0
    except (ValueError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise InvalidSetting(f"memory_limit is 'auto', or a size like '2GB'; got {memory_limit!r}")


def deliver(client: Any, guard: Packed) -> None:
    """Send a guard to every worker, including workers that come or are started anew later."""

    class Delivery(distributed_module().WorkerPlugin):  # type: ignore[misc]
        """Writes a guard's forms into the worker's own folder, when the plugin or the worker comes."""

        idempotent = True

        def __init__(self, ref: GuardRef, forms: Mapping[str, bytes]) -> None:
            self.name, self.ref, self.forms = f"demur-{ref.content}", ref, dict(forms)

        def setup(self, worker: Any) -> None:
            self.ref.write(self.forms, worker.local_directory)

    client.register_plugin(Delivery(guard.ref, guard.forms))
