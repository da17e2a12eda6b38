"""The tutorials tell what is so: their code is pasted and run here, and their figures are those of the results."""

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.scaffold import pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/tutorials").glob("*.md"))}
TOLD = ["endpoint", "harmful_drift", "keras_images", "tabular", "text", "torch_images"]
"""Pages whose blocks are pasted, one after the other."""


def blocks(page, language):
    return pages.blocks(f"tutorials/{page}", language)


def prose(page):
    return re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)


def test_there_is_a_page_for_each():
    assert sorted(PAGES) == sorted([*TOLD, "from_alibi_detect"])


@pytest.mark.parametrize("page", TOLD)
def test_shares_in_the_text_are_those_that_the_code_printed(page):
    printed = "\n".join(blocks(page, "text"))
    shares = re.findall(r"\d+\.\d(?= %)", prose(page))
    assert shares
    assert [
        share for share in shares if f"{float(share) / 100:.3f}" not in printed and f"{share}%" not in printed
    ] == []


@pytest.mark.parametrize("page", TOLD)
def test_a_page_shows_what_came_out_and_what_can_go_wrong(page):
    assert re.search(r"^!\[[^\]]{60,}\]\(\.\./images/[\w-]+\.png\)", PAGES[page], re.MULTILINE)
    for heading in ("## What can go wrong", "## What next"):
        assert f"\n{heading}\n" in PAGES[page]


