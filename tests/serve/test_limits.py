"""Clients that are slow, go on for ever, or come in crowds: told by raw sockets, with tiny limits."""

import contextlib
import json
import socket

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol

from demur.serve.transport import connections
from tests.scaffold.serve_fakes import FakeGuard, Running, images, until

INFER = "/v2/models/guard/infer"


def body(n=1):
    x = images(n)
    entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [entry]}).encode()


def head(length, *more):
    lines = [f"POST {INFER} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


@contextlib.contextmanager
def connected(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        yield connection


def answer(connection):
    """All that comes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def one_answer(connection):
    """One answer, on a connection that stays open."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65536)
    start, _, rest = text.partition(b"\r\n\r\n")
    length = int(
        next(line for line in start.split(b"\r\n") if line.lower().startswith(b"content-length")).split(b":")[1]
    )
    while len(rest) < length:
        rest += connection.recv(65536)
    return start.decode()


@pytest.fixture(params=["httptools", "h11"])
def server(request, monkeypatch):
    """A server of little patience, with either of uvicorn's parsers."""
    if request.param == "h11":
        made = type("Connection", (connections.Impatient, H11Protocol), {})
        monkeypatch.setattr(connections, "protocol_class", lambda settings: type("C", (made,), {"limits": settings}))
    with Running(head_seconds=0.3, request_seconds=0.4, idle_seconds=30, max_connections=4) as running:
        yield running


def test_a_connection_that_says_nothing_is_closed(server):
    with connected(server) as connection:
        assert answer(connection) == ""


def test_a_head_that_never_ends_is_a_408(server):
    with connected(server) as connection:
        connection.sendall(b"POST /v2 HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        text = answer(connection)
        assert text.startswith("HTTP/1.1 408 ")
        assert '{"error":"the head of the request did not come whole within 0.3 seconds"}' in text


def test_a_second_head_that_never_ends_is_a_408_too(server):
    with connected(server) as connection:
        connection.sendall(head(len(body())) + body())
        assert one_answer(connection).startswith("HTTP/1.1 200 ")
        connection.sendall(b"GET /v2 HT")
        assert answer(connection).startswith("HTTP/1.1 408 ")


def test_a_body_that_comes_too_slowly_is_a_408(server):
    with connected(server) as connection:
        connection.sendall(head(len(body())) + body()[:10])
        text = answer(connection)
        assert text.startswith("HTTP/1.1 408 ")
        assert "the body did not come whole within 0.4 seconds" in text


def test_slow_clients_do_not_keep_others_waiting(server):
    with connected(server) as slow, connected(server) as half, connected(server) as quick:
        slow.sendall(head(len(body())) + body()[:10])
        half.sendall(b"GET /v2")
        quick.sendall(head(len(body())) + body())
        assert one_answer(quick).startswith("HTTP/1.1 200 ")


def test_what_is_not_http_is_a_400(server):
    with connected(server) as connection:
        connection.sendall(b"hello\r\n\r\n")
        text = answer(connection)
        assert text.startswith("HTTP/1.1 400 ")
        assert "application/json" in text


def test_a_head_that_is_too_large_is_refused(server):
    with connected(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /v2 HTTP/1.1\r\n" + b"X-Long: " + b"x" * 200_000)
        assert answer(connection)[:12] in ("HTTP/1.1 431", "HTTP/1.1 400", "")  # h11 has a limit of its own
    assert_alive(server)


def test_more_connections_than_allowed_are_refused(server):
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(connected(server))
            connection.sendall(head(len(body())) + body())
            assert one_answer(connection).startswith("HTTP/1.1 200 ")
        with connected(server) as refused:
            text = answer(refused)
            assert text.startswith("HTTP/1.1 503 ")
            assert "retry-after: 1" in text
    until(lambda: not server.connections)
    assert_alive(server)


def test_many_requests_on_one_connection_are_answered_in_order(server):
    with connected(server) as connection:
        connection.sendall(b"".join(head(len(body(n)), f"X-Request-ID: r{n}") + body(n) for n in (1, 2, 3)))
        text = ""
        while text.count("x-request-id") < 3:
            text += connection.recv(65536).decode()
        assert text.index("r1") < text.index("r2") < text.index("r3")


def assert_alive(server):
    with connected(server) as connection:
        connection.sendall(head(len(body())) + body())
        assert one_answer(connection).startswith("HTTP/1.1 200 ")


def test_a_client_that_does_not_read_is_cut_off(caplog):
    guard = FakeGuard()
    with Running([guard], request_seconds=0.3, max_batch=4096, monitor=False) as server:
        with connected(server) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            x = body(2000)
            connection.settimeout(3)
            with contextlib.suppress(OSError):  # it asks for much, and reads nothing
                for _ in range(200):
                    connection.sendall(head(len(x)) + x)
            until(lambda: not server.connections)
        assert_alive(server)
    assert not caplog.records  # it is nobody's error but the client's


def test_a_body_that_is_much_too_large_is_refused_before_it_has_come():
    with Running(max_body_mb=0.001) as server, connected(server) as connection:
        connection.sendall(head(10**9))
        text = answer(connection)
        assert text.startswith("HTTP/1.1 413 ")
        assert "connection: close" in text


def test_bodies_in_pieces_are_put_together():
    with Running() as server, connected(server) as connection:
        connection.sendall(
            b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        whole = body()
        for start in range(0, len(whole), 100):
            part = whole[start : start + 100]
            connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert one_answer(connection).startswith("HTTP/1.1 200 ")


def test_a_client_that_waits_to_be_asked_is_asked():
    with Running() as server, connected(server) as connection:
        connection.sendall(head(len(body()), "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body())
        assert one_answer(connection).startswith("HTTP/1.1 200 ")
