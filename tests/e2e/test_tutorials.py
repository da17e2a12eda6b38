"""The tutorials tell what is so: their code is that of the scripts or runs here, and their figures are the results'."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/tutorials").glob("*.md"))}
TOLD = ["endpoint", "harmful_drift", "keras_images", "tabular", "text", "torch_images"]
"""Pages that tell the story of a script."""


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def prose(page):
    return re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)


def scripts(page):
    named = set(re.findall(r"\(\.\./\.\./(examples/\w+\.py)\)", PAGES[page]))
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in named}


def test_there_is_a_page_for_each():
    assert sorted(PAGES) == sorted([*TOLD, "from_alibi_detect"])


@pytest.mark.parametrize("page", TOLD)
def test_code_on_a_page_is_that_of_its_script(page):
    texts = scripts(page).values()
    shown = blocks(page, "python")
    assert len(shown) >= 2
    for block in shown:
        indented = [textwrap.indent(textwrap.dedent(block), " " * indent) for indent in (0, 4, 8, 12, 16)]
        assert any(f"\n{one}" in text for text in texts for one in indented), block


@pytest.mark.parametrize("page", TOLD)
def test_shares_in_the_text_are_those_that_the_script_printed(page):
    printed = "\n".join(blocks(page, "text"))
    shares = re.findall(r"\d+\.\d %", prose(page))
    assert shares
    assert [share for share in shares if share not in printed] == []


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", prose(page))
    assert [target for target in targets if not (ROOT / "docs/tutorials" / target).exists()] == []


@pytest.mark.parametrize("page", TOLD)
def test_a_page_shows_what_came_out_and_what_can_go_wrong(page):
    assert re.search(r"^!\[[^\]]{60,}\]\(\.\./images/[\w-]+\.png\)", PAGES[page], re.MULTILINE)
    for heading in ("## What can go wrong", "## What next"):
        assert f"\n{heading}\n" in PAGES[page]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """A folder with the guard of the tutorial, trained for a shorter time, and what was printed."""
    folder = tmp_path_factory.mktemp("endpoint")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "examples/endpoint_guard.py", "--small"]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_from_zero_to_a_guarded_endpoint(endpoint):
    """As the page goes: serve the file, ask by curl and by Python, watch, end the alarm."""
    folder, printed = endpoint
    true, taken_for = re.search(r"request\.json: a (\d) that the classifier takes for a (\d)", printed).groups()
    scripted, serve, ask, watch, reset = [block.strip() for block in blocks("endpoint", "console")[1:]]
    assert scripted == "$ python examples/endpoint_guard.py"
    command = [sys.executable, "-m", "demur.cli", *serve.removeprefix("$ demur ").split(), "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

            def shell(line):
                words = shlex.split(line.removeprefix("$ ").replace("http://127.0.0.1:8080", url))
                done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                return done.stdout

            answer = {output["name"]: output["data"][0] for output in json.loads(shell(ask))["outputs"]}
            assert (answer["no_defense"], answer["corrected"]) == (int(taken_for), int(true))
            assert answer["is_adversarial"] is True
            assert watch.startswith("$ python ")
            said = shell(f"{sys.executable} {ROOT / watch.removeprefix('$ python ')} --url {url}")
            rows = [line.split() for line in said.split("alarm\n")[1].splitlines()]
            assert [row[-1] for row in rows[:4]] == ["no"] * 4
            assert rows[-1][-1] == "yes"
            assert json.loads(shell(f"curl -s {url}/live/guard"))["drift"]["alarm"] is True
            assert json.loads(shell(reset)) == {"name": "guard", "alarm": False}
            assert json.loads(shell(f"curl -s {url}/live/guard"))["drift"]["alarm"] is False
        finally:
            server.terminate()
            server.communicate()


# Moving over from alibi-detect --------------------------------------------------------------------------------------

ARGUMENTS = json.loads((ROOT / "docs/results/alibi-arguments.json").read_text(encoding="utf-8"))["arguments"]
SECTIONS = {
    "Constructor": ["__init__"],
    "`fit`": ["fit"],
    "`infer_threshold`": ["infer_threshold"],
    "`score`, `predict`, `correct`": ["score", "predict", "correct"],
}


def table(heading):
    """The cells of a section's table, by what stands first."""
    text = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGES["from_alibi_detect"], re.M | re.S)[1]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


