"""Drift alarms sent to webhooks as CloudEvents, from threads of their own: serving never waits for them."""

import base64
import contextlib
import datetime
import email.utils
import http.client
import json
import logging
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from demur._version import __version__
from demur.errors import InvalidSetting

logger = logging.getLogger("demur.serve.alarms")

TYPE = "io.demur.drift.alarm"
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
LONGEST_WAIT = 60.0
"""Most seconds between two tries, whatever a receiver asks for."""


def cloud_event(model: str, data: dict[str, Any], when: float) -> dict[str, Any]:
    """A drift alarm as a CloudEvent (version 1.0, structured JSON), with `when` in seconds since 1970."""
    moment = datetime.datetime.fromtimestamp(when, datetime.UTC)
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"//{quote(socket.gethostname() or 'localhost', safe='')}/v2/models/{quote(model, safe='')}",
        "type": TYPE,
        "subject": model,
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }


class Webhook:
    """Sends events to one address, in order, from a thread.

    Where the receiver cannot be reached, is busy (429) or broken (5xx), the event is sent again, each time after twice
    as long; any other answer except success is final. A redirect is not followed: an alarm goes only where the
    operator sent it.

    Args:
        url: http or https; user and password in the URL are sent as basic authentication, and never logged.
        ended: called with "delivered", "failed" or "dropped" for each event.
        tries: how often an event is sent, at most.
        wait: seconds before the second try.
        timeout: seconds until a silent receiver counts as not reached.
        capacity: events that may wait; more are dropped, and logged.

    Raises:
        InvalidSetting: the URL is not an http or https address.
    """

    def __init__(
        self,
        url: str,
        *,
        ended: Callable[[str], object] = lambda _: None,
        tries: int = 5,
        wait: float = 1.0,
        timeout: float = 5.0,
        capacity: int = 100,
    ) -> None:
        self._url, self._authorization, self.place = _parts(url)
        self._ended, self._tries, self._wait, self._timeout = ended, tries, wait, timeout
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue(capacity)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def send(self, event: dict[str, Any]) -> None:
        """Send an event soon; returns at once."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="demur-webhook", daemon=True)
                self._thread.start()
            with contextlib.suppress(queue.Full):
                if not self._closing.is_set():
                    self._events.put_nowait(event)
                    return
        logger.error("dropped the event %s for %s: too many wait, or it is closed", event["id"], self.place)
        self._ended("dropped")

    def close(self, timeout: float = 5.0) -> None:
        """Send the waiting events once, without pauses, for at most `timeout` seconds."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._events.put(None, timeout=timeout)
        thread.join(timeout)
        if thread.is_alive():
            logger.error("gave up on %d events for %s: the server ends", max(self._events.qsize(), 1), self.place)

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            outcome = "failed"
            try:
                outcome = self._delivered(event)
            except Exception as error:
                logger.error("could not send the event %s to %s: %s", event["id"], self.place, type(error).__name__)
            self._ended(outcome)

    def _delivered(self, event: dict[str, Any]) -> str:
        """Send an event until it is delivered, refused, or was tried often enough."""
        body = json.dumps(event, allow_nan=False).encode()
        problem, wait = "", self._wait
        for attempt in range(1, self._tries + 1):
            status, asked, problem = self._post(body)
            if 200 <= status < 300:
                logger.info("delivered the event %s to %s", event["id"], self.place)
                return "delivered"
            is_refused = 0 < status < 500 and status != 429
            if is_refused or attempt == self._tries or self._closing.is_set():
                break
            pause = min(max(wait, asked), LONGEST_WAIT)
            logger.warning("%s: %s; the event %s is sent again in %.3g s", self.place, problem, event["id"], pause)
            self._closing.wait(pause)
            wait *= 2
        logger.error("gave up sending the event %s to %s: %s", event["id"], self.place, problem)
        return "failed"

    def _post(self, body: bytes) -> tuple[int, float, str]:
        """Send once: the status (0 without answer), the seconds that the receiver asks for, and the problem."""
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"demur/{__version__}"} | self._authorization
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with _opener().open(request, timeout=self._timeout) as answer:
                status = int(answer.status)
                return status, _seconds(answer.headers.get("Retry-After")), f"status {status}"
        except urllib.error.URLError as error:
            # Not the text of the error, which may hold the address.
            return 0, 0.0, f"no connection ({type(error.reason).__name__})"
        except (OSError, ValueError, http.client.HTTPException) as error:
            return 0, 0.0, f"no answer ({type(error).__name__})"


def _opener() -> urllib.request.OpenerDirector:
    """An opener of http and https, through the proxies of the environment; any status is an answer."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    ):
        opener.add_handler(handler)
    return opener


def _parts(url: str) -> tuple[str, dict[str, str], str]:
    """The address without user and password, the header with them, and the part of the address that may be logged."""
    wrong = "a webhook is the http or https address of a receiver, such as https://example.org/alarms"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except (ValueError, TypeError, AttributeError):
        raise InvalidSetting(f"{wrong}; got something else") from None
    if parts.scheme not in ("http", "https") or not host or any(ord(sign) <= 32 for sign in url):
        raise InvalidSetting(f"{wrong}; got one of the scheme {parts.scheme!r} and host {host!r}")
    name = f"[{host}]" if ":" in host else host
    netloc = name if port is None else f"{name}:{port}"
    clean = urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    # Of some receivers, the path or the query is the password.
    return clean, headers, f"{parts.scheme}://{netloc}"


def _seconds(asked: str | None) -> float:
    """The seconds or the date of a `Retry-After` header, in seconds from now; 0 without a valid header."""
    with contextlib.suppress(TypeError, ValueError):
        return max(float(int(asked or "0")), 0.0)
    with contextlib.suppress(TypeError, ValueError):
        return max(email.utils.parsedate_to_datetime(asked or "").timestamp() - time.time(), 0.0)
    return 0.0
