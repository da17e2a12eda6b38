"""The server over gRPC, asked by a client that knows nothing of it, and by a bare channel."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest

from demur.errors import InvalidSetting
from demur.serve.serving.protocol import InferResponse
from demur.serve.transport.access import Keys, new_key
from tests.scaffold.serve_fakes import POISON, FakeGuard, Running, held, images, until

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
server = pytest.importorskip("demur.serve.transport.grpc")

Code = grpc.StatusCode
MESSAGES = server.MESSAGES


@contextlib.contextmanager
def serving(*guards, keys=None, tls=None, tracer=None, **settings):
    """A server of both protocols; yields it, with the address for gRPC."""
    with Running(guards, keys=keys, **settings) as running:
        started = running.call(server.Server(running.service, keys, tracer).start("127.0.0.1:0", tls))
        running.grpc, running.address = started, f"localhost:{started.port}"
        try:
            yield running
        finally:
            running.call(started.stop(0))


@pytest.fixture(scope="module")
def guard():
    return FakeGuard()


@pytest.fixture(scope="module")
def running(guard):
    with serving(guard, allow_threshold=True) as running:
        yield running


@pytest.fixture(scope="module")
def client(running):
    with triton.InferenceServerClient(running.address) as client:
        yield client


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(running.address) as channel:
        yield channel


def tensor(x, datatype="FP32"):
    found = triton.InferInput("x", list(x.shape), datatype)
    found.set_data_from_numpy(x)
    return found


def call(channel, method, message=b"", **how):
    """One call of a method: the message and the call itself."""
    name = f"/{server.SERVICE}/{method}"
    data = message if isinstance(message, bytes) else message.SerializeToString()
    answer, about = channel.unary_unary(name).with_call(data, timeout=20, **how)
    return MESSAGES[f"{method}Response"].FromString(answer), about


def request(x=None, *, datatype="FP32", raw=True, field="fp32_contents", **more):
    """A ModelInferRequest."""
    message = MESSAGES["ModelInferRequest"](model_name="guard", **more)
    if x is not None:
        entry = message.inputs.add(name="x", datatype=datatype, shape=x.shape)
        if raw:
            message.raw_input_contents.append(x.tobytes())
        else:
            getattr(entry.contents, field).extend(x.ravel().tolist())
    return message


def refused(channel, message, method="ModelInfer", **how):
    """The code and the text of the error that a message gets."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, message, **how)
    return caught.value.code(), caught.value.details()


def passes(guard):
    """The rows of each pass so far, but for those that only make pictures for the page."""
    return [rows for rows, outputs in guard.calls if outputs != ("reconstruction",)]


def requests_counted(running, status, model="guard"):
    text = running.service.telemetry.exposition()[0].decode()
    found = re.search(rf'demur_requests_total{{model="{model}",protocol="grpc",status="{status}"}} (\S+)', text)
    return float(found[1]) if found else 0.0


# The interface --------------------------------------------------------------------------------------------------------


def test_the_compiled_description_is_that_of_the_proto(tmp_path):
    pytest.importorskip("grpc_tools")
    from google.protobuf import descriptor_pb2

    out = tmp_path / "found"
    proto = server.PROTO
    # In a process of its own: the compiler is a library in C++, which cannot live beside that of TensorFlow.
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{proto.parent}",
        f"--descriptor_set_out={out}",
        proto.name,
    ]
    subprocess.run(command, check=True, timeout=120)
    compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    committed = descriptor_pb2.FileDescriptorSet.FromString(server.DESCRIPTORS.read_bytes())
    assert committed == compiled, "compile it again: see README.md beside it"


def described(message):
    """All of a message, and of those in it, that counts on the wire."""
    from google.protobuf import descriptor_pb2

    found = descriptor_pb2.DescriptorProto()
    message.CopyToProto(found)
    return re.sub(r"\s*json_name: .*", "", str(found))  # which some compilers write, and some leave out


