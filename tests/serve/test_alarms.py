"""Alarms on their way to a real receiver over HTTP."""

import base64
import datetime
import json
import re
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from demur.errors import InvalidSetting
from demur.serve.watching.alarms import CONTENT_TYPE, TYPE, Webhook, cloud_event
from tests.scaffold.serve_fakes import until


class Receiver:
    """Takes what is posted, and answers with the statuses it is told, then 204."""

    def __init__(self, *statuses, headers=()):
        self.bodies, self.headers, self.statuses = [], [], list(statuses)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                receiver.headers.append(dict(self.headers))
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                if status is None:  # hangs up without an answer
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/alarms"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def events(self):
        return [json.loads(body) for body in self.bodies]


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def hooks():
    """Makes webhooks that hardly wait, and lists how each event ended."""
    made, outcomes = [], []

    def make(url, **settings):
        hook = Webhook(url, ended=outcomes.append, **{"wait": 0.001, "timeout": 5.0} | settings)
        made.append(hook)
        return hook

    make.outcomes = outcomes
    yield make
    for hook in made:
        hook.close()


def event(number=0, name="digits"):
    return cloud_event(name, {"model": name, "scores": number}, 1_700_000_000.25)


def test_an_event_arrives_as_it_was_sent(receiver, hooks):
    sent = event()
    hooks(receiver.url).send(sent)
    until(lambda: hooks.outcomes == ["delivered"])
    assert receiver.events == [sent]
    assert receiver.headers[0]["Content-Type"] == CONTENT_TYPE
    assert receiver.headers[0]["User-Agent"].startswith("demur/")
    assert "Authorization" not in receiver.headers[0]


def test_an_event_keeps_the_rules_of_cloudevents():
    one = event(name="röntgen 1/2")
    assert one["specversion"] == "1.0"
    assert one["type"] == TYPE
    assert one["subject"] == "röntgen 1/2"
    assert re.fullmatch(r"//[A-Za-z0-9._~%-]+/v2/models/[A-Za-z0-9._~%-]+", one["source"])
    assert one["id"] != event()["id"]
    assert one["time"] == "2023-11-14T22:13:20.250Z"
    assert one["datacontenttype"] == "application/json"
    # Names of attributes are lower-case letters and digits, and all but the data are texts that are not empty.
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in one)
    assert all(isinstance(value, str) and value for name, value in one.items() if name != "data")


def test_the_package_of_cloudevents_reads_it(receiver, hooks):
    pytest.importorskip("cloudevents")
    from cloudevents.core.bindings.http import HTTPMessage, from_http_event

    sent = event(7)
    hooks(receiver.url).send(sent)
    until(lambda: receiver.bodies)
    read = from_http_event(HTTPMessage(headers=receiver.headers[0], body=receiver.bodies[0]))
    assert read.get_specversion() == "1.0"
    assert read.get_type() == TYPE
    assert read.get_id() == sent["id"]
    assert read.get_subject() == "digits"
    assert read.get_time() == datetime.datetime(2023, 11, 14, 22, 13, 20, 250_000, datetime.UTC)
    assert read.get_data() == {"model": "digits", "scores": 7}


@pytest.mark.parametrize("first", [500, 503, 429, None])
def test_what_may_pass_is_tried_again_with_the_same_event(receiver, hooks, first):
    receiver.statuses[:] = [first, first]
    hooks(receiver.url).send(event())
    until(lambda: hooks.outcomes == ["delivered"])
    assert len(receiver.bodies) == 3
    assert len(set(receiver.bodies)) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 301, 307])
def test_what_is_refused_or_sent_elsewhere_is_not_tried_again(receiver, hooks, status, caplog):
    receiver.statuses[:] = [status]
    hooks(receiver.url).send(event())
    until(lambda: hooks.outcomes == ["failed"])
    assert len(receiver.bodies) == 1
    assert f"status {status}" in caplog.text


def test_a_redirect_is_not_followed(hooks, receiver):
    first = Receiver(302, headers=[("Location", receiver.url)])
    try:
        hooks(first.url).send(event())
        until(lambda: hooks.outcomes == ["failed"])
    finally:
        first.close()
    assert receiver.bodies == []


