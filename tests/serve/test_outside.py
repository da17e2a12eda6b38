"""A guard whose classifier is outside of the file: requests bring what the classifier answers, over HTTP and gRPC."""

import contextlib

import numpy as np
import pytest

from tests.scaffold.serve_fakes import Running

httpx = pytest.importorskip("httpx")
pytest.importorskip("onnxruntime")


def classifier(rows):
    weights = np.exp(rows @ np.array([[1.0, -1.0], [0.5, 0.5], [-1.0, 1.0]]))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(120, 3)).astype("float32")


@pytest.fixture(scope="module")
def guard(rows, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        from demur.starting import start_keras

        start_keras()
        import demur.runtime
        from demur import ModelDistillation

        detector = ModelDistillation(model=classifier).fit(rows[:60], epochs=1, verbose=False)
        path = tmp_path_factory.mktemp("guards") / "outside.onnx"
        detector.infer_threshold(rows[60:], fpr=0.2).export(path)
    return demur.runtime.load(path, threads=1)


@pytest.fixture(scope="module")
def running(guard):
    with Running([guard]) as running:
        yield running


@pytest.fixture
def client(running):
    with httpx.Client(base_url=running.url) as client:
        yield client


def tensor(name, array):
    return {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}


def test_the_description_lists_the_answer(client):
    inputs = client.get("/v2/models/outside").json()["inputs"]
    assert inputs[1] == {"name": "reference", "datatype": "FP32", "shape": [-1, 2]}
    assert "sharpened" in [entry["name"] for entry in client.get("/v2/models/outside").json()["outputs"]]
    example = client.get("/openapi.json").json()["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]
    shown = example["content"]["application/json"]["examples"]["outside"]["value"]["inputs"]
    assert [entry["name"] for entry in shown] == ["x", "reference"]


def test_rows_and_answers_are_judged(client, guard, rows):
    answers = classifier(rows[:30])
    body = {"inputs": [tensor("x", rows[:30]), tensor("reference", answers)]}
    found = client.post("/v2/models/outside/infer", json=body).json()["outputs"]
    corrected = next(entry["data"] for entry in found if entry["name"] == "corrected")
    np.testing.assert_array_equal(corrected, guard.correct(rows[:30], reference=answers)["data"]["corrected"])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (None, "the inputs are x, reference"),
        (np.full((5, 2), 3.0), "probabilities"),
        (np.full((5, 3), 1 / 3), "must have shape"),
        (np.full((4, 2), 0.5), "as many rows"),
    ],
    ids=["missing", "logits", "classes", "rows"],
)
def test_an_answer_that_is_none_is_told(client, rows, answers, message):
    inputs = [tensor("x", rows[:5])] + ([] if answers is None else [tensor("reference", answers)])
    response = client.post("/v2/models/outside/infer", json={"inputs": inputs})
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_grpc_takes_the_answer_too(running, guard, rows):
    server = pytest.importorskip("demur.serve.transport.grpc")
    triton = pytest.importorskip("tritonclient.grpc")
    started = running.call(server.Server(running.service).start("127.0.0.1:0"))
    try:
        with contextlib.closing(triton.InferenceServerClient(f"localhost:{started.port}")) as client:
            inputs = []
            for name, array in {"x": rows, "reference": classifier(rows).astype("float32")}.items():
                inputs.append(triton.InferInput(name, array.shape, "FP32"))
                inputs[-1].set_data_from_numpy(array)
            found = client.infer("outside", inputs).as_numpy("is_adversarial")
    finally:
        running.call(started.stop(0))
    expected = guard.predict(rows, reference=classifier(rows))["data"]["is_adversarial"]
    np.testing.assert_array_equal(found, expected)
    assert expected.any()