def test_messages_and_methods_are_those_of_an_independent_client():
    theirs = triton.service_pb2.DESCRIPTOR
    for name, message in MESSAGES.items():
        assert described(message.DESCRIPTOR) == described(theirs.message_types_by_name[name]), name
    file = MESSAGES["ModelInferRequest"].DESCRIPTOR.file
    (name, service), *others = file.services_by_name.items()
    assert not others
    methods = theirs.services_by_name[name].methods_by_name
    assert set(service.methods_by_name) == {
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"
    }  # fmt: skip
    for method in service.methods:
        other = methods[method.name]
        assert method.full_name == other.full_name
        assert (method.input_type.full_name, method.output_type.full_name) == (
            other.input_type.full_name,
            other.output_type.full_name,
        )


@pytest.mark.parametrize("order", [1, -1])
def test_a_client_in_the_same_process_does_not_clash(order):
    code = "import " + ", ".join(["demur.serve.transport.grpc", "tritonclient.grpc"][::order])
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)


def test_without_grpcio_the_error_says_what_to_install():
    code = "import sys; sys.modules['grpc'] = None; import demur.serve.transport.grpc"
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert "MissingExtra" in found.stderr
    assert "pip install 'demur[grpc]'" in found.stderr


# Health and metadata --------------------------------------------------------------------------------------------------


def test_it_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("guard")


def test_metadata_is_what_http_says(running, client):
    def http(path):
        with urllib.request.urlopen(running.url + path, timeout=20) as answer:
            return json.load(answer)

    found = client.get_server_metadata()
    assert {"name": found.name, "version": found.version, "extensions": list(found.extensions)} == http("/v2")
    found = client.get_model_metadata("guard")
    expected = http("/v2/models/guard")
    assert (found.name, list(found.versions), found.platform) == ("guard", expected["versions"], expected["platform"])
    for kind in ("inputs", "outputs"):
        entries = [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(found, kind)]
        assert entries == expected[kind]


def test_a_version_may_be_named(running, client):
    version = running.service.served("guard").version
    assert client.is_model_ready("guard", version)
    found = client.infer("guard", [tensor(images(1))], model_version=version)
    assert found.get_response().model_version == version
    with pytest.raises(triton.InferenceServerException, match=r"NOT_FOUND.*there is no version '7'"):
        client.infer("guard", [tensor(images(1))], model_version="7")


# Answers --------------------------------------------------------------------------------------------------------------


def test_answers_are_the_guards(guard, client):
    x = images(5)
    found = client.infer("guard", [tensor(x)], request_id="seven")
    expected = guard.run({"x": x})
    response = found.get_response()
    assert (response.model_name, response.id) == ("guard", "seven")
    assert [output.name for output in response.outputs] == list(guard.default_outputs)
    for name, array in expected.items():
        got = found.as_numpy(name)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("float16", "FP16"),
        ("float64", "FP64"),
        ("uint8", "UINT8"),
        ("int32", "INT32"),
        ("int64", "INT64"),
        ("bool", "BOOL"),
    ],
)
def test_numbers_of_other_types_are_cast(guard, client, dtype, datatype):
    x = (3 * images(4)).astype(dtype)
    found = client.infer("guard", [tensor(x, datatype)])
    expected = guard.run({"x": x.astype("float32")})
    np.testing.assert_array_equal(found.as_numpy("instance_score"), expected["instance_score"])


