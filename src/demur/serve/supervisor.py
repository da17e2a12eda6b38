"""Runs the server in a child process, which is started again when it dies.

This process owns the listening socket, and only waits: while there is no child, connections wait in the queue of the
socket, and the next child answers them.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import cast

from demur.serve.launch import PATIENCE, listening
from demur.serve.settings import Settings

BACK_OFF = (0.1, 10.0)
"""First and longest pause, in seconds, before a child is started again."""
STEADY_SECONDS = 60.0
"""After so long a life of a child, the next pause is the first one again."""


class Supervisor:
    """Owns the listening socket, and keeps a child process serving on it: `demur.serve.__main__`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._child: asyncio.subprocess.Process | None = None
        self._is_stopping = False

    def run(self) -> int:
        """Supervise until SIGINT or SIGTERM; return the exit status."""
        self._listener = listening(self.settings)
        with self._listener:
            return asyncio.run(self._supervise())

    async def _supervise(self) -> int:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        pause, was_ready = BACK_OFF[0], False
        while True:
            begun = time.monotonic()
            status, ready = await self._one_life()
            was_ready = was_ready or ready
            if self._is_stopping:
                return max(status, 0)
            if not was_ready:  # an error from the start would come again; the child has said what is wrong
                return status if status > 0 else 1
            pause = BACK_OFF[0] if time.monotonic() - begun > STEADY_SECONDS else pause
            print(f"demur: the server ended with status {status}; it is started again", file=sys.stderr, flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
                return 0
            pause = min(2 * pause, BACK_OFF[1])

    async def _one_life(self) -> tuple[int, bool]:
        """Start a child and wait for its end: its status, and whether it ever served."""
        reading, writing = os.pipe()
        listener = self._listener.fileno()
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "demur.serve"),
                str(listener),
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(listener, writing),
            )
        finally:
            os.close(writing)
        self._child = child
        stdin = cast("asyncio.StreamWriter", child.stdin)  # there, because a pipe was asked for
        with contextlib.suppress(OSError):
            stdin.write(self.settings.to_json().encode() + b"\n")
            await stdin.drain()
        if self._is_stopping:
            self._pass_on(signal.SIGTERM)
        waiting = asyncio.ensure_future(child.wait())
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([waiting, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not waiting.done():
            await asyncio.wait([waiting], timeout=self.settings.shutdown_seconds + PATIENCE)
        if not waiting.done():
            child.kill()
        status = await waiting
        self._child = None
        with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
            return status, bool(pipe.read())

    def _end(self) -> None:
        self._is_stopping = True
        self._listener.close()  # new connections are refused at once
        self._stop.set()
        self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)