@pytest.mark.parametrize("page", TOLD)
def test_what_a_page_printed_was_printed_by_its_code(page):
    """The results were made by as many blocks as there are, and the last of them printed what the page shows."""
    found = json.loads((ROOT / f"docs/results/tutorial-{page}.json").read_text(encoding="utf-8"))
    assert len(found["printed"]) == len(blocks(page, "python")), f"run python tools/pictures/tutorials.py {page}"


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    """What a page's code printed and found, with less data, in a folder of its own and a process of its own."""

    def run(page, backend="tensorflow"):
        folder = tmp_path_factory.mktemp(page)
        command = [sys.executable, ROOT / "tests/scaffold/pages.py", f"tutorials/{page}", "results.json", "--small"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("DEMUR_DATA", None)
        environment.pop("KERAS_BACKEND", None)
        done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        assert found["backend"] == backend
        return found | {"folder": folder}

    return run


def by_threat(found, detector=None):
    rows = [row for row in found["found"] if detector in (None, row.get("detector"))]
    return {
        " ".join([row["threat"], *([] if row["strength"] is None else [f"{row['strength']:g}"])]): row for row in rows
    }


def check_attacked(rows):
    """Unchanged digits are seldom flagged, attacked ones often, and correction brings some of the accuracy back."""
    unchanged, attacked = rows["unchanged"], rows["PGD 0.1"]
    assert unchanged["accuracy"] > 0.9
    assert unchanged["flagged_all"] == pytest.approx(0.05, abs=0.04)
    assert unchanged["corrected"] > unchanged["accuracy"] - 0.05
    assert attacked["accuracy"] < unchanged["accuracy"] - 0.1
    assert attacked["auroc_successful"] > 0.85
    for corruption in ("impulse noise", "gaussian blur"):
        assert rows[f"{corruption} 3"]["auroc_successful"] > 0.85
        assert rows[f"{corruption} 3"]["flagged"] > 2 * unchanged["flagged_all"]


@pytest.mark.nightly
def test_a_keras_network_is_guarded_and_its_guard_kept(pasted):
    found = pasted("keras_images")
    rows = by_threat(found)
    check_attacked(rows)
    assert rows["PGD 0.1"]["corrected"] > rows["PGD 0.1"]["accuracy"] + 0.05
    assert (found["folder"] / "guard/detector.json").is_file()


@pytest.mark.nightly
def test_a_pytorch_network_is_guarded_by_both_detectors(pasted):
    found = pasted("torch_images", "torch")
    for detector in ("AdversarialAE", "ModelDistillation"):
        check_attacked(by_threat(found, detector))
    attacked = by_threat(found, "AdversarialAE")["PGD 0.1"]
    assert attacked["corrected"] > attacked["accuracy"] + 0.05


@pytest.mark.nightly
def test_boosted_trees_are_watched_on_a_table(pasted):
    rows = {row["change"]: row for row in pasted("tabular")["found"]}
    assert rows["unchanged"]["accuracy"] > 0.9
    assert rows["unchanged"]["flagged"] < 0.15
    assert rows["unchanged"]["batches"] == 0
    assert rows["noise of 1 standard deviation"]["caught"] > 2 * rows["unchanged"]["flagged"]
    assert rows["noise of 1 standard deviation"]["batches"] == rows["fLength and fWidth swapped"]["batches"] == 1


@pytest.mark.nightly
def test_typing_errors_are_noticed_in_text(pasted):
    rows = {row["change"]: row for row in pasted("text")["found"]}
    assert rows["accents left out"]["accuracy"] < rows["unchanged"]["accuracy"] - 0.05
    assert rows["in capitals"]["accuracy"] < rows["unchanged"]["accuracy"] - 0.2
    assert rows["in capitals"]["caught"] > 2 * rows["unchanged"]["flagged"]


@pytest.mark.nightly
def test_harmful_drift_is_told_from_harmless(pasted):
    found = pasted("harmful_drift")
    severities, printed = found["found"], "".join(found["printed"])
    assert severities[-1]["accuracy"] < severities[0]["accuracy"]
    for row in severities:
        assert row["harmful score"] > 1.5 * row["harmless score"]
        assert row["estimated"] == pytest.approx(row["accuracy"], abs=0.15)
    shares = {
        int(share): (float(bad), float(good)) for share, bad, good in re.findall(r"(\d+) % +(\S+) +(\S+)", printed)
    }
    assert list(shares) == [0, 5, 10, 20, 30, 50]
    assert shares[30][0] < 0.05 < shares[30][1]
    assert shares[0][0] > 0.3
    assert 0 < int(re.search(r"alarm (\d+) scores after", printed)[1]) < 600


# foolbox 3.3.4, with current SciPy, when it is imported.
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")
def test_from_zero_to_a_guarded_endpoint(tmp_path, monkeypatch):
    """As the page goes: paste, serve the file, ask by curl and by Python, watch, end the alarm."""
    monkeypatch.chdir(tmp_path)
    *first, watch = pages.with_less("tutorials/endpoint", blocks("endpoint", "python"))
    names = {"__name__": "__console__"}
    true, taken_for = re.search(r"a (\d) that the classifier takes for a (\d)", pages.paste(first, names)[-1]).groups()
    serve, ask, reset = [block.strip() for block in blocks("endpoint", "console")[1:]]
    command = [sys.executable, "-m", "demur.cli", *serve.removeprefix("$ demur ").split(), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))

            def shell(line):
                words = shlex.split(line.removeprefix("$ ").replace("http://127.0.0.1:8080", url))
                done = subprocess.run(words, check=False, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                return done.stdout

            answer = {output["name"]: output["data"][0] for output in json.loads(shell(ask))["outputs"]}
            assert (answer["no_defense"], answer["corrected"]) == (int(taken_for), int(true))
            assert answer["is_adversarial"] is True
            said = pages.paste([watch.replace("http://127.0.0.1:8080", url)], names)[0]
            rows = [line.split() for line in said.split("alarm\n")[1].splitlines()]
            assert [row[-1] for row in rows[:4]] == ["no"] * 4
            assert rows[-1][-1] == "yes"
            assert json.loads(shell(f"curl -s {url}/live/guard"))["drift"]["alarm"] is True
            assert json.loads(shell(reset)) == {"name": "guard", "alarm": False}
            assert json.loads(shell(f"curl -s {url}/live/guard"))["drift"]["alarm"] is False
        finally:
            server.terminate()
            server.communicate()


def test_a_block_that_is_broken_fails():
    with pytest.raises(ZeroDivisionError):
        pages.paste(["one = 1\n", "one / 0\n"], {})
    with pytest.raises(SyntaxError):
        pages.paste(["def f():\n    a = 1\n\n    return a\n"], {})  # the prompt ends a function at a blank line
    with pytest.raises(AssertionError, match="does not end"):
        pages.paste(["print(1\n"], {})


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