@pytest.mark.parametrize(
    ("dtype", "datatype", "field"),
    [
        ("bool", "BOOL", "bool_contents"),
        ("int8", "INT8", "int_contents"),
        ("int16", "INT16", "int_contents"),
        ("int32", "INT32", "int_contents"),
        ("int64", "INT64", "int64_contents"),
        ("uint8", "UINT8", "uint_contents"),
        ("uint16", "UINT16", "uint_contents"),
        ("uint32", "UINT32", "uint_contents"),
        ("uint64", "UINT64", "uint64_contents"),
        ("float32", "FP32", "fp32_contents"),
        ("float64", "FP64", "fp64_contents"),
    ],
)
def test_typed_contents_are_answered_with_typed_contents(guard, channel, dtype, datatype, field):
    x = (3 * images(2)).astype(dtype)
    found, _ = call(channel, "ModelInfer", request(x, datatype=datatype, raw=False, field=field))
    expected = guard.run({"x": x.astype("float32")})
    assert not found.raw_output_contents
    fields = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BOOL": "bool_contents", "INT64": "int64_contents"}
    assert {output.name for output in found.outputs} == set(expected)
    for output in found.outputs:
        array = expected[output.name]
        assert list(output.shape) == list(array.shape)
        numbers = np.array(getattr(output.contents, fields[output.datatype]), array.dtype).reshape(array.shape)
        np.testing.assert_array_equal(numbers, array)


def test_small_integers_keep_their_sign_and_range():
    x = np.array([-128, 127], "int8")
    read = server.read_request(request(x, datatype="INT8", raw=False, field="int_contents"))
    np.testing.assert_array_equal(read.inputs["x"], x)
    assert read.inputs["x"].dtype == np.int8
    largest = np.array([2**64 - 1], "uint64")
    read = server.read_request(request(largest, datatype="UINT64", raw=False, field="uint64_contents"))
    np.testing.assert_array_equal(read.inputs["x"], largest)


def test_raw_contents_are_not_copied_again():
    message = request(images(2))
    array = server.read_request(message).inputs["x"]
    root = array
    while isinstance(root, np.ndarray):
        root = root.base
    assert isinstance(root, bytes)


def test_half_precision_is_answered_raw_whatever_was_asked():
    response = InferResponse("guard", "1", None, {"a": np.ones(2, "float16"), "b": np.ones(2, "int64")})
    message = server.write_response(response, request(images(1), raw=False))
    assert [output.HasField("contents") for output in message.outputs] == [False, False]
    assert list(message.raw_output_contents) == [np.ones(2, "float16").tobytes(), np.ones(2, "int64").tobytes()]


def test_only_the_outputs_that_are_asked_for_come(client):
    wanted = [triton.InferRequestedOutput(name) for name in ("reconstruction", "corrected")]
    x = images(3)
    found = client.infer("guard", [tensor(x)], outputs=wanted)
    assert [output.name for output in found.get_response().outputs] == ["reconstruction", "corrected"]
    np.testing.assert_array_equal(found.as_numpy("reconstruction"), x / 2)


def test_a_large_batch_is_answered_whole(guard, running, client):
    x = images(3000)
    assert len(x) > running.settings.max_batch
    found = client.infer("guard", [tensor(x)])
    np.testing.assert_array_equal(found.as_numpy("instance_score"), guard.run({"x": x})["instance_score"])


@pytest.mark.parametrize("threshold", ["0.25", 0, 1])
def test_the_threshold_can_be_overridden(guard, client, threshold):
    # This client knows no parameters but strings, whole numbers and truth values.
    x = images(20)
    found = client.infer("guard", [tensor(x)], parameters={"threshold": threshold})
    expected = guard.run({"x": x}, threshold=float(threshold))["is_adversarial"]
    np.testing.assert_array_equal(found.as_numpy("is_adversarial"), expected)
    assert not np.array_equal(expected, guard.run({"x": x})["is_adversarial"])


def test_the_threshold_can_be_a_double(guard, channel):
    message = request(images(20))
    level = float(np.median(guard.run({"x": images(20)})["instance_score"]))
    message.parameters["threshold"].double_param = level
    message.outputs.add(name="is_adversarial")
    found, _ = call(channel, "ModelInfer", message)
    flagged = np.frombuffer(found.raw_output_contents[0], bool)
    np.testing.assert_array_equal(flagged, guard.run({"x": images(20)}, threshold=level)["is_adversarial"])
    assert 0 < flagged.sum() < 20