def told(cell):
    """The defaults that a cell names; of an argument that is not there, none."""
    return set() if cell == "-" else set(cell.replace("`", "").split())


def taken(library, methods):
    """The arguments of both detectors' methods, with all their defaults."""
    found = {}
    for detector in ("AdversarialAE", "ModelDistillation"):
        for method in methods:
            for name, default in (ARGUMENTS[library][detector][method] or {}).items():
                found.setdefault(name, set()).add(default)
    return found


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_argument_has_its_row(heading):
    rows = table(heading)
    for column, library in enumerate(("alibi-detect", "demur")):
        named = {name: told(cells[column]) for name, cells in rows.items()}
        assert {name: defaults for name, defaults in named.items() if defaults} == taken(library, SECTIONS[heading])


def test_saving_and_loading_have_their_rows():
    rows = table("Saving and loading")
    for column, library in enumerate(("alibi-detect", "demur")):
        named = {name: told(cells[column]) for name, cells in rows.items() if told(cells[column])}
        both = {**ARGUMENTS[library]["save"], **ARGUMENTS[library]["load"]}
        assert named == {name: {default} for name, default in both.items()}


def test_the_arguments_of_demur_are_those_that_it_has():
    import demur

    methods = {
        (kind, method): getattr(getattr(demur, kind), method)
        for kind in ("AdversarialAE", "ModelDistillation")
        for method in ("__init__", "fit", "infer_threshold", "score", "predict", "correct")
    }
    ours = ARGUMENTS["demur"]
    kept = {(kind, method): ours[kind][method] for kind, method in methods}
    methods |= {"save": demur.AdversarialAE.save, "load": demur.load_detector}
    kept |= {"save": ours["save"], "load": ours["load"]}
    for name, method in methods.items():
        parameters = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        found = {p.name: "required" if p.default is p.empty else repr(p.default) for p in parameters}
        assert found == kept[name], f"run benchmarks/compare_arguments.py: {name} has other arguments"


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """What the blocks without alibi-detect leave behind, run one after the other."""
    import keras

    def network(*layers):
        return keras.Sequential([keras.layers.Input((4,)), *layers])

    rng = np.random.default_rng(0)
    names = {name: rng.normal(size=(200, 4)).astype("float32") for name in ("x_train", "x_held_out", "x_new")}
    names["classifier"] = network(keras.layers.Dense(3, activation="softmax"))
    names["autoencoder"] = network(keras.layers.Dense(3, "relu"), keras.layers.Dense(4))
    before, *after = blocks("from_alibi_detect", "python")
    assert "alibi_detect" in before
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("moved"))
        for block in after:
            exec(block.replace("epochs=20", "epochs=1, verbose=False"), names)
            found.append(dict(names))
    return before, after, found


def test_the_code_after_moving_runs_and_answers(moved):
    before, after, (same, anew) = moved
    called = re.findall(r"detector\.(\w+)\(", before)
    assert called == ["fit", "infer_threshold", "correct"]
    assert [name for name in called if name not in re.findall(r"detector\.(\w+)\(", after[0])] == []
    assert same["detector"].settings["score_type"] == "kld"
    assert anew["detector"].calibration.fpr == 0.05
    assert len(after) == 2


def test_every_key_of_a_result_has_its_row(moved):
    _, _, (same, _) = moved
    rows = table("Keys of the results")
    answer = same["detector"].correct(same["x_new"])
    dtypes = {name: str(value.dtype) for name, value in answer["data"].items()}
    ours = {name: cells[1].strip("`") for name, cells in rows.items()}
    assert {name: ours[name] for name in dtypes} == dtypes
    assert set(ours) - set(dtypes) == {"meta", "harm_probability", "invalid"}
    theirs = json.loads((ROOT / "docs/results/alibi-arguments.json").read_text(encoding="utf-8"))["results"]
    shown = {name: cells[0].strip("`") for name, cells in rows.items() if cells[0] != "-" and name != "meta"}
    assert shown == theirs["alibi-detect"]["data"]
    assert sorted(re.findall(r"`(\w+)`", rows["meta"][0])) == theirs["alibi-detect"]["meta"] == sorted(answer["meta"])