def test_it_gives_up_after_so_many_tries(receiver, hooks, caplog):
    receiver.statuses[:] = [500] * 99
    hooks(receiver.url, tries=3).send(event())
    until(lambda: hooks.outcomes == ["failed"])
    assert len(receiver.bodies) == 3
    assert "gave up" in caplog.text


def test_each_pause_is_twice_as_long_and_at_least_what_the_receiver_asks(hooks, monkeypatch):
    asking = Receiver(500, 500, 500, headers=[("Retry-After", "3")])
    pauses = []
    try:
        hook = hooks(asking.url, wait=1.0)
        monkeypatch.setattr(hook._closing, "wait", pauses.append)
        hook.send(event())
        until(lambda: hooks.outcomes == ["delivered"])
    finally:
        asking.close()
    assert pauses == [3.0, 3.0, 4.0]


def test_no_pause_is_longer_than_a_minute_whatever_is_asked(hooks, monkeypatch):
    asking = Receiver(503, headers=[("Retry-After", formatdate(4e9, usegmt=True))])
    pauses = []
    try:
        hook = hooks(asking.url)
        monkeypatch.setattr(hook._closing, "wait", pauses.append)
        hook.send(event())
        until(lambda: hooks.outcomes == ["delivered"])
    finally:
        asking.close()
    assert pauses == [60.0]


def test_events_arrive_in_their_order_also_when_the_first_takes_several_tries(receiver, hooks):
    receiver.statuses[:] = [500, None, 204]
    hook = hooks(receiver.url)
    for number in range(5):
        hook.send(event(number))
    until(lambda: len(hooks.outcomes) == 5)
    assert [one["data"]["scores"] for one in receiver.events] == [0, 0, 0, 1, 2, 3, 4]


def test_sending_never_waits_and_drops_what_is_too_much(hooks, caplog):
    arrived, answer = threading.Event(), threading.Event()
    hook = hooks("http://127.0.0.1:9/", capacity=2)
    hook._post = lambda body: (arrived.set(), answer.wait(20), (204, 0.0, ""))[2]
    try:
        hook.send(event(0))
        assert arrived.wait(20)  # the first is on its way and takes no room
        for number in range(1, 5):
            hook.send(event(number))
        assert hooks.outcomes == ["dropped", "dropped"]
        assert "dropped" in caplog.text
    finally:
        answer.set()
    until(lambda: sorted(hooks.outcomes) == ["delivered"] * 3 + ["dropped"] * 2)


def test_nobody_there_is_a_failure_and_no_more(hooks, caplog):
    gone = Receiver()
    gone.close()
    hooks(gone.url, tries=2).send(event())
    until(lambda: hooks.outcomes == ["failed"])
    assert "no connection (ConnectionRefusedError)" in caplog.text


def test_closing_tries_what_waits_once_and_ends_pauses(receiver, hooks, caplog):
    receiver.statuses[:] = [500, 500]
    hook = hooks(receiver.url, wait=1000.0)
    hook.send(event(0))
    hook.send(event(1))
    until(lambda: "sent again in 60 s" in caplog.text)
    hook.close()
    assert hooks.outcomes == ["failed", "delivered"]
    hook.send(event(2))
    assert hooks.outcomes[-1] == "dropped"


def test_a_password_is_sent_and_never_logged(receiver, hooks, caplog):
    caplog.set_level("DEBUG")
    secret = "s3cr3t%2F+word"
    receiver.statuses[:] = [500, 400]
    hooks(f"http://me:{secret}@127.0.0.1:{receiver.port}/hook/t0ken?sig=abc123").send(event())
    until(lambda: hooks.outcomes == ["failed"])
    assert base64.b64decode(receiver.headers[0]["Authorization"].removeprefix("Basic ")) == b"me:s3cr3t/+word"
    assert f"http://127.0.0.1:{receiver.port}" in caplog.text
    for hidden in ("s3cr3t", "t0ken", "abc123", "me:"):
        assert hidden not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "example.org/x",
        "http://",
        "http://a b/",
        "http://x:99999/",
        "",
        None,
    ],
)
def test_other_addresses_are_refused_at_once(url):
    with pytest.raises(InvalidSetting, match="a webhook is the http or https address"):
        Webhook(url)


def test_a_refusal_does_not_show_the_password():
    with pytest.raises(InvalidSetting) as found:
        Webhook("ftp://me:s3cr3t@example.org/x")
    assert "s3cr3t" not in str(found.value)