def test_both_protocols_serve_one_model(running, client):
    http = pytest.importorskip("tritonclient.http")
    x = images(6)
    other = http.InferInput("x", list(x.shape), "FP32")
    other.set_data_from_numpy(x)
    with http.InferenceServerClient(running.url.removeprefix("http://")) as web:
        by_http = web.infer("guard", [other])
    by_grpc = client.infer("guard", [tensor(x)])
    for name in ("instance_score", "corrected", "probabilities", "is_adversarial", "p_value"):
        np.testing.assert_array_equal(by_grpc.as_numpy(name), by_http.as_numpy(name))
    assert by_http.get_response()["model_version"] == by_grpc.get_response().model_version


def test_requests_of_both_protocols_share_a_batch(guard, running, client):
    x = images(2)
    answers = []
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}
    ).encode()

    def web():
        with urllib.request.urlopen(f"{running.url}/v2/models/guard/infer", body, timeout=20) as answer:
            answers.append(answer.status)

    batcher = running.service.served("guard").batcher
    begun = len(passes(guard))
    with held(guard):
        client.async_infer("guard", [tensor(x)], lambda result, error: answers.append(error))
        until(lambda: len(passes(guard)) == begun + 1)
        second = threading.Thread(target=web)
        second.start()
        client.async_infer("guard", [tensor(x)], lambda result, error: answers.append(error))
        until(lambda: batcher.waiting == 4)
    second.join(20)
    until(lambda: len(answers) == 3)
    assert sorted(map(str, answers)) == ["200", "None", "None"]
    assert passes(guard)[begun:] == [2, 4]


# Errors ---------------------------------------------------------------------------------------------------------------


def with_output(*names):
    message = request(images(1))
    for name in names:
        message.outputs.add(name=name)
    return message


def changed(**fields):
    message = request(images(1))
    for name, value in fields.items():
        if name in ("shape", "raw_input_contents"):
            holder = message if name == "raw_input_contents" else message.inputs[0]
            getattr(holder, name)[:] = value
        else:
            setattr(message.inputs[0], name, value)
    return message


def with_both():
    message = request(images(1))
    message.inputs[0].contents.fp32_contents.append(1)
    return message


def twice():
    message = request(images(1))
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])
    return message


def with_threshold(**choice):
    message = request(images(1))
    for name, value in choice.items():
        setattr(message.parameters["threshold"], name, value)
    return message


