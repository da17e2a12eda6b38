"""The protocol over HTTP, on a real port: by the client of another project, and by hand."""

import contextlib
import gzip
import http.client
import json
import logging
import re
import subprocess
import threading
import zlib

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from demur.serve import build_app
from demur.serve.serving.protocol import DATATYPES, MAX_DIMENSIONS
from demur.serve.transport import page
from demur.serve.transport.access import Keys, new_key
from demur.serve.transport.http import OPENAPI
from tests.scaffold.serve_fakes import POISON, FakeGuard, Running, held, images, until

INFER = "/v2/models/guard/infer"


@pytest.fixture(scope="module")
def server():
    with Running(
        [FakeGuard(), FakeGuard("flags", on_invalid="flag")], max_batch=4, max_queue=32, max_body_mb=0.05
    ) as running:
        yield running


@contextlib.contextmanager
def client_of(server):
    found = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    try:
        yield found
    finally:
        found.close()
        found.close = lambda: None  # it closes itself again when it is collected, in whichever thread that is


@pytest.fixture
def client(server):
    with client_of(server) as found:
        yield found


@pytest.fixture
def web(server):
    with httpx.Client(base_url=server.url) as found:
        yield found


def tensor(x, *, binary=True):
    datatype = {"float32": "FP32", "float64": "FP64", "uint8": "UINT8", "bool": "BOOL"}[x.dtype.name]
    found = triton.InferInput("x", x.shape, datatype)
    found.set_data_from_numpy(x, binary_data=binary)
    return found


def document(x, **more):
    entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return {"inputs": [entry], **more}


def error_of(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()["error"]


# A real client --------------------------------------------------------------------------------------------------------


def test_a_client_of_the_protocol_finds_its_way(client, server):
    guard = server.service.models["guard"].guard
    version = guard.sha256[:12]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("guard")
    assert client.is_model_ready("guard", version)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("guard", version)
    assert metadata["versions"] == [version]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert [output["name"] for output in metadata["outputs"]] == list(guard.outputs)
    assert metadata["outputs"][1] == {"name": "is_adversarial", "datatype": "BOOL", "shape": [-1]}
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("guard", "2")


@pytest.mark.parametrize("into", [True, False])
@pytest.mark.parametrize("out", [True, False])
def test_a_client_gets_what_the_guard_says(client, server, into, out):
    x = images(3)
    expected = server.service.models["guard"].guard.run({"x": x})
    outputs = [triton.InferRequestedOutput(name, binary_data=out) for name in expected]
    found = client.infer("guard", [tensor(x, binary=into)], outputs=outputs, request_id="seven")
    assert found.get_response()["id"] == "seven"
    for name, array in expected.items():
        got = found.as_numpy(name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_a_client_that_asks_for_nothing_gets_all_but_what_costs_something(client):
    found = client.infer("guard", [tensor(images(1))])
    names = [output["name"] for output in found.get_response()["outputs"]]
    assert names == [
        "instance_score",
        "is_adversarial",
        "p_value",
        "corrected",
        "no_defense",
        "defense",
        "probabilities",
    ]
    x = images(2)
    found = client.infer("guard", [tensor(x)], outputs=[triton.InferRequestedOutput("reconstruction")])
    np.testing.assert_array_equal(found.as_numpy("reconstruction"), x / 2)


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_a_client_may_compress(client, how):
    x = images(2)
    plain = client.infer("guard", [tensor(x)])
    packed = client.infer("guard", [tensor(x)], request_compression_algorithm=how, response_compression_algorithm=how)
    np.testing.assert_array_equal(packed.as_numpy("instance_score"), plain.as_numpy("instance_score"))


def test_numbers_of_other_types_are_cast_and_never_rescaled(client):
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), "uint8")
    expected = client.infer("guard", [tensor(x.astype("float32"))]).as_numpy("instance_score")
    for other in (x, x.astype("float64")):
        for binary in (True, False):
            found = client.infer("guard", [tensor(other, binary=binary)]).as_numpy("instance_score")
            np.testing.assert_array_equal(found, expected)


