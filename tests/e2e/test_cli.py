"""The command line, run as its user runs it: `main([...])` on files in a temporary folder."""

import csv
import importlib
import inspect
import io
import json
import operator
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from demur import cli, starting
from demur.calibration.words import percent
from demur.cli import data as cli_data
from demur.cli import files, signatures
from demur.errors import DemurError, InvalidSetting, MissingExtra, WrongRows
from tests.scaffold.advice import advises

COLUMNS = {
    "score": ["instance_score"],
    "predict": ["is_adversarial", "instance_score", "p_value"],
    "correct": ["is_adversarial", "instance_score", "p_value", "corrected", "no_defense", "defense"],
}


@pytest.fixture(scope="module", autouse=True)
def _environment():
    # What the commands set for their process shall not outlive these tests.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a classifier of 8 x 8 digits and data for it."""
    import keras
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("data")
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu", name="features"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:300], labels[:300], epochs=3, batch_size=32, verbose=0)
    model.save(folder / "classifier.keras")
    np.savez(folder / "train.npz", images=images[:300], labels=labels[:300])
    np.save(folder / "held_out.npy", images[300:500])
    np.save(folder / "bytes.npy", (images[300:500] * 16).astype("uint8"))
    noise = np.random.default_rng(0).normal(0, 0.4, (100, 8, 8, 1)).astype("float32")
    np.savez(folder / "new.npz", images[500:600] + noise)
    return folder


@pytest.fixture(scope="module")
def detector(data):
    """A detector with a threshold, made by the commands."""
    folder = str(data / "detector")
    assert cli.main(fit_arguments(data, folder, "--hidden-layer", "features=8", "--w-recon", "0.1")) == 0
    assert cli.main(["threshold", folder, "--data", str(data / "held_out.npy"), "--threshold-perc", "90"]) == 0
    return folder


def fit_arguments(data, out, *options):
    rows = f"{data / 'train.npz'}:images"
    return ["fit", str(data / "classifier.keras"), "--data", rows, "--out", str(out), "--epochs", "3", *options]