NAN = np.full((2, 8, 8, 1), np.nan, "float32")


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (b"\xff\xff", Code.INVALID_ARGUMENT, "the message is no ModelInferRequest"),
        (MESSAGES["ModelInferRequest"](model_name="other"), Code.NOT_FOUND, "no model 'other'; there are guard"),
        (MESSAGES["ModelInferRequest"](), Code.NOT_FOUND, "there is no model ''"),
        (request(), Code.INVALID_ARGUMENT, "the inputs are x"),
        (changed(name="y"), Code.INVALID_ARGUMENT, "the inputs are x; got y"),
        (changed(datatype="BYTES"), Code.INVALID_ARGUMENT, "datatype is one of .*; got 'BYTES'"),
        (changed(datatype="FP64"), Code.INVALID_ARGUMENT, "must be 512 bytes, for FP64 of shape .*; got 256"),
        (changed(shape=[1, 8, -8, 1]), Code.INVALID_ARGUMENT, "none of them negative"),
        (changed(shape=[1] * 40), Code.INVALID_ARGUMENT, "at most 32 sizes"),
        (changed(shape=[2**62] * 8), Code.INVALID_ARGUMENT, "got 256"),
        (changed(shape=[0, 2**62, 2**62], raw_input_contents=[b""]), Code.INVALID_ARGUMENT, "beyond any array's"),
        (changed(shape=[8, 8, 1]), Code.INVALID_ARGUMENT, r"must have shape \[-1, 8, 8, 1\]; got \[8, 8, 1\]"),
        (changed(raw_input_contents=[b"", b""]), Code.INVALID_ARGUMENT, "one tensor for each of the 1 inputs; got 2"),
        (changed(raw_input_contents=[]), Code.INVALID_ARGUMENT, "fp32_contents of input 'x' must hold 64 numbers"),
        (with_both(), Code.INVALID_ARGUMENT, "send one of them"),
        (twice(), Code.INVALID_ARGUMENT, "input 'x' is there twice"),
        (request(images(1).astype("int32") + 200, datatype="INT8", raw=False, field="int_contents"),
         Code.INVALID_ARGUMENT, "in the range of INT8"),
        (request(images(1), datatype="FP16", raw=False), Code.INVALID_ARGUMENT, "FP16, .* raw_input_contents only"),
        (request(np.full((1, 8, 8, 1), 7, "uint8"), datatype="BOOL"), Code.INVALID_ARGUMENT, "whose bytes are 0 or 1"),
        (request(images(0)), Code.INVALID_ARGUMENT, "there are no rows"),
        (request(images(4097)), Code.RESOURCE_EXHAUSTED, "may have 4096 rows; got 4097"),
        (request(NAN), Code.INVALID_ARGUMENT, "2 of 2 rows cannot be judged"),
        (with_output("nothing"), Code.INVALID_ARGUMENT, "there is no output 'nothing'"),
        (with_output("corrected", "corrected"), Code.INVALID_ARGUMENT, "an output is asked for twice"),
        (with_threshold(string_param="high"), Code.INVALID_ARGUMENT, "finite number of nats; got 'high'"),
        (with_threshold(string_param="nan"), Code.INVALID_ARGUMENT, "finite number of nats"),
        (with_threshold(bool_param=True), Code.INVALID_ARGUMENT, "finite number of nats"),
        (with_threshold(double_param=float("inf")), Code.INVALID_ARGUMENT, "finite number of nats"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(channel, message, code, words):
    found, details = refused(channel, message)
    assert found == code
    assert re.search(words, details)


def test_unknown_models_and_methods(channel):
    assert refused(channel, MESSAGES["ModelReadyRequest"](name="other"), "ModelReady")[0] == Code.NOT_FOUND
    assert refused(channel, MESSAGES["ModelMetadataRequest"](name="other"), "ModelMetadata")[0] == Code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/{server.SERVICE}/ModelStatistics")(b"", timeout=20)
    assert caught.value.code() == Code.UNIMPLEMENTED


def test_a_call_without_a_message_is_refused(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(f"/{server.SERVICE}/ModelInfer")(iter(()), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (
        Code.INVALID_ARGUMENT,
        "the call ended without a message, or with one that is too large",
    )


def test_a_failure_tells_nothing_of_the_inside(channel, caplog):
    x = images(1)
    x[0, 0, 0] = POISON
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", request(x), metadata=[("x-request-id", "abc-1")])
    assert (caught.value.code(), caught.value.details()) == (Code.INTERNAL, "internal error")
    assert ("x-request-id", "abc-1") in caught.value.trailing_metadata()
    assert "request abc-1 failed" in caplog.text
    assert "secret detail" in caplog.text


def test_damaged_messages_do_no_harm(channel):
    generator = np.random.default_rng(0)
    messages = request(images(2)), with_threshold(int64_param=1)
    whole = np.frombuffer(b"".join(message.SerializeToString() for message in messages), "uint8")
    codes = set()
    for _ in range(400):
        data = whole.copy()
        places = generator.integers(0, min(len(data), generator.choice([60, len(data)])), generator.integers(1, 6))
        data[places] = generator.integers(0, 256, len(places))
        try:
            call(channel, "ModelInfer", data[: generator.integers(1, len(data) + 1)].tobytes())
        except grpc.RpcError as error:
            codes.add(error.code())
    assert codes <= {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED}
    call(channel, "ModelInfer", request(images(1)))


# Who may ask ----------------------------------------------------------------------------------------------------------


def test_keys_are_asked_for_except_for_health():
    key, line = new_key("lab")
    keys = Keys(dict([line.split(":")]))
    with serving(keys=keys) as running, triton.InferenceServerClient(running.address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        for wrong in ({}, {"authorization": "Bearer demur_wrong"}, {"authorization": key}):
            for ask in (
                lambda headers: client.infer("guard", [tensor(images(1))], headers=headers),
                lambda headers: client.get_model_metadata("guard", headers=headers),
                lambda headers: client.get_server_metadata(headers=headers),
                lambda headers: client.is_model_ready("guard", headers=headers),
            ):
                with pytest.raises(triton.InferenceServerException, match=r"UNAUTHENTICATED.*needs a valid key"):
                    ask(wrong)
        headers = {"authorization": f"Bearer {key}"}
        assert client.is_model_ready("guard", headers=headers)
        assert client.infer("guard", [tensor(images(1))], headers=headers).as_numpy("corrected").shape == (1,)


def test_the_threshold_stays_with_the_operator():
    with (
        serving() as running,
        triton.InferenceServerClient(running.address) as client,
        pytest.raises(triton.InferenceServerException, match=r"INVALID_ARGUMENT.*set by the operator"),
    ):
        client.infer("guard", [tensor(images(1))], parameters={"threshold": "0.5"})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", str(paths[0]), "-keyout", str(paths[1])]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate")
    return paths


def test_tls(certificate):
    with serving(tls=certificate) as running:
        safe = triton.InferenceServerClient(running.address, ssl=True, root_certificates=str(certificate[0]))
        with safe as client:
            assert client.infer("guard", [tensor(images(1))]).as_numpy("corrected").shape == (1,)
        with grpc.insecure_channel(running.address) as plain:
            assert refused(plain, request(images(1)))[0] == Code.UNAVAILABLE


def test_what_is_no_certificate_is_told_at_the_start(running, certificate):
    with pytest.raises(InvalidSetting, match=r"cert\.pem and .*cert\.pem are no certificate and its private key"):
        running.call(server.Server(running.service).start("127.0.0.1:0", (certificate[0], certificate[0])))
    with pytest.raises(OSError, match="no-such"):
        running.call(server.Server(running.service).start("127.0.0.1:0", ("no-such.pem", "no-such.key")))


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "203.0.113.1:0"])
def test_where_it_cannot_listen_it_says_so(running, address):
    with pytest.raises(OSError, match=r"cannot listen for gRPC on \d"):
        running.call(server.Server(running.service).start(address.format(port=running.grpc.port)))


# Limits ---------------------------------------------------------------------------------------------------------------


def test_large_messages_are_refused():
    with serving(max_body_mb=20_000 / 2**20) as running, grpc.insecure_channel(running.address) as channel:
        assert refused(channel, request(images(100)))[0] == Code.RESOURCE_EXHAUSTED
        packed = {"compression": grpc.Compression.Gzip}
        zeros = request(np.zeros((10_000, 8, 8, 1), "float32"))
        assert refused(channel, zeros, **packed)[0] == Code.RESOURCE_EXHAUSTED
        found, _ = call(channel, "ModelInfer", request(images(10)), **packed)
        assert found.outputs[0].shape == [10]


def test_the_limit_of_bodies_holds_here_too():
    with serving(max_body_mb=0.01) as running, grpc.insecure_channel(running.address) as channel:
        assert refused(channel, request(images(100)))[0] == Code.RESOURCE_EXHAUSTED
        call(channel, "ModelInfer", request(images(10)))


def test_connections_have_a_limit(guard):
    own = [("grpc.use_local_subchannel_pool", 1)]
    with serving(guard, max_connections=1) as running, grpc.insecure_channel(running.address, own) as channel:
        infer = channel.unary_unary(f"/{server.SERVICE}/ModelInfer")
        calls = len(passes(guard))
        with held(guard):
            first = infer.future(request(images(1)).SerializeToString(), timeout=20)
            until(lambda: len(passes(guard)) == calls + 1)
            with grpc.insecure_channel(running.address, own) as other:
                # The connection is closed, or where an older gRPC lets it in, the call is refused.
                assert refused(other, request(images(1)))[0] in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
        assert first.result()
        assert passes(guard)[calls:] == [1]


def test_a_full_queue_says_when_to_come_again(guard):
    with serving(guard, max_queue=2) as running, grpc.insecure_channel(running.address) as channel:
        batcher = running.service.served("guard").batcher
        infer = channel.unary_unary(f"/{server.SERVICE}/ModelInfer")
        message = request(images(2)).SerializeToString()
        calls = len(passes(guard))
        with held(guard):
            accepted = [infer.future(message, timeout=20)]
            until(lambda: len(passes(guard)) == calls + 1)
            accepted.append(infer.future(message, timeout=20))
            until(lambda: batcher.waiting == 2)
            with pytest.raises(grpc.RpcError) as caught:
                infer(message, timeout=20)
        assert caught.value.code() == Code.UNAVAILABLE
        assert "the queue is full" in caught.value.details()
        assert ("grpc-retry-pushback-ms", "1000") in caught.value.trailing_metadata()
        for one in accepted:
            assert one.result()


def test_what_takes_too_long_ends_and_is_not_run(guard):
    with serving(guard, request_seconds=1.0) as running, grpc.insecure_channel(running.address) as channel:
        calls = len(passes(guard))
        with held(guard):
            infer = channel.unary_unary(f"/{server.SERVICE}/ModelInfer")
            first = infer.future(request(images(1)).SerializeToString(), timeout=20)
            until(lambda: len(passes(guard)) == calls + 1)
            code, details = refused(channel, request(images(3)))
            assert first.code() == Code.DEADLINE_EXCEEDED
        assert code == Code.DEADLINE_EXCEEDED
        assert details == "there was no answer within 1 seconds"
        call(channel, "ModelInfer", request(images(2)))
        assert passes(guard)[calls:] == [1, 2]


def test_a_message_that_never_comes_holds_nothing():
    with serving(request_seconds=0.2) as running, grpc.insecure_channel(running.address) as channel:
        never = threading.Event()

        def endless():
            never.wait(20)
            yield from ()

        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(f"/{server.SERVICE}/ModelInfer")(endless(), timeout=20)
        never.set()
        assert caught.value.code() == Code.DEADLINE_EXCEEDED
        assert "did not come whole within 0.2 seconds" in caught.value.details()


@pytest.mark.parametrize("end", ["cancelled", "deadline"])
def test_what_nobody_waits_for_is_not_run(guard, running, channel, end):
    infer = channel.unary_unary(f"/{server.SERVICE}/ModelInfer")
    batcher = running.service.served("guard").batcher
    calls, gone = len(passes(guard)), requests_counted(running, 499)
    with held(guard):
        first = infer.future(request(images(1)).SerializeToString(), timeout=20)
        until(lambda: len(passes(guard)) == calls + 1)
        second = infer.future(request(images(3)).SerializeToString(), timeout=1.0 if end == "deadline" else 20)
        until(lambda: batcher.waiting == 3)
        if end == "cancelled":
            second.cancel()
        else:
            assert second.code() == Code.DEADLINE_EXCEEDED
        until(lambda: requests_counted(running, 499) == gone + 1)
    assert first.result()
    call(channel, "ModelInfer", request(images(2)))
    assert passes(guard)[calls:] == [1, 2]


def test_stopping_finishes_what_was_accepted_and_tells_others_to_come_again(guard, monkeypatch):
    monkeypatch.setattr(server, "LINGER_SECONDS", 2.0)
    with serving(guard) as running, grpc.insecure_channel(running.address) as channel:
        infer = channel.unary_unary(f"/{server.SERVICE}/ModelInfer")
        calls = len(passes(guard))
        with held(guard):
            accepted = [infer.future(request(images(n)).SerializeToString(), timeout=20) for n in (1, 2, 3)]
            until(lambda: running.service.served("guard").batcher.waiting + sum(passes(guard)[calls:]) == 6)
            stopping = asyncio.run_coroutine_threadsafe(running.grpc.stop(20), running._host.loop)
            until(lambda: running.grpc.is_closing)
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, "ModelInfer", request(images(1)))
            assert caught.value.code() == Code.UNAVAILABLE
            assert caught.value.details() == "the server is shutting down"
            assert ("grpc-retry-pushback-ms", "1000") in caught.value.trailing_metadata()
            assert not any(one.done() for one in accepted)
        stopping.result(20)
        for n, one in zip((1, 2, 3), accepted, strict=True):
            assert MESSAGES["ModelInferResponse"].FromString(one.result()).outputs[0].shape == [n]
        assert refused(channel, b"", "ServerLive")[0] == Code.UNAVAILABLE


