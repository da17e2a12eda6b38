"""Starting, ending, and being killed: by real processes where that matters."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
import tritonclient.grpc as triton

from demur import cli
from demur.errors import InvalidSetting
from demur.serve import Settings, launch
from demur.serve.launch import greeting, listening
from demur.serve.serving.models import Models
from tests.scaffold.serve_fakes import FakeGuard, Running, held, images, until

INFER = "/v2/models/guard/infer"


def document(x):
    return {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}


# In a thread ----------------------------------------------------------------------------------------------------------


def test_what_was_accepted_is_finished_when_the_server_is_told_to_end():
    guard = FakeGuard()
    answers = []

    def ask():
        answers.append(httpx.post(server.url + INFER, json=document(images(2)), timeout=20))

    with Running([guard]) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        idle.request("GET", "/v2/health/ready")
        assert json.loads(idle.getresponse().read()) == {"live": True, "ready": True}
        with held(guard):
            threads = [threading.Thread(target=ask) for _ in range(2)]
            threads[0].start()
            assert guard.began.acquire(timeout=10)
            threads[1].start()
            until(lambda: server.service.models["guard"].batcher.waiting == 2)
            server.stop()
            until(lambda: not server.service.is_ready())
            # Connections that are open are still answered, once; new ones are not taken.
            idle.request("GET", "/v2/health/ready")
            response = idle.getresponse()
            assert (response.status, response.getheader("connection")) == (503, "close")
            assert json.loads(response.read()) == {"live": True, "ready": False}
            until(lambda: refuses(server.port))
            assert not answers
        for thread in threads:
            thread.join(10)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert guard.calls[0][0] == guard.calls[1][0] == 2


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_guard_that_never_returns_does_not_keep_the_server_from_its_end(monkeypatch):
    monkeypatch.setattr(launch, "PATIENCE", 0.2)
    guard = FakeGuard()
    with held(guard):
        with Running([guard], shutdown_seconds=0.2) as server:
            asking = threading.Thread(target=ask, args=(server,))
            asking.start()
            assert guard.began.acquire(timeout=10)
        asking.join(10)


def ask(server):
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(server.url + INFER, json=document(images(1)), timeout=20)


def test_the_state_of_the_monitors_is_kept_when_the_server_ends(tmp_path):
    with Running(state=str(tmp_path)) as server:
        httpx.post(server.url + INFER, json=document(images(5)))
    assert json.loads((tmp_path / "guard.json").read_text())["count"] == 5


def test_the_monitors_watch_as_they_are_told(tmp_path):
    with Running(state=str(tmp_path), alpha=0.002, tolerance=0.03, cooldown=70, every=2) as server:
        httpx.post(server.url + INFER, json=document(images(5)))
    state = json.loads((tmp_path / "guard.json").read_text())
    kept = state["settings"]
    assert (kept["alpha"], kept["tolerance"], kept["cooldown"], kept["every"]) == (0.002, 0.03, 70, 2)
    assert (state["count"], state["passed"]) == (3, 2)


# Settings -------------------------------------------------------------------------------------------------------------


def test_settings_survive_the_way_to_the_child():
    settings = Settings(
        paths=("a", "b"),
        webhooks=("http://x",),
        allow_hosts=("a.example", "b.example"),
        max_body_mb=1.5,
        api_keys="keys",
        threads=2,
    )
    assert Settings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"request_seconds": 0}, "request_seconds"),
        ({"shutdown_seconds": -1}, "shutdown_seconds"),
        ({"port": 70_000}, "port"),
        ({"threads": 0}, "threads"),
        ({"alpha": 0}, "alpha is the chance"),
        ({"alpha": float("nan")}, "alpha is the chance"),
        ({"tolerance": 1}, "tolerance is a share"),
        ({"every": 0}, "every is a whole number"),
        ({"cooldown": 0}, "cooldown is a whole number"),
        ({"tls_cert": "x"}, "both a certificate and its key"),
    ],
)
def test_settings_that_mean_nothing_are_refused(given, message):
    with pytest.raises(InvalidSetting, match=message):
        Settings(**given)


def test_an_address_that_is_taken_is_told():
    with listening(Settings(port=0)) as taken, pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:"):
        listening(Settings(port=taken.getsockname()[1]))


def test_the_greeting_says_what_is_served_and_where(tmp_path):
    file = tmp_path / "guard.onnx"
    file.write_text("")
    text = greeting(Models.load([file], lambda path: FakeGuard(threshold=2.5)), Settings(host="0.0.0.0"), 8080)
    assert "http://127.0.0.1:8080/" in text
    assert re.search(r"guard: AdversarialAE, threshold 2.5, version \w{12}, from ", text)
    assert "gRPC" not in text


def test_the_command_line_says_what_is_missing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve"])
    assert "name at least one PATH" in capsys.readouterr().err
    for arguments, message in [(["a", "b", "--name", "x"], "write NAME=PATH"), (["a", "--name", "x/y"], "slashes")]:
        with pytest.raises(SystemExit):
            cli.main(["serve", *arguments])
        assert message in capsys.readouterr().err
    assert cli.main(["serve", str(tmp_path / "no.onnx"), "--no-supervisor", "--port", "0"]) == 1
    assert "there is no guard at" in capsys.readouterr().err


# Processes ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(*arguments):
    """`demur serve` as its user starts it: the process, what it has said, and where it serves."""
    command = [sys.executable, "-m", "demur.cli", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    reading = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reading.start()
    try:
        until(lambda: any("demur serves on" in line for line in lines) or process.poll() is not None, 30)
        yield (
            process,
            lines,
            next((re.search(r"https?://\S+:\d+", line)[0] for line in lines if "serves on" in line), ""),
        )
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        reading.join(10)
        process.stdout.close()


def child_of(process):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in found.stdout.split()]
    return pids[0] if pids else None


def request(x):
    return {**document(x), "outputs": [{"name": "instance_score"}]}


def test_a_killed_child_is_replaced_and_connections_wait_meanwhile(guard_file, tmp_path):
    state = tmp_path / "state"
    with serving(guard_file, "--state", state, "--log-format", "json") as (process, lines, url):
        x = images(3)
        before = httpx.post(f"{url}/v2/models/digits/infer", json=request(x), timeout=30).json()
        first = child_of(process)
        os.kill(first, signal.SIGKILL)
        # Nobody listens until the next child does: this connection waits in the socket's queue.
        after = httpx.post(f"{url}/v2/models/digits/infer", json=request(x), timeout=30).json()
        assert after == before
        assert child_of(process) != first
        assert any("ended with status -9; it is started again" in line for line in lines)

        process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{url}/v2/health/ready", timeout=10).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert json.loads((state / "digits.json").read_text())["count"] in (
        3,
        6,
    )  # the first child may have saved its three
    logged = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line["rows"] for line in logged if line["message"].endswith("/infer")] == [3, 3]


def test_the_child_ends_with_its_supervisor(guard_file):
    with serving(guard_file) as (process, _, url):
        child = child_of(process)
        process.kill()
        process.wait(10)
        until(lambda: not is_running(child))
        assert refuses(int(url.rpartition(":")[2]))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found) and not found.startswith("Z")


def test_what_is_wrong_from_the_start_is_told_once(tmp_path):
    with serving(tmp_path / "no.onnx") as (process, lines, _):
        assert process.wait(20) == 1
        until(lambda: lines)
    assert "".join(lines).count("there is no guard at") == 1


def test_one_process_alone_ends_gracefully_too(guard_file):
    options = ["--no-supervisor", "--no-access-log", "--name", "fraud", "--grpc-port", "0"]
    with serving(guard_file, *options) as (process, lines, url):
        assert child_of(process) is None
        assert httpx.post(f"{url}/v2/models/fraud/infer", json=request(images(2)), timeout=10).status_code == 200
        until(lambda: len(lines) == 3)
        address = re.fullmatch(r"  gRPC: (127\.0\.0\.1:\d+)\n", lines[2])[1]
        with triton.InferenceServerClient(address) as client:  # the port that was found, where any would do
            assert client.is_model_ready("fraud")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert len(lines) == 3


def test_without_a_folder_the_state_is_kept_where_programs_keep_theirs(tmp_path, monkeypatch, capsys):
    from demur.cli.server import usual_state

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert usual_state(8080) == tmp_path / "demur" / "port-8080"
    assert usual_state(8080).is_dir()
    assert usual_state(0) is None
    assert capsys.readouterr().err == ""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert usual_state(8080) is None
    assert "--state" in capsys.readouterr().err
