"""The page of alarms and the alert rules name commands, options and metrics that there are."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from demur.cli import build_parser
from demur.serve.serving import protocol
from demur.serve.watching import alarms, watch
from demur.serve.watching.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
RULES = ROOT / "deploy" / "alerts.yml"


class Guard:
    """As much of a guard as the telemetry asks for."""

    detector, sha256, calibration, threshold = "ModelDistillation", "0" * 64, None, 1.0


@pytest.fixture(scope="module")
def metrics():
    """The names of all metrics that a server can show, after each event there is, and their labels."""
    telemetry = Telemetry()
    telemetry.model("guard", Guard())
    telemetry.request("guard", "http", 200, 0.1)
    telemetry.batch("guard", 1, 0.1)
    telemetry.queue("guard", 1)
    telemetry.drift("guard", 0.0, 1.0, alarm=False)
    telemetry.delivery("guard", "failed")
    telemetry.failure("guard", "OSError")
    found = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", telemetry.exposition()[0].decode(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    return found


def commands():
    """The `demur ...` commands in the page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ demur ")]
    return [shlex.split(line.split(" < ")[0]) for line in lines]


def test_every_command_is_understood():
    found = commands()
    assert found
    for command in found:
        build_parser().parse_args(command[1:])  # ends the test if it is none


def test_every_option_is_one():
    (commands,) = build_parser()._subparsers._group_actions
    options = {
        option for parser in commands.choices.values() for action in parser._actions for option in action.option_strings
    }
    named = set(re.findall(r"`(--[a-z][a-z0-9-]+)", PAGE))
    assert len(named) > 5
    assert named <= options, named - options


def test_every_metric_is_one(metrics):
    named = set(re.findall(r"\b(demur_\w+|process_\w+)", PAGE)) - {"demur_"}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in metrics}
    assert named
    assert named <= families, named - families


def test_every_metric_of_the_server_is_explained(metrics):
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in metrics if name.startswith("demur_")}
    pages = PAGE + (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    missing = {name for name in families if f"{name}" not in pages and not name.endswith("_created")}
    assert not missing


def test_the_rules_ask_for_metrics_and_labels_that_there_are(metrics):
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", PAGE, re.M)}
    for rule in rules:
        assert f"`{rule['alert']}`" in PAGE
        assert rule["annotations"]["runbook"].removeprefix("docs/runbook.md#") in slugs
        asked = re.findall(r"\b(demur_\w+|process_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert asked or rule["expr"].startswith("up{")
        for name, labels in asked:
            assert name in metrics, name
            given = set(re.findall(r"(\w+)\s*[=!]", labels)) - {"job"}  # which Prometheus adds
            assert given <= metrics[name], (name, given)
    assert len(rules) == len(re.findall(r"^\| `Demur\w+`", PAGE, re.MULTILINE))


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed")
def test_the_rules_fire_when_they_should():
    command = ["promtool", "test", "rules", RULES.with_name("alerts_test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_event_is_as_it_is_shown():
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(block)
    made = alarms.cloud_event("guard", shown["data"], 0.0)
    assert list(shown) == list(made)
    same = ("specversion", "type", "subject", "datacontenttype")
    assert all(shown[name] == made[name] for name in same)
    assert re.sub("//[^/]*", "//host", made["source"]) == shown["source"]
    source = inspect.getsource(watch.Watch._alarmed)
    assert list(shown["data"]) == re.findall(r'^ +"(\w+)": ', source, re.MULTILINE)


def test_the_webhook_is_tried_as_often_as_it_says():
    defaults = {name: p.default for name, p in inspect.signature(alarms.Webhook).parameters.items()}
    assert (defaults["tries"], defaults["wait"], defaults["timeout"], defaults["capacity"]) == (5, 1.0, 5.0, 100)
    assert alarms.LONGEST_WAIT == 60
    assert "five times in all, after 1, 2, 4 and 8 seconds" in " ".join(PAGE.split())


def test_every_status_that_the_server_gives_is_in_the_runbook():
    folder = Path(inspect.getfile(protocol)).parent
    text = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
    given = set(re.findall(r"(?:ProtocolError|_refuse|__init__)\(\s*(\d{3})", text))
    assert {"400", "503", "504"} <= given
    named = set(re.findall(r"\b([45]\d\d)\b", PAGE))
    assert given - {"415", "431"} <= named  # a body in an unknown encoding, a head of 64 KiB
    assert not re.search(r"(?:ProtocolError|_refuse|__init__)\(\s*429", text)