def test_a_client_hears_what_is_wrong(client):
    with pytest.raises(
        InferenceServerException, match=r"must have shape \[-1, 8, 8, 1\]; got \[8, 8, 1\]; a single row"
    ):
        client.infer("guard", [tensor(images(1)[0])])
    with pytest.raises(InferenceServerException, match="there is no output 'nothing'"):
        client.infer("guard", [tensor(images(1))], outputs=[triton.InferRequestedOutput("nothing")])
    with pytest.raises(InferenceServerException, match="there is no model 'nobody'; there are guard, flags"):
        client.infer("nobody", [tensor(images(1))])


def test_rows_that_cannot_be_judged_are_an_error_or_flagged_as_the_guard_says(client, web):
    x = images(3)
    x[1, 0, 0] = np.nan
    with pytest.raises(InferenceServerException, match="1 of 3 rows cannot be judged: 1;") as found:
        client.infer("guard", [tensor(x)])
    assert found.value.status() == "400"
    answer = client.infer("flags", [tensor(x)])
    assert answer.as_numpy("is_adversarial").tolist()[1] is True
    assert np.isfinite(answer.as_numpy("instance_score")).tolist() == [True, False, True]
    assert answer.as_numpy("corrected")[1] == answer.as_numpy("no_defense")[1]
    entry = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [entry]}).encode()
    response = web.post(
        "/v2/models/flags/infer",
        content=head + x.tobytes(),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert response.json()["outputs"][0]["data"][1] is None  # JSON has no infinity


# By hand --------------------------------------------------------------------------------------------------------------


def test_the_server_says_what_it_is_and_how_it_is(web):
    assert web.get("/v2").json()["name"] == "demur"
    assert web.get("/v2/health/live").json() == {"live": True}
    assert web.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert web.get("/v2/models/guard/ready").json() == {"name": "guard", "ready": True}
    assert 'demur_model_info{detector="AdversarialAE",model="guard"' in web.get("/metrics").text


def test_requests_are_counted_by_how_they_ended(web):
    def count(model, status):
        pattern = rf'demur_requests_total{{model="{model}",protocol="http",status="{status}"}} (\S+)'
        found = re.search(pattern, web.get("/metrics").text)
        return float(found[1]) if found else 0.0

    before = [count("guard", status) for status in (200, 400)]
    web.post(INFER, json=document(images(1)))
    web.post(INFER, content=b"{")
    web.post(INFER, json=document(images(1)[:, :4]))
    assert [count("guard", status) for status in (200, 400)] == [before[0] + 1, before[1] + 2]


def test_versions_are_those_of_the_metadata(web):
    version = web.get("/v2/models/guard").json()["versions"][0]
    response = web.post(f"/v2/models/guard/versions/{version}/infer", json=document(images(1)))
    assert response.json()["model_version"] == version
    assert "there is no version 'x'" in error_of(web.post("/v2/models/guard/versions/x/infer", json={}), 404)
    assert "there is no version 'x'" in error_of(web.get("/v2/models/guard/versions/x"), 404)


@pytest.mark.parametrize(
    "path", ["/nothing", "/v2/", "/v2/models", "/v2/models/a/b", "/v2/models/../x", "/docs", "/redoc"]
)
def test_what_is_not_there_is_a_404_in_json(web, path):
    error_of(web.get(path), 404)


def test_other_methods_are_a_405_that_says_which_are_right(web):
    response = web.get(INFER)
    assert "method not allowed" in error_of(response, 405)
    assert response.headers["allow"] == "POST"
    error_of(web.post("/v2"), 405)


def test_request_ids_are_taken_over_if_they_are_sane_and_made_otherwise(web):
    assert web.get("/v2", headers={"X-Request-ID": "a-b:1"}).headers["x-request-id"] == "a-b:1"
    made = [web.get("/v2", headers={"X-Request-ID": "<script>"}).headers["x-request-id"] for _ in range(2)]
    assert len({*made, "<script>"}) == 3
    assert web.get("/nothing", headers={"X-Request-ID": "c"}).headers["x-request-id"] == "c"


def test_a_threshold_is_taken_only_where_the_operator_allows_it(server, web):
    x = images(4)
    request = document(x, parameters={"threshold": 0.0})
    assert "set by the operator" in error_of(web.post(INFER, json=request), 400)
    assert web.post(INFER, json=document(x, parameters={"anything": "else"})).status_code == 200
    with Running(allow_threshold=True) as other, httpx.Client(base_url=other.url) as client:

        def flagged(threshold):
            response = client.post(INFER, json=document(x, parameters={"threshold": threshold})).json()
            found = {output["name"]: output["data"] for output in response["outputs"]}
            classes = np.where(found["is_adversarial"], found["defense"], found["no_defense"])
            assert classes.tolist() == found["corrected"]
            return found["is_adversarial"]

        assert flagged(0.0) == [True] * 4
        assert flagged(1e9) == [False] * 4
        for wrong in ("1", True, [1], 1e999):
            content = json.dumps(document(x, parameters={"threshold": wrong})).replace("Infinity", "1e999")
            error_of(client.post(INFER, content=content), 400)
        other.call(other.service.close())
        # What requests asked for is not what the guard says: the watch has the guard's own verdicts.
        guard = other.service.models["guard"].guard
        expected = 2 * int(guard.run({"x": x})["is_adversarial"].sum())
        assert f'demur_flagged_total{{model="guard"}} {expected}.0' in other.service.telemetry.exposition()[0].decode()


def test_inputs_must_be_the_guards_and_have_rows(web):
    x = images(1)
    other = document(x)
    other["inputs"][0]["name"] = "y"
    assert "the inputs are x; got y" in error_of(web.post(INFER, json=other), 400)
    assert "no rows" in error_of(web.post(INFER, json=document(x[:0])), 400)
    assert "may have 32 rows; got 33" in error_of(web.post(INFER, json=document(np.zeros((33, 8, 8, 1)))), 413)


def test_a_body_that_is_too_large_is_refused_however_it_comes(web):
    too_large = b" " * 60_000
    assert "larger than 52428 bytes" in error_of(web.post(INFER, content=too_large), 413)
    assert "larger than 52428 bytes" in error_of(web.post(INFER, content=iter([too_large[:30_000]] * 2)), 413)
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 52_428
    assert "unpacked, is larger" in error_of(web.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"}), 413)


def test_what_is_compressed_wrongly_is_refused(web):
    packed = zlib.compress(json.dumps(document(images(1))).encode())
    assert web.post(INFER, content=packed, headers={"Content-Encoding": "deflate"}).status_code == 200
    for content, encoding, status in [
        (packed, "br", 415),
        (packed, "gzip", 400),
        (packed[:-5], "deflate", 400),
        (packed + b"more", "deflate", 400),
    ]:
        error_of(web.post(INFER, content=content, headers={"Content-Encoding": encoding}), status)


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "1.0"])
def test_a_length_that_is_none_is_refused(web, length):
    response = web.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": length})
    assert "Inference-Header-Content-Length" in error_of(response, 400)