# Operations -----------------------------------------------------------------------------------------------------------


def test_request_ids_come_back(channel):
    _, about = call(channel, "ModelInfer", request(images(1)), metadata=[("x-request-id", "abc-7")])
    assert dict(about.trailing_metadata())["x-request-id"] == "abc-7"
    ids = set()
    for sent in ([], [("x-request-id", "two words")], [("x-request-id", "x" * 200)]):
        _, about = call(channel, "ServerLive", metadata=sent)
        ids.add(dict(about.trailing_metadata())["x-request-id"])
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{12}-\d+", one) for one in ids)


def test_requests_are_counted(running, channel):
    before = {status: requests_counted(running, status) for status in (200, 400)}
    call(channel, "ModelInfer", request(images(1)))
    refused(channel, changed(datatype="BYTES"))
    refused(channel, changed(name="y"))
    assert requests_counted(running, 200) == before[200] + 1
    assert requests_counted(running, 400) == before[400] + 2
    unknown = requests_counted(running, 404, "other")
    refused(channel, MESSAGES["ModelInferRequest"](model_name="elsewhere"))
    assert requests_counted(running, 404, "other") == unknown + 1


def test_requests_are_logged(channel, caplog):
    caplog.set_level("INFO", "demur.serve.access")
    call(channel, "ModelInfer", request(images(3)), metadata=[("x-request-id", "log-1")])
    until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage() == "gRPC ModelInfer"
    figures = record.demur
    assert figures.pop("ms") > 0
    assert figures == {"request_id": "log-1", "model": "guard", "rows": 3, "flagged": figures["flagged"], "status": 200}


def test_requests_are_traced():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from demur.serve.watching.logs import Tracer

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with (
        serving(tracer=Tracer(provider)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        call(channel, "ModelInfer", request(images(3)), metadata=[("traceparent", parent)])
        refused(channel, changed(name="y"))
        x = images(1)
        x[0, 0, 0] = POISON
        refused(channel, request(x))
    good, bad, broken = spans.get_finished_spans()
    assert f"{good.context.trace_id:032x}" == parent.split("-")[1]
    assert good.attributes["rpc.method"] == "ModelInfer"
    assert (good.attributes["demur.model"], good.attributes["demur.rows"]) == ("guard", 3)
    assert good.status.is_ok
    assert bad.attributes["http.response.status_code"] == 400
    assert bad.status.is_ok
    assert not broken.status.is_ok
    assert not broken.events  # what failed is in the log, not sent elsewhere


def test_the_server_starts_both():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Running(grpc_port=port) as running:
        with triton.InferenceServerClient(f"localhost:{port}") as client:
            assert client.infer("guard", [tensor(images(2))]).as_numpy("corrected").shape == (2,)
        with urllib.request.urlopen(f"{running.url}/v2/health/ready", timeout=20) as answer:
            assert answer.status == 200
