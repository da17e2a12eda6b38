"""`demur evaluate` and what comes before and after it, as a user types them, in a folder of their own."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from demur import cli, datasets, load_detector

# foolbox 3.3.4, with current SciPy, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `gaussian_filter` from the `scipy.ndimage`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a classifier of 8 x 8 digits, data for it, and a guard made by the commands."""
    path = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.chdir(path)
        data = datasets.load("digits")
        keras.utils.set_random_seed(0)
        body = [layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax")]
        model = keras.Sequential([layers.Input((8, 8, 1)), *body])
        model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
        model.fit(*data.train, epochs=5, batch_size=32, verbose=0)
        model.save("classifier.keras")
        np.savez("train.npz", images=data.train.x)
        np.save("held_out.npy", data.held_out.x)
        np.savez("test.npz", images=data.test.x[:40], labels=data.test.y[:40])
        np.save("bytes.npy", (data.test.x[:40] * 16).round().astype("uint8"))
        fit = "fit classifier.keras --data train.npz:images --out guard --epochs 5 --quiet"
        assert cli.main(fit.split()) == 0
        assert cli.main(["threshold", "guard", "--data", "held_out.npy", "--fpr", "0.05"]) == 0
        yield path


TEST = "--data test.npz:images --labels test.npz:labels"


@pytest.fixture
def demur(folder, monkeypatch, capsys):
    """Run a command: its status, and what it wrote to both streams."""
    monkeypatch.chdir(folder)

    def run(*words):
        status = cli.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_guard_is_made_evaluated_and_reported(demur, folder):
    attacks = ["--attacks", "FGSM,selective PGD", "--corruptions", "none"]
    arguments = ["evaluate", "guard", *TEST.split(), *attacks, "--epsilon", "Linf=0.15", "--out", "results"]
    names = ["--class-names", ",".join(f"digit {i}" for i in range(10))]
    status, out, _ = demur(*arguments, *names)
    assert status == 0
    assert "\nFGSM 0.15 " in f"\n{out}"
    assert "40 rows" in out
    assert "\nselective PGD 0.15 " in out
    assert "written to results/evaluation.json" in out
    assert "demur report results/evaluation.json -o report.html" in out

    found = json.loads((folder / "results" / "evaluation.json").read_text(encoding="utf-8"))
    data = load_detector("guard").correct(np.load("test.npz")["images"])["data"]
    labels = np.load("test.npz")["labels"]
    assert found["rows"] == 40
    assert found["clean"]["corrected"][0] == pytest.approx(np.mean(data["corrected"] == labels))
    assert [(t["name"], t["strength"]) for t in found["threats"]] == [("FGSM", 0.15), ("selective PGD", 0.15)]
    assert found["class_names"][3] == "digit 3"
    assert found["promised_fpr"] == 0.05

    status, out, _ = demur("report", "results/evaluation.json", "-o", "report.html")
    assert status == 0
    assert "written to report.html" in out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "selective PGD" in page
    assert "digit 3" in page

    # The same command takes what is there: the same figures, and no attack is run again.
    kept = {path.name: path.stat().st_mtime_ns for path in (folder / "results" / "attacked").iterdir()}
    status, out, _ = demur(*arguments, *names, "--quiet", "--report", "again.html")
    assert status == 0
    assert "written to again.html" in out
    assert "selective PGD" in (folder / "again.html").read_text(encoding="utf-8")
    status, told, _ = demur("info", "results")
    assert status == 0
    assert told.strip() in out
    assert "40 rows" not in out
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "results" / "attacked").iterdir()} == kept
    again = json.loads((folder / "results" / "evaluation.json").read_text(encoding="utf-8"))
    assert [t["corrected"] for t in again["threats"]] == [t["corrected"] for t in found["threats"]]


def test_options_reach_the_evaluation(demur, folder):
    words = f"evaluate guard --data bytes.npy --scale 0.0625 {TEST.split(' ', 2)[2]} --train train.npz:images"
    options = "--attacks none --corruptions contrast --seed 3 --budget 10min --bounds 0 2 --out other --quiet"
    assert demur(*words.split(), *options.split())[0] == 0
    found = json.loads((folder / "other" / "evaluation.json").read_text(encoding="utf-8"))
    assert {threat["name"] for threat in found["threats"]} == {"contrast"}
    assert (found["settings"]["seed"], found["settings"]["budget"]) == (3, "10min")
    assert found["settings"]["bounds"] == [0, 2]
    assert "reconstruction error" in found["clean_detection"]
    np.testing.assert_allclose(
        sorted(found["clean"]["scores"]),
        sorted(load_detector("guard").score(np.load("test.npz")["images"])),
        rtol=1e-3,
        atol=1e-5,
    )


def test_names_with_a_comma_in_them_are_names(demur, folder):
    arguments = f"evaluate guard {TEST} --corruptions none --out comma --quiet".split()
    status, _, err = demur(*arguments, "--attacks", "C&W, confident,FGSN")
    assert status == 1
    assert "got 'FGSN'" in err, "the name before it is one, and known"


def test_a_guard_without_a_threshold_is_told_the_command_that_sets_one(demur, folder):
    fit = "fit classifier.keras --data train.npz:images --out fresh --epochs 1 --quiet"
    assert demur(*fit.split())[0] == 0
    status, out, err = demur(*f"evaluate fresh {TEST} --attacks none".split())
    assert status == 1
    assert out == ""
    assert err == (
        "demur: error: fresh has no threshold yet; first: demur threshold fresh --data HELD_OUT.npz --fpr 0.05\n"
    )
    assert not (folder / "evaluation").exists(), "nothing has begun"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Linf", "must end in a number, NORM=SIZE; got 'Linf'"),
        ("Linf=small", "must end in a number, NORM=SIZE; got 'Linf=small'"),
        ("L3=1", "must be a norm, one of Linf, L2, L1, and a size, NORM=SIZE; got 'L3=1'"),
        ("0.1", "must be a norm, one of Linf, L2, L1, and a size, NORM=SIZE; got '0.1'"),
    ],
)
def test_a_budget_is_a_norm_and_a_size(demur, capsys, given, message):
    with pytest.raises(SystemExit) as exit_info:
        demur(*f"evaluate guard {TEST} --epsilon {given}".split())
    assert exit_info.value.code == 2
    assert f"argument --epsilon: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--epsilon Linf=-1", "epsilons['Linf'] is a number above 0; got -1.0"),
        ("--budget soon", "budget is a time such as '10min'"),
        ("--bounds 1 0", "bounds are two numbers, the smaller first"),
        ("--class-names a,b", "class_names needs a name for each of the 10 classes; got 2"),
        ("--attacks FGSN", "got 'FGSN'"),
        ("--labels held_out.npy", "y must hold one whole number"),
        ("--data nothing.npy", "there is no data at nothing.npy"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_of_error(demur, options, message):
    status, out, err = demur(*f"evaluate guard {TEST} --out refused --quiet {options}".split())
    assert status == 1
    assert out == ""
    assert err.startswith("demur: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_evaluation_that_is_none_makes_no_report(demur, folder):
    (folder / "torn.json").write_text('{"format": 1')
    status, _, err = demur("report", "torn.json", "-o", "torn.html")
    assert status == 1
    assert "torn.json is no evaluation that demur wrote" in err
    assert not (folder / "torn.html").exists()