def test_errors_of_the_server_tell_the_log_and_not_the_client(web, caplog):
    x = images(1)
    x[0, 0, 0] = POISON
    response = web.post(INFER, json=document(x), headers={"X-Request-ID": "the-bad-one"})
    assert error_of(response, 500) == "internal error"
    assert response.json() == {"error": "internal error", "request_id": "the-bad-one"}
    assert "the-bad-one" in caplog.text
    assert "secret detail" in caplog.text
    assert web.post(INFER, json=document(images(1))).status_code == 200


def test_the_description_is_complete_and_its_example_is_answered(web):
    found = web.get("/openapi.json").json()
    operation = found["paths"]["/v2/models/{name}/infer"]["post"]
    assert operation["parameters"][0]["schema"]["enum"] == ["guard", "flags"]
    assert set(operation["responses"]) >= {"200", "400", "404", "413", "503"}
    assert not any("422" in method["responses"] for path in found["paths"].values() for method in path.values())
    content = operation["requestBody"]["content"]["application/json"]
    assert web.post(INFER, json=content["examples"]["guard"]["value"]).status_code == 200
    ending = found["paths"]["/live/{name}/reset"]["post"]
    assert ending["parameters"][0]["schema"]["enum"] == ["guard", "flags"]
    (example,) = ending["requestBody"]["content"]["application/json"]["examples"].values()
    assert web.post("/live/guard/reset", json=example["value"]).json() == {"name": "guard", "alarm": False}
    assert set(ending["responses"]) >= {"200", "401", "404", "415"}
    references = re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(found))
    assert set(references) <= set(found["components"]["schemas"])


