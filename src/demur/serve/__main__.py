"""The child of a supervisor: `python -m demur.serve SOCKET READY`, for `demur.serve.supervisor` alone.

SOCKET is the descriptor of the listening socket, and READY the descriptor of a pipe that is written to once requests
can come. The settings come by standard input, whose end says that the supervisor is gone.
"""

import os
import signal
import socket
import sys
import threading

from demur.errors import DemurError
from demur.serve.launch import run
from demur.serve.settings import Settings


def main() -> int:
    """Serve; if that cannot be, say why on one line."""
    listener, ready = map(int, sys.argv[1:])

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    def started() -> None:
        os.write(ready, b"ready")
        os.close(ready)
        threading.Thread(target=watch, name="demur-supervisor", daemon=True).start()

    try:
        return run(Settings.from_json(sys.stdin.readline()), socket.socket(fileno=listener), started)
    except (DemurError, OSError) as error:
        print(f"demur: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
