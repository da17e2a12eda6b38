"""The child of a supervisor: `python -m demur.serve SOCKET READY`, for `demur.serve.supervisor` alone."""

import sys

from demur.errors import DemurError
from demur.serve.supervisor import child


def main() -> int:
    """Serve, and say on one line what is wrong if that cannot be."""
    try:
        return child(int(sys.argv[1]), int(sys.argv[2]))
    except (DemurError, OSError) as error:
        print(f"demur: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