def rows_of(data):
    return np.load(data / "new.npz")["arr_0"]


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def error_of(capsys, *arguments):
    """Run a command that shall fail: status 1, one line on stderr, nothing on stdout."""
    assert cli.main([str(argument) for argument in arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("demur: error: ")
    assert err.count("\n") == 1
    return err


def usage_error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_info:
        cli.main([str(argument) for argument in arguments])
    assert exit_info.value.code == 2
    return capsys.readouterr().err


# Learning ---------------------------------------------------------------------------------------------------------


def test_fit_is_the_python_fit(data, detector):
    import keras

    from demur import AdversarialAE, load_detector

    saved = load_detector(detector)
    assert isinstance(saved, AdversarialAE)
    assert saved.hidden_layer_kld == {"features": 8}

    classifier = keras.saving.load_model(data / "classifier.keras")
    same = AdversarialAE(model=classifier, hidden_layer_kld={"features": 8})
    same.fit(np.load(data / "train.npz")["images"], epochs=3, w_recon=0.1, verbose=False)
    np.testing.assert_allclose(saved.score(rows_of(data)), same.score(rows_of(data)), rtol=0.01)

    same.infer_threshold(np.load(data / "held_out.npy"), threshold_perc=90)
    assert saved.threshold == pytest.approx(same.threshold, rel=0.01)


def test_fit_shows_epochs_and_says_what_is_next(data, tmp_path, capsys):
    assert cli.main(fit_arguments(data, tmp_path / "my detector", "--scale", "0.5")) == 0
    out = capsys.readouterr().out
    assert "Epoch 3/3" in out
    assert f"demur threshold '{tmp_path / 'my detector'}' --data HELD_OUT.npz:images --fpr 0.05\n" in out


def test_ctrl_c_keeps_what_fit_has_learned_and_writes_nothing_before(data, tmp_path, capsys, monkeypatch):
    from demur import AdversarialAE, load_detector

    fit = AdversarialAE.fit

    def interrupted_after(epochs):
        def run(self, X, **settings):
            if epochs:
                fit(self, X, **{**settings, "epochs": epochs})
            raise KeyboardInterrupt

        return run

    for epochs, folder in ((0, tmp_path / "nothing"), (1, tmp_path / "some")):
        monkeypatch.setattr(AdversarialAE, "fit", interrupted_after(epochs))
        assert cli.main(fit_arguments(data, folder, "--scale", "0.5")) == 130
        said = capsys.readouterr().err
        assert folder.exists() is bool(epochs)
        assert (f"saved in {folder} what was learned so far" in said) is bool(epochs)
        assert "demur: interrupted" in said
    assert load_detector(tmp_path / "some").scale == 0.5


def test_the_scale_of_fit_is_remembered_and_may_be_said_otherwise(data, tmp_path, capsys, monkeypatch):
    guard, onnx, scores = tmp_path / "guard", tmp_path / "guard.onnx", tmp_path / "scores.npz"
    bytes_, scaled = str(data / "bytes.npy"), str(data / "held_out.npy")
    fit = ["fit", str(data / "classifier.keras"), "--data", bytes_, "--scale", "0.0625", "--out", str(guard)]
    assert cli.main([*fit, "--epochs", "1"]) == 0
    assert "scale      0.0625, remembered" in capsys.readouterr().out
    with pytest.warns(WrongRows, match="among the rows that fit was given"):
        assert cli.main(["threshold", str(guard), "--data", bytes_, "--quiet"]) == 0
    assert cli.main(["export", str(guard), "-o", str(onnx)]) == 0
    found = {}
    for name in (guard, onnx):
        for options in ([bytes_], [scaled, "--scale", "1"]):
            assert cli.main(["score", str(name), "--quiet", "--out", str(scores), "--data", *options]) == 0
            found[name, len(options)] = np.load(scores)["instance_score"]
        assert cli.main(["drift", "--detector", str(name), bytes_]) == 0
    for other in found.values():
        np.testing.assert_allclose(other, found[guard, 1], rtol=1e-3, atol=1e-4)
    with pytest.warns(WrongRows, match="vary 16 times less than those of the rows of fit"):
        cli.main(["predict", str(guard), "--data", scaled])
    evidence = []
    for rows, options in ((bytes_, []), (scaled, ["--scale", "1"])):
        line = json.dumps({"rows": np.load(rows)[:20].tolist()})
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
        state = str(tmp_path / f"{len(evidence)}.json")
        capsys.readouterr()
        cli.main(["monitor", "--detector", str(onnx), "--state", state, *options])
        evidence.append(json.loads(capsys.readouterr().out)["log_evidence"])
    assert evidence[0] == pytest.approx(evidence[1], abs=1e-3)


def test_fit_distils_with_options_of_its_own_into_a_companion_of_ones_own(data, tmp_path, capsys):
    import keras

    from demur import ModelDistillation, load_detector

    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    keras.Sequential([keras.layers.Input((8, 8, 1)), *layers], name="mine").save(tmp_path / "student.keras")
    options = ["--detector", "model-distillation", "--companion", str(tmp_path / "student.keras")]
    options += [
        "--loss-type",
        "xent",
        "--score-type",
        "kld",
        "--temperature",
        "0.5",
        "--data-type",
        "image",
        "--seed",
        "3",
        "--quiet",
    ]
    assert cli.main(fit_arguments(data, tmp_path / "out", *options)) == 0
    assert "Epoch" not in capsys.readouterr().out

    saved = load_detector(tmp_path / "out")
    assert isinstance(saved, ModelDistillation)
    assert saved.distilled_model.name == "mine"
    wanted = {
        "loss_type": "xent",
        "score_type": "kld",
        "w_uncertainty": 0.0,
        "temperature": 0.5,
        "data_type": "image",
        "from_logits": False,
        "seed": 3,
        "on_invalid": "raise",
        "channels_last": False,
        "companion_preprocess": None,
        "is_copy": False,
    }
    assert saved.settings == wanted


def test_fit_takes_what_makes_a_guard_robust(data, tmp_path):
    from demur import AdversarialAE, Robust, load_detector

    near = Robust(0.3, bounds=(0, 1))
    options = ["--loss-type", "jeffreys", "--w-uncertainty", "0.01", "--w-recon", "0.1", "--quiet"]
    options += ["--robust", "0.3", "--bounds", "0", "1", "--epochs", "1"]
    assert cli.main(fit_arguments(data, tmp_path / "out", *options)) == 0
    saved = load_detector(tmp_path / "out")
    assert (saved.loss_type, saved.w_uncertainty) == ("jeffreys", 0.01)

    def scores(robust):
        other = AdversarialAE(model=saved.model, loss_type="jeffreys", w_uncertainty=0.01)
        X = np.load(data / "train.npz")["images"]
        return other.fit(X, epochs=1, w_recon=0.1, verbose=False, robust=robust).score(rows_of(data))

    # Steps along the sign of a gradient make much of a rounding error.
    same, plain = (np.abs(scores(robust) - saved.score(rows_of(data))).mean() for robust in (near, None))
    assert same < 0.1 * plain
    options = ["--detector", "model-distillation", "--companion", "copy", "--robust-l2", "0.5", "--robust", "0.1"]
    assert cli.main(fit_arguments(data, tmp_path / "copied", *options, "--quiet")) == 0
    copied = load_detector(tmp_path / "copied").distilled_model
    assert [layer.get_config() for layer in copied.layers] == [layer.get_config() for layer in saved.model.layers]
    assert not all(map(np.array_equal, copied.get_weights(), saved.model.get_weights()))
    error = ["--robust", "0"]
    assert cli.main(fit_arguments(data, tmp_path / "other", *error)) == 1
    assert not (tmp_path / "other").exists()


def test_threshold_is_saved_and_printed(data, detector, tmp_path, capsys):
    from demur import load_detector

    before = load_detector(detector)
    before.save(tmp_path / "detector")
    arguments = ["threshold", str(tmp_path / "detector"), "--data", str(data / "held_out.npy")]
    assert cli.main([*arguments, "--threshold-perc", "50", "--margin", "0.25", "--batch-size", "7"]) == 0
    after = load_detector(tmp_path / "detector")
    expected = np.percentile(before.score(np.load(data / "held_out.npy")), 50) + 0.25
    assert after.threshold == pytest.approx(expected, rel=1e-5)
    printed = capsys.readouterr().out
    assert f"threshold {after.threshold:.6g} nats" in printed
    assert "gets right" not in printed
    train = str(data / "train.npz")
    assert cli.main([*arguments[:2], "--data", f"{train}:images", "--labels", f"{train}:labels", "--fpr", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert ": flags at most 10 % of rows like the " in printed
    assert printed.splitlines()[0].endswith("it was inferred from, all of which the classifier gets right")


# Answering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("command", list(COLUMNS))
def test_output_is_what_python_returns(data, detector, tmp_path, capsys, command, suffix):
    from demur import load_detector

    out = tmp_path / f"out{suffix}"
    assert cli.main([command, detector, "--data", str(data / "new.npz"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert str(out) in printed
    assert "100 rows" in printed

    saved, X = load_detector(detector), rows_of(data)
    expected = {"instance_score": saved.score(X)} if command == "score" else getattr(saved, command)(X)["data"]
    found = read_table(out)
    if suffix != ".npz":
        assert found.pop("row") == list(range(100))
    assert list(found) == COLUMNS[command]
    for name, column in found.items():
        np.testing.assert_allclose(column, expected[name], rtol=1e-6, err_msg=name)
    assert names_in(tmp_path) == [out.name]


def read_table(path):
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pydict()
    with path.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    read = {
        "row": int,
        "is_adversarial": {"True": True, "False": False}.__getitem__,
        "instance_score": float,
        "p_value": float,
    }
    return {name: [read.get(name, int)(row[i]) for row in rows] for i, name in enumerate(header)}


def test_summary_alone_without_out(data, detector, tmp_path, capsys, monkeypatch):
    from demur import load_detector

    monkeypatch.chdir(tmp_path)
    assert cli.main(["correct", detector, "--data", str(data / "new.npz"), "--quiet"]) == 0
    result = load_detector(detector).correct(rows_of(data))["data"]
    out = capsys.readouterr().out
    assert f"{result['is_adversarial'].sum()} ({percent(result['is_adversarial'].mean())}), above" in out
    assert f"{(result['corrected'] != result['no_defense']).sum()}, given another class" in out
    assert f"median {np.median(result['instance_score']):.4g}" in out
    assert names_in(tmp_path) == []


def test_scale_multiplies_and_nothing_else_does(data, detector, tmp_path):
    from demur import load_detector

    def scores(*options):
        out = tmp_path / "scores.npz"
        assert cli.main(["score", detector, "--data", str(data / "bytes.npy"), "--out", str(out), *options]) == 0
        return np.load(out)["instance_score"]

    saved, X = load_detector(detector), np.load(data / "held_out.npy")
    np.testing.assert_allclose(scores("--scale", "0.0625"), saved.score(X), rtol=1e-4)
    with pytest.warns(WrongRows, match="vary 16 times as much as those of the rows of fit"):
        np.testing.assert_allclose(scores(), saved.score(X * 16), rtol=1e-4)


def test_score_needs_no_threshold_and_predict_says_how_to_get_one(data, tmp_path, capsys):
    out = tmp_path / "detector"
    assert cli.main(fit_arguments(data, out, "--quiet")) == 0
    assert cli.main(["score", str(out), "--data", str(data / "new.npz")]) == 0
    assert "flagged" not in capsys.readouterr().out
    message = error_of(capsys, "predict", out, "--data", data / "new.npz")
    assert f"demur threshold {out} --data" in message


@pytest.mark.parametrize(
    ("quiet", "terminal", "bar"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_bar_is_for_terminals(data, detector, monkeypatch, capsys, quiet, terminal, bar):
    monkeypatch.setattr("demur.progress.PATIENCE", 0.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    arguments = ["score", detector, "--data", str(data / "new.npz"), "--batch-size", "1"]
    assert cli.main([*arguments, *(["--quiet"] if quiet else [])]) == 0
    assert ("/step" in capsys.readouterr().out) == bar


# Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npy", "there is no data at"),
        ("nowhere.npz:images", "there is no data at"),
        ("table.csv", "there is no data at"),
        ("table.xlsx", "data is read from .npy, .npz, .csv"),
        ("train.npz", "holds 2 arrays; say which"),
        ("train.npz:imges", "has no array 'imges'; it has"),
        ("train.npz:", "has no array ''"),
        ("held_out.npy:images", "one array without a name"),
        ("folder.npy", "Is a directory"),
        ("text.npy", "cannot be read"),
        ("text.npz", "cannot be read"),
        ("empty.npy", "cannot be read"),
        ("short.npy", "cannot be read"),
        ("flipped.npz", "cannot be read"),
        ("objects.npy", "never loaded"),
        ("objects.npz", "never loaded"),
        ("no_rows.npy", "no rows"),
        ("strings.npy", "real numbers"),
        ("train.npz:labels", "must have shape (n, 8, 8, 1)"),
    ],
)
def test_bad_data(data, detector, tmp_path, capsys, name, message):
    path = tmp_path / name.partition(":")[0]
    contents = (data / path.name).read_bytes() if (data / path.name).exists() else None
    match path.name:
        case "folder.npy":
            path.mkdir()
        case "text.npy" | "text.npz":
            path.write_text("no array")
        case "empty.npy":
            path.touch()
        case "short.npy":
            path.write_bytes((data / "held_out.npy").read_bytes()[:500])
        case "flipped.npz":
            flipped = bytearray((data / "train.npz").read_bytes())
            flipped[1000] ^= 255
            path.write_bytes(flipped)
            name = "flipped.npz:images"
        case "objects.npy":
            np.save(path, np.array([1, None], dtype=object), allow_pickle=True)
        case "objects.npz":
            np.savez(path, np.array([1, None], dtype=object))
        case "no_rows.npy":
            np.save(path, np.ones((0, 8, 8, 1), "float32"))
        case "strings.npy":
            np.save(path, np.full((2, 8, 8, 1), "one"))
        case _ if contents is not None:
            path.write_bytes(contents)
    out = tmp_path / "out.csv"
    assert message in error_of(capsys, "score", detector, "--data", tmp_path / name, "--out", out)
    assert not out.exists()


def test_keys_are_listed_as_they_are_typed(data, detector, capsys):
    path = data / "train.npz"
    assert f"{path}:images, {path}:labels" in error_of(capsys, "score", detector, "--data", path)


def test_an_array_without_a_name_is_read_without_one(data):
    with advises(InvalidSetting, "holds one array without a name; leave out ':images'"):
        cli_data.read_array(data / "held_out.npy", "images")
    assert len(cli_data.read_array(data / "held_out.npy", None)) == 200


def test_scaled_data_is_checked_too(data, detector, tmp_path, capsys):
    np.save(tmp_path / "strings.npy", np.full((2, 8, 8, 1), "one"))
    options = ["--scale", "2", "--data"]
    assert "real numbers" in error_of(capsys, "score", detector, *options, tmp_path / "strings.npy")
    np.save(tmp_path / "huge.npy", np.full((2, 8, 8, 1), 1e60))
    assert "beyond float32" in error_of(capsys, "score", detector, *options, tmp_path / "huge.npy")


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "other suffix", "empty zip", "lambda", "own layer"])
def test_bad_classifier(data, tmp_path, capsys, kind):
    import keras

    path, message = tmp_path / "bad.keras", "is not a .keras file"
    layers = {"lambda": keras.layers.Lambda(lambda x: x), "own layer": types.new_class("Own", (keras.layers.Layer,))()}
    match kind:
        case "missing":
            message = "there is no classifier at"
        case "folder":
            path.mkdir()
        case "text":
            path.write_text("no model")
        case "other suffix":
            path = tmp_path / "bad.h5"
            path.write_bytes((data / "classifier.keras").read_bytes())
        case "empty zip":
            zipfile.ZipFile(path, "w").close()
            message = "Keras cannot load the classifier"
        case _:
            keras.Sequential([keras.layers.Input((8,)), layers[kind], keras.layers.Dense(2)]).save(path)
            message = "Lambda" if kind == "lambda" else "Could not locate class 'Own'"
    out = tmp_path / "out"
    assert message in error_of(capsys, "fit", path, "--data", data / "held_out.npy", "--out", out)
    assert not out.exists()


def test_errors_of_the_library_leave_no_folder(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert "no layer 'nope'" in error_of(capsys, *fit_arguments(data, out, "--hidden-layer", "nope=4"))
    assert "no layer 9" in error_of(capsys, *fit_arguments(data, out, "--hidden-layer", "9=4"))
    assert "from_logits" in error_of(capsys, *fit_arguments(data, out, "--from-logits"))
    assert "there is no companion" in error_of(capsys, *fit_arguments(data, out, "--companion", tmp_path / "no.keras"))
    assert names_in(tmp_path) == []


def test_destination_is_checked_before_training(data, tmp_path, capsys, monkeypatch):
    from demur import AdversarialAE

    monkeypatch.setattr(AdversarialAE, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").touch()
    assert "holds other files" in error_of(capsys, *fit_arguments(data, tmp_path / "notes"))
    assert "is a file" in error_of(capsys, *fit_arguments(data, tmp_path / "notes" / "text"))
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert "no permission to write" in error_of(capsys, *fit_arguments(data, tmp_path / "new" / "folder"))


def test_destination_may_be_a_detector_or_what_a_killed_save_left(data, detector, tmp_path):
    from demur.guards.folder import check_destination

    (tmp_path / ".saving-x").mkdir()
    (tmp_path / "classifier-e3b0c44298fc.keras").touch()  # named by its contents, which are none
    check_destination(tmp_path)
    check_destination(Path(detector))


def test_output_is_checked_before_anything_is_read(tmp_path, capsys, monkeypatch):
    def error(out):
        return error_of(capsys, "score", tmp_path / "no detector", "--data", "nowhere.npy", "--out", out)

    assert ".npz, .csv, .parquet" in error(tmp_path / "out.xlsx")
    assert ".npz, .csv, .parquet" in error(tmp_path / "out")
    assert "there is no folder" in error(tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder" in error(tmp_path / "folder.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'demur[parquet]'" in error(tmp_path / "out.parquet")
    monkeypatch.setattr(os, "access", lambda *args: False)
    assert "no permission to write" in error(tmp_path / "out.csv")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(data, detector, tmp_path, capsys, monkeypatch, failure):
    def fail(stream, columns):
        stream.write(b"half")
        raise failure

    monkeypatch.setitem(files.WRITERS, ".csv", fail)
    (tmp_path / "out.csv").write_text("before")
    status = cli.main(["score", detector, "--data", str(data / "new.npz"), "--out", str(tmp_path / "out.csv")])
    message = "demur: error: No space left on device" if status == 1 else "demur: interrupted"
    assert (status, capsys.readouterr().err.strip()) == (1 if isinstance(failure, OSError) else 130, message)
    assert names_in(tmp_path) == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "before"


def test_missing_detector(data, tmp_path, capsys):
    for command in ("threshold", "score", "predict", "correct"):
        assert "there is no detector at" in error_of(capsys, command, tmp_path / "no", "--data", data / "new.npz")
    assert "holds no detector.json" in error_of(capsys, "score", tmp_path, "--data", data / "new.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss-type", "l2"], "invalid choice: 'l2'"),
        (["--companion", "copy"], "--companion copy is a student's, and the detector is adversarial-ae"),
        (["--detector", "model-distillation", "--companion", "copy"], "until it is trained with --robust"),
        (["--bounds", "0", "1"], "--bounds limits what --robust may make, and there is no --robust"),
        (["--detector", "model-distillation", "--w-recon", "0"], "--w-recon is an option of adversarial-ae"),
        (
            ["--detector", "model-distillation", "--hidden-layer", "a=2"],
            "--hidden-layer is an option of adversarial-ae",
        ),
        (["--hidden-layer", "a=2", "--hidden-layer", "a=3"], "names a layer twice"),
        (["--hidden-layer", "a"], "NAME=DIM"),
        (["--hidden-layer", "a=1"], "at least 2"),
        (["--epochs", "0"], "at least 1"),
        (["--batch-size", "many"], "at least 1"),
        (["--seed=-1"], "at least 0"),
        (["--scale", "nan"], "finite number other than 0"),
        (["--scale", "big"], "finite number other than 0"),
        (["--detector", "oracle"], "invalid choice"),
        (["--epoch", "3"], "unrecognized arguments"),
        (["--epoch", "3"], "(did you mean --epochs?)"),
        (["--robst=1", "--sed", "0"], "(did you mean --robust, --seed?)"),
    ],
)
def test_usage_errors(capsys, options, message):
    arguments = ["fit", "classifier.keras", "--data", "x.npy", "--out", "out", *options]
    assert message in usage_error_of(capsys, *arguments)


def test_a_misspelt_option_is_named_where_it_is_a_required_one(capsys):
    found = usage_error_of(capsys, "predict", "guard", "--dta", "x.npy")
    assert "unrecognized arguments: --dta x.npy (did you mean --data?)" in found
    assert "required: --data, --out (did you mean --data?)" in usage_error_of(
        capsys, "fit", "c.keras", "--dta", "x.npy"
    )


def test_rows_without_their_option_are_told_how_they_are_given(capsys):
    found = usage_error_of(capsys, "predict", "guard", "x.npy")
    assert "unrecognized arguments: x.npy: rows are given as --data x.npy" in found
    assert "rows are given" not in usage_error_of(capsys, "info", "guard", "x.npy", "y.npy", "--dta")


@pytest.mark.parametrize("source", signatures.SOURCES)
def test_options_have_the_defaults_of_what_they_set_and_a_text(source):
    path, place = signatures.SOURCES[source]
    module = importlib.import_module("demur." + path.removesuffix(".py").replace("/", "."))
    real = inspect.signature(operator.attrgetter(place)(module)).parameters
    read = signatures.parameters(source)
    assert [name for name in read if name != "self"] == [name for name in real if name != "self"]
    for name, parameter in real.items():
        if isinstance(parameter.default, bool | int | float | str | tuple):
            assert read[name].default == parameter.default, name
        assert read[name].text or name == "self", name


def test_a_command_is_needed(capsys):
    assert "COMMAND" in usage_error_of(capsys)


# The process ------------------------------------------------------------------------------------------------------


def python(code, **kwargs):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **kwargs)


def test_help_imports_nothing_heavy():
    code = """
import sys
from demur.cli import main
commands = ["fit", "threshold", "score", "predict", "correct", "export", "serve", "demo"]
for arguments in [["--help"], ["--version"], *([command, "--help"] for command in commands)]:
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 0, arguments
print("imported:", {"keras", "numpy", "tensorflow", "jax", "torch", "pyarrow", "rich"} & set(sys.modules))
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("imported: set()\n")


def test_it_runs_as_a_module():
    from demur import __version__

    command = [sys.executable, "-m", "demur.cli", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"demur {__version__}\n"


# Runs `demur demo` with a stand-in for the demonstration and for Keras, which takes seconds to import.
STAND_IN = """
import sys, types
from demur.cli import main
for name in ("keras", "tensorflow", "demur.demo"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["keras"].backend = types.SimpleNamespace(backend=lambda: "none")
def demo(**options):
    {body}
sys.modules["demur.demo"].main = demo
sys.exit(main(["demo"]))
"""


def test_ctrl_c_is_a_short_line():
    done = python(STAND_IN.format(body="import os, signal; os.kill(os.getpid(), signal.SIGINT)"), env=without_backend())
    assert (done.returncode, done.stderr) == (130, "\ndemur: interrupted\n")


def test_a_reader_that_leaves_is_no_error():
    code = STAND_IN.format(body="print('x' * 100_000, flush=True); return 0")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=without_backend()) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def without_backend():
    return {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}


def test_demo_gets_its_options(monkeypatch, tmp_path):
    seen = []
    demo = types.SimpleNamespace(main=lambda **options: seen.append(options) or 3)
    monkeypatch.setitem(sys.modules, "demur.demo", demo)
    assert cli.main(["demo"]) == 3
    assert cli.main(["demo", "--dataset", "mnist", "--seed", "4", "--out", str(tmp_path)]) == 3
    assert seen == [
        {"dataset": "digits", "seed": 0, "out": Path("demur-demo")},
        {"dataset": "mnist", "seed": 4, "out": tmp_path},
    ]


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [(["tensorflow", "jax", "torch"], "tensorflow"), (["jax", "torch"], "jax"), (["torch"], "torch")],
)
def test_first_installed_backend_is_chosen(fresh_process, installed, chosen):
    fresh_process(installed)
    starting.choose_backend()
    assert os.environ["KERAS_BACKEND"] == chosen


def test_backend_of_the_user_is_kept_if_it_is_there(fresh_process, monkeypatch):
    fresh_process(["tensorflow", "jax"])
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    starting.choose_backend()
    assert os.environ["KERAS_BACKEND"] == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(MissingExtra, match=r"demur\[torch\]"):
        starting.choose_backend()
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(InvalidSetting, match="tensorflow, jax, torch"):
        starting.choose_backend()


def test_no_backend(fresh_process):
    fresh_process([])
    with pytest.raises(DemurError, match=r"pip install 'demur\[tensorflow-cpu\]'"):
        starting.choose_backend()


@pytest.fixture
def fresh_process(monkeypatch):
    """Pretend that Keras is not imported, no backend is chosen and only some are installed."""

    def pretend(installed):
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.setenv("KERAS_BACKEND", "")  # so that what is set is undone
        monkeypatch.setattr(starting.importlib.util, "find_spec", lambda name: name if name in installed else None)

    return pretend


def test_chatter_is_held_back_unless_the_import_fails(capfd):
    with starting._hushed():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""

    def fail():
        os.write(2, b"what went wrong\n")
        raise ImportError

    with pytest.raises(ImportError), starting._hushed():
        fail()
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "what went wrong\nand on\n"
