"""Guards from files: loaded by name, and replaced while they serve."""

import asyncio
import json
import os
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from demur.errors import DetectorNotFound, InvalidSetting, NotADetector
from demur.serve.serving import service
from demur.serve.serving.models import Models, load_guard, named, stamp
from tests.scaffold.serve_fakes import FakeGuard, Running, held, images, until

INFER = "/v2/models/guard/infer"


def write(path, **settings):
    """A file that `read` makes a guard of, put in place as a whole."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(settings))
    draft.replace(path)


def read(path):
    """Make a guard of a file."""
    settings = json.loads(path.read_text())
    if "shape" in settings:
        settings["shape"] = tuple(settings["shape"])
    return FakeGuard(path.stem, **settings)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "guard.onnx"
    write(file, seed=0)
    return file


def document(x):
    return {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}


def test_models_are_named_after_their_files(tmp_path):
    for name in ("b.onnx", "a.v2.onnx"):
        write(tmp_path / name, seed=1)
    found = Models.load([tmp_path / "b.onnx", tmp_path / "a.v2.onnx"], read)
    assert list(found) == ["b", "a.v2"]
    assert found["b"].version == found["b"].guard.sha256[:12]
    assert [size for size, _ in found["b"].guard.calls] == [1]  # it has run once before anybody asks


def test_models_can_be_given_other_names(tmp_path):
    for name in ("b.onnx", "lr=0.1.onnx"):
        write(tmp_path / name, seed=1)
    odd = f"odd={tmp_path / 'lr=0.1.onnx'}"
    found = Models.load([f"cats={tmp_path / 'b.onnx'}", f"dogs={tmp_path / 'b.onnx'}", odd], read)
    assert {name: one.path.name for name, one in found.items()} == {
        "cats": "b.onnx",
        "dogs": "b.onnx",
        "odd": "lr=0.1.onnx",
    }
    assert [one.name for one in found.values()] == ["cats", "dogs", "odd"]


def test_a_path_may_hold_the_sign_that_names_end_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "lr=0.1.onnx", seed=1)
    for text in ("lr=0.1.onnx", "./lr=0.1.onnx"):
        assert named(text) == ("lr=0.1", Path(text))
    assert named("lr=0.2.onnx") == ("lr", Path("0.2.onnx"))
    assert named("lr/x=0.2.onnx") == ("x=0.2", Path("lr/x=0.2.onnx"))
    for text in ("=a.onnx", "a="):
        with pytest.raises(InvalidSetting, match="write NAME=PATH"):
            named(text)


def test_two_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    paths = [tmp_path / "a.onnx", tmp_path / "other" / "a.onnx"]
    for file in paths:
        write(file, seed=1)
    with pytest.raises(InvalidSetting, match="both called a: rename one"):
        Models.load(paths, read)


def test_what_is_no_guard_is_told(tmp_path):
    with pytest.raises(InvalidSetting, match="nothing to serve"):
        Models.load([])
    with pytest.raises(DetectorNotFound, match="no such file"):
        load_guard(tmp_path / "no.onnx")
    (tmp_path / "model.h5").write_text("")
    with pytest.raises(NotADetector, match=r"no \.onnx file"):
        load_guard(tmp_path / "model.h5")


def test_a_stamp_changes_with_the_file(path):
    before = stamp(path)
    assert stamp(path) == before
    write(path, seed=0)
    assert stamp(path) != before
    path.unlink()
    assert stamp(path) is None


def test_a_new_file_is_served_and_a_broken_one_is_not(path, caplog):
    found = Models.load([path], read)
    old = found["guard"].guard
    assert asyncio.run(found.refresh()) == []
    write(path, seed=1)
    assert asyncio.run(found.refresh()) == ["guard"]
    new = found["guard"].guard
    assert new.sha256 != old.sha256
    assert [size for size, _ in new.calls] == [1]
    path.write_text("{")
    assert asyncio.run(found.refresh()) == []
    assert found["guard"].guard is new
    assert "the old one is still" in caplog.text
    caplog.clear()
    assert asyncio.run(found.refresh()) == []
    assert not caplog.text  # the same broken file is not tried again
    path.unlink()
    assert asyncio.run(found.refresh()) == []
    write(path, seed=1)
    assert asyncio.run(found.refresh()) == []  # the same again
    assert found["guard"].guard is new
    write(path, seed=2)
    assert asyncio.run(found.refresh()) == ["guard"]


def test_a_guard_that_cannot_run_takes_nobodys_place(path, caplog):
    found = Models.load([path], read)
    old = found["guard"].guard

    def broken(file):
        guard = FakeGuard(seed=3)
        guard.run = lambda feed: 1 / 0
        return guard

    found._load = broken
    write(path, seed=3)
    assert asyncio.run(found.refresh()) == []
    assert found["guard"].guard is old


def test_a_running_server_finds_new_files_by_itself(path, monkeypatch):
    monkeypatch.setattr(service, "POLL_SECONDS", 0.02)
    with Running(Models.load([path], read)) as server:
        server.service.settings = server.settings.__class__(reload=True)
        server._host.loop.call_soon_threadsafe(server.service.start)
        before = server.service.models["guard"].version
        write(path, seed=1)
        until(lambda: server.service.models["guard"].version != before)
        found = httpx.get(server.url + "/v2/models/guard").json()["versions"]
        assert found == [server.service.models["guard"].version]
        until(lambda: found[0] in httpx.get(server.url + "/metrics").text)


def test_requests_that_began_end_with_the_guard_they_began_with_even_of_another_layout(path):
    with Running(Models.load([path], read)) as server, httpx.Client(base_url=server.url, timeout=20) as client:
        old = server.service.models["guard"].guard
        answers = []

        def ask():
            answers.append(httpx.post(server.url + INFER, json=document(images(2)), timeout=20).json())

        with held(old):
            while old.began.acquire(blocking=False):
                pass
            threads = [threading.Thread(target=ask) for _ in range(2)]
            threads[0].start()
            assert old.began.acquire(timeout=10)
            threads[1].start()
            until(lambda: server.service.models["guard"].batcher.waiting == 2)
            write(path, seed=1, shape=[4, 4, 1])
            assert server.call(server.service.refresh()) == ["guard"]
            assert client.get("/v2/models/guard").json()["inputs"][0]["shape"] == [-1, 4, 4, 1]
            assert client.get("/v2/health/ready").status_code == 200
        for thread in threads:
            thread.join(10)
        assert [answer["model_version"] for answer in answers] == [old.sha256[:12]] * 2
        new = client.post(INFER, json=document(images(2, shape=(4, 4, 1)))).json()
        assert new["model_version"] == server.service.models["guard"].version != old.sha256[:12]
        assert client.post(INFER, json=document(images(2))).status_code == 400


def test_no_request_is_lost_or_answered_wrongly_while_guards_are_replaced(path):
    x = images(3)
    expected = {}
    for seed in (0, 1):
        guard = FakeGuard("guard", seed=seed)
        expected[guard.sha256[:12]] = guard.run({"x": x})["instance_score"].tolist()
    answers, errors, done = [], [], threading.Event()

    def ask():
        try:
            with httpx.Client(base_url=server.url, timeout=20) as client:
                while not done.is_set():
                    response = client.post(INFER, json=document(x))
                    found = response.json()
                    answers.append((found["model_version"], found["outputs"][0]["data"]))
        except BaseException as error:
            errors.append(error)

    with Running(Models.load([path], read)) as server:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(10):
            seen = len(answers)
            write(path, seed=(turn + 1) % 2)
            assert server.call(server.service.refresh()) == ["guard"]
            until(lambda seen=seen: len(answers) > seen + 8 or errors)
        done.set()
        for thread in threads:
            thread.join(10)
    assert not errors
    assert {version for version, _ in answers} == set(expected)
    for version, scores in answers:
        np.testing.assert_allclose(scores, expected[version], rtol=1e-6)


def test_nothing_but_the_given_path_is_read(path, tmp_path):
    (tmp_path / "secret.onnx").write_text("secret")
    with Running(Models.load([path], read)) as server, httpx.Client(base_url=server.url) as client:
        for name in ("secret", "..%2Fsecret", "%2e%2e/secret", os.fspath(tmp_path / "secret"), "guard.onnx"):
            for address in (f"/v2/models/{name}", f"/static/{name}", f"/live/{name}"):
                assert client.get(address).status_code == 404


def test_models_are_where_the_documentation_said():
    from demur.serve import models

    assert (models.Models, models.load_guard) == (Models, load_guard)