def test_the_description_is_of_the_routes_and_numbers_that_there_are(server):
    found = json.loads(OPENAPI.read_text())
    routes = build_app(server.service).routes
    known = {(route.path, method.lower()) for route in routes for method in route.methods}
    described = {(path, method) for path, operations in found["paths"].items() for method in operations}
    assert described <= known
    undescribed = {path for path, _ in known - described}
    assert undescribed == {"/openapi.json", *(route.path for route in page.routes(server.service))}
    schemas = found["components"]["schemas"]
    assert schemas["InferInput"]["properties"]["shape"]["maxItems"] == MAX_DIMENSIONS
    outputs = schemas["InferResponse"]["properties"]["outputs"]["items"]
    for one in (schemas["InferInput"], schemas["TensorMetadata"], outputs):
        assert one["properties"]["datatype"]["enum"] == list(DATATYPES)


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models/guard", "/metrics", "/live"])
def test_a_route_answers_the_methods_it_names(web, path):
    response = web.head(path)
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert web.get(path + "/").status_code == 404


# Queue and clients ----------------------------------------------------------------------------------------------------


def test_a_full_queue_is_a_503_that_says_when_to_come_again():
    guard = FakeGuard()
    with Running([guard], max_queue=2) as server, httpx.Client(base_url=server.url) as client:
        with held(guard):
            waiting = [
                threading.Thread(target=httpx.post, args=(server.url + INFER,), kwargs={"json": document(images(n))})
                for n in (1, 2)
            ]
            for number, thread in enumerate(waiting):
                thread.start()
                assert number or guard.began.acquire(timeout=10)
            until(lambda: server.service.models["guard"].batcher.waiting == 2)
            response = client.post(INFER, json=document(images(1)))
            assert "queue is full" in error_of(response, 503)
            assert response.headers["retry-after"] == "1"
            assert client.get("/v2/health/ready").status_code == 200
        for thread in waiting:
            thread.join(10)


def test_an_answer_that_takes_too_long_is_a_504():
    guard = FakeGuard()
    with Running([guard], request_seconds=0.2) as server, held(guard):
        assert "no answer within 0.2 seconds" in error_of(httpx.post(server.url + INFER, json=document(images(1))), 504)


def test_a_request_whose_client_has_gone_is_not_run():
    guard = FakeGuard()
    with Running([guard]) as server:
        batcher = server.service.models["guard"].batcher
        with held(guard):
            first = threading.Thread(
                target=httpx.post, args=(server.url + INFER,), kwargs={"json": document(images(1))}
            )
            first.start()
            assert guard.began.acquire(timeout=10)
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("POST", INFER, json.dumps(document(images(3))))
            until(lambda: batcher.waiting == 3)
            connection.close()
            until(lambda: all(job.future.cancelled() for job in batcher._jobs))
        first.join(10)
        assert httpx.post(server.url + INFER, json=document(images(2))).status_code == 200
        assert [size for size, _ in guard.calls] == [1, 2]
        assert 'status="499"} 1.0' in httpx.get(server.url + "/metrics").text


