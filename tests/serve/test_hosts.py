"""The names that a server of one machine goes by, and pages that want to ask it all the same."""

import httpx
import pytest

from demur.serve.serving.protocol import ProtocolError
from demur.serve.settings import Settings
from demur.serve.transport.access import HostNames, Keys, new_key
from tests.scaffold.serve_fakes import Running, images

LIVE = "/v2/health/live"


def refused(names, host, origin=""):
    try:
        names.check(host.encode("latin-1"), origin.encode("latin-1"))
    except ProtocolError as error:
        return error.status
    return None


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "LocalHost:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:80", "localhost."],
)
def test_this_machine_is_known_by_its_names_at_any_port(host):
    assert refused(HostNames(), host) is None
    assert refused(HostNames(), host, f"http://{host}") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example",
        "127x0x0x1",
        "127.0.0.2",
        "::1",
        "localhost:80:80",
        "localhost\n",
        "user@localhost",
        "\xe9",
    ],
)
def test_others_are_not(host):
    assert refused(HostNames(), host) == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://localhost.evil.example", "file://localhost"]
)
def test_pages_from_elsewhere_may_not_ask(origin):
    assert refused(HostNames(), "localhost", origin) == 403


def test_names_can_be_added():
    names = HostNames(["demur.internal", "127.0.0.2", "::2"])
    for host in ("demur.internal", "Demur.Internal:443", "127.0.0.2:80", "[::2]:80", "localhost"):
        assert refused(names, host, f"https://{host}") is None
    assert refused(names, "demurxinternal") == 421


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches_is_known(host, is_local):
    assert Settings(host=host).is_local == is_local


def test_a_server_of_one_machine_answers_to_its_own_names_alone():
    with Running(allow_hosts=("allowed.example",)) as server, httpx.Client(base_url=server.url) as client:
        for host in ("localhost:1", "allowed.example"):
            assert client.get(LIVE, headers={"Host": host}).status_code == 200
        x = images(1)
        body = {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}
        for method, path in (("GET", LIVE), ("GET", "/"), ("GET", "/live/guard"), ("POST", "/v2/models/guard/infer")):
            response = client.request(method, path, json=body, headers={"Host": "evil.example:8080"})
            assert response.status_code == 421
            assert "not called 'evil.example:8080'" in response.json()["error"]
            assert "--allow-host" in response.json()["error"]
        headers = {"Origin": "http://evil.example", "Content-Type": "text/plain"}  # which browsers send unasked
        response = client.post("/v2/models/guard/infer", json=body, headers=headers)
        assert response.status_code == 403
        assert "a page of 'http://evil.example'" in response.json()["error"]
        assert client.get("/live/guard").json()["count"] == 0


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"keys": True}])
def test_a_server_that_others_reach_or_that_asks_for_keys_answers_to_any_name(settings):
    if "keys" in settings:
        settings = {"keys": Keys(dict([new_key("ann")[1].split(":")]))}
    with Running(**settings) as server:
        assert httpx.get(server.url + LIVE, headers={"Host": "demur.example"}).status_code == 200
