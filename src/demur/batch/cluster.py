"""Where tasks run: a cluster that is there, or one of this machine's cores; and how a guard gets to its workers."""

import contextlib
import importlib
import socket
from collections.abc import Iterator
from typing import Any

from demur.batch.guards import Packed
from demur.errors import InvalidSetting, MissingExtra, WrongType

TIMEOUT = 10.0
"""Seconds for a scheduler to answer."""


def distributed_module() -> Any:
    """Import Dask's distributed scheduler.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        importlib.import_module("dask.dataframe")
        import distributed
    except ImportError as error:
        raise MissingExtra("dask", "batch") from error
    return distributed


@contextlib.contextmanager
def connected(client: Any = None, *, workers: int | None = None, memory_limit: Any = "auto") -> Iterator[Any]:
    """Yield a client: the one given, the current one, one of an address, or one of a cluster that ends with this.

    Args:
        client: a `distributed.Client`, an address (`tcp://host:8786`), or None for the current client, and if there is
            none for a local cluster with a process a core and a thread in each.
        workers: processes of a local cluster; None for one a core.
        memory_limit: of each of them, as Dask writes it ("2GB"); at 60 and 70 % of it data go to disk, at 80 % the
            worker waits, at 95 % it is started anew.

    Raises:
        WrongType: `client` is none.
        InvalidSetting: there is no scheduler at the address.
        MissingExtra: Dask is not installed.
    """
    distributed = distributed_module()
    if client is None:
        with contextlib.suppress(ValueError):
            client = distributed.default_client()
    if isinstance(client, distributed.Client):
        yield client
        return
    if isinstance(client, str):
        try:
            # Whether anybody listens, first: a Client that was not made whole can, when it is collected, hang whatever
            # Dask is starting then.
            socket.create_connection(distributed.comm.get_address_host_port(client), timeout=TIMEOUT).close()
            found = distributed.Client(client, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InvalidSetting(f"there is no Dask scheduler at {client}: {error}") from error
        with found:
            yield found
        return
    if client is not None:
        raise WrongType(f"client is a distributed.Client or the address of a scheduler; got {type(client).__name__}")
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
    """Raise InvalidSetting unless Dask can read a limit: with one that it cannot, a local cluster never starts."""
    from dask.utils import parse_bytes

    try:
        fine = memory_limit in ("auto", None) or parse_bytes(memory_limit) > 0
    except (ValueError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise InvalidSetting(f"memory_limit is 'auto', or a size like '2GB'; got {memory_limit!r}")


def deliver(client: Any, guard: Packed) -> None:
    """Send a guard to every worker, those that come or are started anew later too."""
    distributed_module()
    from demur.batch.delivery import Delivery

    client.register_plugin(Delivery(guard.ref, guard.forms))
