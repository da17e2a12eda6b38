"""Logs: for people, or a JSON object a line for machines."""

import itertools
import logging
import re
import secrets
import sys
import time
from typing import Any, Literal

import orjson

ROOT = "demur.serve"
ACCESS = logging.getLogger("demur.serve.access")
FIELDS = "demur"
"""The attribute of a log record that holds what JSON shows beside the message."""
CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), 127, *range(128, 160), 0x2028, 0x2029)}
"""What would begin a line, or command a terminal, and may come from a client: shown as Python writes it."""


SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""A request id of a client that can stand in a log and a header."""


class RequestIds:
    """What the log calls requests: as their clients do if that is sane, or else by a name that no other has."""

    def __init__(self) -> None:
        self._prefix, self._numbers = secrets.token_hex(6), itertools.count(1)

    def of(self, asked: str) -> str:
        """The id of a request whose client calls it so."""
        return asked if SANE_ID.fullmatch(asked) else f"{self._prefix}-{next(self._numbers)}"


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and what the record's `demur` attribute holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": f"{_moment(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """The time, the level where it is not the usual one, the message and its figures."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        figures = "".join(f" {name}={value}" for name, value in getattr(record, FIELDS, {}).items())
        text = f"{_moment(int(record.created))}Z {level}{f'{record.getMessage()}{figures}'.translate(CONTROLS)}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


_last = (0, "")


def _moment(seconds: int) -> str:
    """A time to the second, in UTC; made once a second."""
    global _last  # noqa: PLW0603
    if _last[0] != seconds:
        _last = seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return _last[1]


def set_up(style: Literal["text", "json"], *, access: bool) -> None:
    """Send the server's logs to standard error. For the process that serves, not for those that embed a server.

    Args:
        style: of the lines.
        access: whether each request is logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    for name, level in ((ROOT, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    ACCESS.setLevel(logging.INFO if access else logging.WARNING)
    # Who called the logger is shown nowhere; finding it out costs more than the rest of a line.
    logging._srcfile = None  # noqa: SLF001 - as the documentation of logging advises
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def is_on() -> bool:
    """Whether each request is logged."""
    return ACCESS.isEnabledFor(logging.INFO)


def access(request: str, **figures: Any) -> None:
    """Log that a request was answered."""
    ACCESS.info(request, extra={FIELDS: figures})