# Drift alarms ---------------------------------------------------------------------------------------------------------


def drift(server):
    """Let the watch see scores that are far too high."""
    served = server.service.models["guard"]
    x = images(300)
    outputs = served.guard.run({"x": x})
    served.watch.saw({"x": x}, outputs | {"instance_score": 3 * outputs["instance_score"]})
    return httpx.get(f"{server.url}/live/guard", headers=getattr(server, "right", {})).json()["drift"]


def test_an_alarm_is_ended_by_those_who_may_and_mean_it():
    key, line = new_key("ann")
    with Running(keys=Keys(dict([line.split(":")]))) as server, httpx.Client(base_url=server.url) as client:
        server.right = {"Authorization": f"Bearer {key}"}
        assert drift(server)["alarm"]
        path = "/live/guard/reset"
        error_of(client.post(path, json={}), 401)
        for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            assert "Content-Type: application/json" in error_of(client.post(path, headers=server.right | headers), 415)
        assert "there is no model 'nobody'" in error_of(
            client.post("/live/nobody/reset", json={}, headers=server.right), 404
        )
        error_of(client.get(path, headers=server.right), 405)
        assert client.get("/live/guard", headers=server.right).json()["drift"]["alarm"]
        answer = client.post(path, json={}, headers=server.right)
        assert (answer.status_code, answer.json()) == (200, {"name": "guard", "alarm": False})
        after = client.get("/live/guard", headers=server.right).json()["drift"]
        assert (after["alarm"], after["alarm_count"]) == (False, 1)
        assert 'demur_drift_alarm{model="guard"} 0.0' in client.get("/metrics", headers=server.right).text
        assert drift(server)["alarm_count"] == 2  # evidence is gathered anew


# Keys and TLS ---------------------------------------------------------------------------------------------------------


def test_keys_are_asked_for_where_there_are_data():
    key, line = new_key("ann")
    keys = Keys(dict([line.split(":")]))
    with Running(keys=keys) as server, httpx.Client(base_url=server.url) as client:
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        for path in (
            "/v2",
            "/metrics",
            "/live/guard",
            "/v2/models/guard",
            "/openapi.json",
            "/nothing",
            "/v2/health/live/x",
        ):
            response = client.get(path)
            assert "needs a valid key" in error_of(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        error_of(client.post(INFER, json=document(images(1))), 401)
        right, wrong = ({"Authorization": f"Bearer {k}"} for k in (key, key[::-1]))
        error_of(client.post(INFER, json=document(images(1)), headers=wrong), 401)
        assert client.post(INFER, json=document(images(1)), headers=right).status_code == 200
        assert client.get("/v2", headers=right).status_code == 200
        with client_of(server) as found:
            assert found.infer("guard", [tensor(images(1))], headers=right).as_numpy("corrected").shape == (1,)


def test_tls(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-out", str(cert), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    with Running(tls_cert=str(cert), tls_key=str(key)) as server:
        import ssl

        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=server.url, verify=trusted) as client:
            assert client.post(INFER, json=document(images(1))).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http") + "/v2/health/live")


# Logs -----------------------------------------------------------------------------------------------------------------


def test_each_request_is_a_line_of_the_log(server, web, caplog):
    with caplog.at_level(logging.INFO, "demur.serve.access"):
        web.post(INFER, json=document(images(3)), headers={"X-Request-ID": "r1"})
        web.post(INFER, content=b"{", headers={"X-Request-ID": "r2"})
        until(lambda: len(caplog.records) == 2)
    first, second = (record.demur for record in caplog.records)
    assert first.pop("ms") > 0
    flagged = int(server.service.models["guard"].guard.run({"x": images(3)})["is_adversarial"].sum())
    assert first == {"request_id": "r1", "model": "guard", "rows": 3, "flagged": flagged, "status": 200}
    assert (second["request_id"], second["status"]) == ("r2", 400)
    assert caplog.records[0].getMessage() == f"POST {INFER}"
