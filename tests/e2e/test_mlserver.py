"""`demur.mlserver` in the real MLServer, in an environment of its own, without Keras: over HTTP, and in a process."""

import importlib
import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import demur.runtime
from demur.errors import MissingExtra
from tests.scaffold.deployed import (
    ROOT,
    arrays,
    assert_same,
    digits,
    environment,
    free_port,
    guards,
    quiet_environment,
    run,
    serving,
    tensor,
    texts,
)

PACKAGES = ("mlserver==1.7.1", "uvloop<0.22", "onnxruntime", "numpy")
DOCUMENTED = json.loads(re.search(r"```json\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text("utf-8"), re.DOTALL)[1])
VARIABLES = {"PYTHONPATH": str(ROOT / "src")}


@pytest.fixture(scope="module")
def python():
    return environment("mlserver", *PACKAGES)


@pytest.fixture(scope="module")
def guard():
    return demur.runtime.load(guards() / "digits.onnx")


@pytest.fixture(scope="module")
def server(python, tmp_path_factory):
    """MLServer with the documented settings, a batching model, and one whose URI is a folder."""
    folder = tmp_path_factory.mktemp("models")
    for name, settings in {
        "digits": DOCUMENTED,
        "batched": {**DOCUMENTED, "name": "batched", "parameters": {"uri": "."}}
        | {"max_batch_size": 8, "max_batch_time": 0.5},
    }.items():
        (folder / name).mkdir()
        (folder / name / "model-settings.json").write_text(json.dumps(settings))
        shutil.copy(guards() / "digits.onnx", folder / name / "guard.onnx")
    port = free_port()
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", **ports}))
    command = [python.parent / "mlserver", "start", "."]
    with serving(command, port, folder, quiet_environment(**VARIABLES)) as found:
        yield found


@pytest.fixture(scope="module")
def outcomes(python):
    """Runs cases in one process of MLServer's environment."""

    def run_cases(cases):
        env = quiet_environment(**VARIABLES)
        said = run(python, ROOT / "tests" / "e2e" / "mlserver_script.py", input=json.dumps(cases), env=env)
        found = json.loads(said)
        assert found["heavy"] == []
        return found["outcomes"]

    return run_cases


def test_without_mlserver_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "demur.mlserver", raising=False)
    monkeypatch.setitem(sys.modules, "mlserver", None)
    with pytest.raises(MissingExtra, match=r"pip install 'demur\[mlserver\]'"):
        importlib.import_module("demur.mlserver")


@pytest.mark.nightly
def test_the_runtime_needs_neither_keras_nor_h5py(python):
    run(python, "-c", "import demur.runtime, demur.mlserver", env=quiet_environment(**VARIABLES))
    code = "import importlib.util as u; print([n for n in ('keras', 'h5py', 'tensorflow', 'torch') if u.find_spec(n)])"
    assert run(python, "-c", code).strip() == "[]"


@pytest.mark.nightly
def test_over_http_it_answers_as_the_guard_does(server, guard):
    X = digits()
    status, answer = server.infer("digits", X, id="request-7")
    assert (status, answer["id"], answer["model_name"]) == (200, "request-7", "digits")
    assert_same(arrays(answer), guard.run(guard.feed(X)))


@pytest.mark.nightly
def test_over_http_outputs_and_threshold_can_be_chosen(server, guard):
    X = digits()
    for threshold in (None, 0.0, 100.0):
        parameters = {} if threshold is None else {"parameters": {"threshold": threshold}}
        names = ["reference", "corrected", "is_adversarial"]
        _, answer = server.infer("digits", X, outputs=[{"name": name} for name in names], **parameters)
        assert_same(arrays(answer), guard.run(guard.feed(X), names, threshold))


@pytest.mark.nightly
def test_over_http_the_metadata_are_the_guards(server, guard):
    status, found = server.ask("/v2/models/digits")
    assert status == 200
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert [output["name"] for output in found["outputs"]] == list(guard.outputs)
    assert found["platform"] == "onnx_onnxv1"
    assert found["parameters"] == {
        "detector": "ModelDistillation",
        "sha256": guard.sha256,
        "threshold": guard.threshold,
    }


@pytest.mark.nightly
def test_over_http_errors_say_what_is_wrong(server):
    X = digits()[:2]
    status, answer = server.infer("digits", X[:, :4])
    assert status == 400
    assert "x must have shape (n, 8, 8, 1); got (2, 4, 8, 1)" in answer["error"]
    status, answer = server.infer("batched", X, parameters={"threshold": 1.0})
    assert status == 400
    assert "leave the parameter out" in answer["error"]


@pytest.mark.nightly
def test_adaptive_batching_is_invisible(server, guard):
    sizes = [1, 2, 3, 1, 4, 2]
    rows = [digits()[start : start + size] for start, size in enumerate(sizes)]
    with ThreadPoolExecutor(len(rows)) as pool:
        answers = list(pool.map(lambda X: server.infer("batched", X, id=str(len(X))), rows))
    for X, (status, answer) in zip(rows, answers, strict=True):
        assert (status, answer["id"]) == (200, str(len(X)))
        assert_same(arrays(answer), guard.run(guard.feed(X)))


def settings(file="digits.onnx", **more):
    parameters = {"uri": str(guards() / file), "extra": more.pop("extra", {})}
    return {"name": "m", "implementation": "demur.mlserver.GuardRuntime", "parameters": parameters, **more}


@pytest.mark.nightly
def test_bad_requests_become_inference_errors(outcomes):
    X = digits()[:2]
    bad = X.copy()
    bad[1, 0, 0, 0] = np.nan
    x = tensor("x", X)
    cases = {
        "the inputs are x; got y": {"inputs": [{**x, "name": "y"}]},
        "the inputs are x; got x, x": {"inputs": [x, x]},
        "the inputs are x; got none": {"inputs": []},
        "there is no output 'nope'": {"inputs": [x], "outputs": [{"name": "nope"}]},
        "is not FP32 of shape [2, 8, 8, 1]": {"inputs": [{**x, "data": [1.0, 2.0]}]},
        "could not convert string to float": {"inputs": [{**x, "data": ["a"] * 128}]},
        "holds numbers, FP32; got BYTES": {"inputs": [{**x, "datatype": "BYTES"}]},
        "x must have shape (n, 8, 8, 1); got (8, 8, 1); for a single": {"inputs": [tensor("x", X[0])]},
        "x has no rows": {"inputs": [tensor("x", X[:0])]},
        "in 1 of 2 rows: 1": {"inputs": [tensor("x", bad)]},
        "2 of 2 rows cannot be judged: 0, 1": {
            "inputs": [tensor("x", X * np.float32(3e38))],
            "outputs": [{"name": "defense"}],
        },
        "is set by the operator": {"inputs": [x], "parameters": {"threshold": 1.0}},
    }
    found = outcomes([{"settings": settings(), "request": json.loads(json.dumps(case))} for case in cases.values()])
    for message, outcome in zip(cases, found, strict=True):
        assert (outcome["error"], outcome["status"]) == ("InferenceError", 400), outcome
        assert message in outcome["message"]


@pytest.mark.nightly
def test_a_threshold_is_a_number(outcomes):
    allowing = settings(extra={"allow_threshold": True})
    requests = [{"inputs": [tensor("x", digits()[:1])], "parameters": {"threshold": bad}} for bad in (True, "1", [1.0])]
    for found in outcomes([{"settings": allowing, "request": request} for request in requests]):
        assert found["error"] == "InferenceError"
        assert "finite number of nats" in found["message"]


@pytest.mark.nightly
def test_numbers_of_other_types_are_cast(outcomes, guard):
    X = np.round(digits()[:3] * 16)
    [found] = outcomes([{"settings": settings(), "request": {"inputs": [tensor("x", X.astype(int), "UINT8")]}}])
    assert_same(arrays(found), guard.run(guard.feed(X)))


@pytest.mark.nightly
def test_several_inputs_are_taken_by_name(outcomes):
    guard = demur.runtime.load(guards() / "text.onnx")
    X = texts(np.random.default_rng(1))
    mask, ids = tensor("mask", X["mask"]), tensor("ids", X["ids"], "INT64")
    cases = {
        "": [mask, ids],
        "the inputs are ids, mask; got mask": [mask],
        "input 'ids' must be whole numbers in the range of INT32": [mask, tensor("ids", X["ids"] + 0.5)],
        "the arrays of the inputs must have as many rows": [tensor("mask", X["mask"][:4]), ids],
    }
    requests = [{"inputs": inputs} for inputs in cases.values()]
    good, *bad = outcomes([{"settings": settings("text.onnx"), "request": request} for request in requests])
    assert_same(arrays(good), guard.run(guard.feed(X)))
    for message, outcome in zip(list(cases)[1:], bad, strict=True):
        assert outcome["error"] == "InferenceError", outcome
        assert message in outcome["message"]


@pytest.mark.nightly
def test_a_guard_that_flags_what_it_cannot_judge_does_so(outcomes):
    X = np.zeros((2, 13), "float32")
    X[1, 2] = np.nan
    [found] = outcomes([{"settings": settings("wine.onnx"), "request": {"inputs": [tensor("x", X)]}}])
    assert arrays(found)["is_adversarial"][1]
    score = next(output["data"] for output in found["outputs"] if output["name"] == "instance_score")
    assert score[0] > 0
    assert score[1] is None  # JSON has no infinity


@pytest.mark.nightly
def test_models_that_cannot_be_loaded_are_told_at_the_start(outcomes, tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no model")
    whole = (guards() / "digits.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole.replace(b'"ModelDistillation"', b'"modelDistillation"'))
    batching = {"max_batch_size": 8, "max_batch_time": 0.1}
    cases = {
        "Invalid URI": settings("missing.onnx"),
        "onnxruntime cannot load": settings(tmp_path / "other.onnx"),
        "not the file that was exported": settings(tmp_path / "cut.onnx"),
        "cannot go with adaptive batching": settings(extra={"allow_threshold": True}, **batching),
        "allow_threshold is true or false": settings(extra={"allow_threshold": "yes"}),
        "threads is a whole number": settings(extra={"threads": 0}),
    }
    advised = [settings(extra={"allow_threshold": True}), settings(**batching)]
    found = outcomes([{"settings": case} for case in [*cases.values(), *advised]])
    for message, outcome in zip(cases, found, strict=False):
        assert outcome["status"] == 422, outcome
        assert message in outcome["message"]
    assert [outcome.get("name") for outcome in found[-2:]] == ["m", "m"]
