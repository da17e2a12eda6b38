"""Classifiers of every format, and tables, as a user of the command line has them: real files, real commands."""

import csv
import functools
import io
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from demur import ModelDistillation, cli, load_detector
from demur.calibration.words import percent
from demur.classifiers.files import load_classifier
from demur.cli import data, export
from demur.cli.guards import Document
from demur.cli.tables import read_table
from demur.errors import InvalidSetting, NotADetector, WrongClassifier, WrongType
from tests.scaffold.advice import advises, run_raising

OK, FAILED, DRIFT = 0, 1, 3
NUMBERS = ["mean radius", "mean texture", "mean area"]
NET = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2), torch.nn.Softmax(-1))

def other():
    return torch.nn.Linear(3, 2)

def nothing():
    return 1
"""


def run(line):
    return cli.main(shlex.split(str(line)))


def said(capsys, line, status=OK):
    assert run(line) == status
    return capsys.readouterr().out


def error_of(capsys, line):
    """Run a command that shall fail: status 1, one line on stderr, nothing on stdout."""
    assert run(line) == FAILED
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@functools.cache
def frame():
    """Tumours: three numbers, one of them whole, a text column, an id and the class."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    found = data.frame[NUMBERS].copy()
    found["mean area"] = found["mean area"].round().astype(int)
    found["texture"] = np.where(found["mean texture"] > 19, "rough", "smooth")
    found["patient"] = [f"p{i:03}" for i in range(len(found))]
    found["benign"] = data.target
    return found.sample(frac=1, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A folder with tables as CSV and Parquet, in which the commands are run."""
    path = tmp_path_factory.mktemp("tables")
    parts = {"train": frame()[:250], "held_out": frame()[250:450], "new": frame()[450:].drop(columns="benign")}
    for name, part in parts.items():
        part.to_csv(path / f"{name}.csv", index=False)
        part.to_parquet(path / f"{name}.parquet")
    (path / "net.py").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        yield path


@functools.cache
def made(kind):
    """Train a classifier of a kind on the training rows, write its file, and say its name and what predicts."""
    X, y = frame()[:250][NUMBERS], frame()[:250].benign
    if kind == "xgboost":
        import xgboost

        C = X.assign(texture=frame()[:250].texture.astype("category"))
        model = xgboost.XGBClassifier(n_estimators=8, enable_categorical=True).fit(C, y)
        model.save_model("xgb.json")
        return "xgb.json", lambda rows: model.predict_proba(rows[[*NUMBERS, "texture"]])
    if kind == "lightgbm":
        import lightgbm

        C = X.assign(texture=frame()[:250].texture.astype("category"))
        model = lightgbm.LGBMClassifier(n_estimators=8, verbose=-1).fit(C, y)
        model.booster_.save_model("lgb.txt")
        return "lgb.txt", lambda rows: model.predict_proba(rows[[*NUMBERS, "texture"]])
    if kind == "skops":
        import skops.io
        from sklearn.compose import make_column_transformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        columns = make_column_transformer((OneHotEncoder(), ["texture"]), (StandardScaler(), NUMBERS))
        model = make_pipeline(columns, LogisticRegression()).fit(frame()[:250][["texture", *NUMBERS]], y)
        skops.io.dump(model, "logit.skops")
        return "logit.skops", lambda rows: model.predict_proba(rows.assign(texture=rows.texture.astype(str)))
    if kind == "onnx":
        from skl2onnx import to_onnx
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=5000).fit(X.to_numpy("float32"), y)
        Path("logit.onnx").write_bytes(to_onnx(model, X.to_numpy("float32")[:1]).SerializeToString())
        return "logit.onnx", lambda rows: model.predict_proba(rows[NUMBERS].to_numpy("float32"))
    if kind == "torch":
        import safetensors.torch
        import torch

        names = {}
        exec(NET, names)
        torch.manual_seed(0)
        module = names["make"]()
        safetensors.torch.save_model(module, "net.safetensors")
        rows = lambda rows: torch.from_numpy(rows[NUMBERS].to_numpy("float32"))  # noqa: E731
        return "net.safetensors", lambda x: module(rows(x)).detach().numpy()
    import keras

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.save("small.keras")
    return "small.keras", lambda rows: model.predict(rows[NUMBERS].to_numpy("float32"), verbose=0)


KINDS = {
    "keras": "",
    "onnx": "--classifier logit.onnx",
    "torch": "--module net:make",
    "xgboost": "--classifier xgb.json",
    "lightgbm": "--classifier lgb.txt",
    "skops": "--classifier logit.skops",
}
PLAIN = f"--column '{','.join(NUMBERS)}'"
"""The columns of classifiers that take arrays, and so know no names."""


def guard_of(kind):
    """Fit a guard and set its threshold, with the commands; its folder."""
    if kind == "skops":
        pytest.importorskip("skops")
    classifier, _ = made(kind)
    out = Path(f"guard-{kind}")
    if not out.exists():
        columns = PLAIN if kind in ("keras", "onnx", "torch") else "--label-column benign --id patient"
        module = KINDS[kind] if kind == "torch" else ""
        options = f"--detector model-distillation --out {out} --epochs 1 --quiet {columns} {module}"
        assert run(f"fit {classifier} --data train.csv {options}") == OK
        assert run(f"threshold {out} --data held_out.csv {KINDS[kind]} --fpr 0.1 --quiet") == OK
    return out


def scores(line, out):
    assert run(f"score {line} --out {out} --quiet") == OK
    return pd.read_csv(out) if str(out).endswith(".csv") else pd.read_parquet(out)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_every_format_gets_its_guard_from_tables(kind, capsys):
    guard = guard_of(kind)
    answered = capsys.readouterr().out
    if answered:  # made by this test
        assert f"--data HELD_OUT.csv {KINDS[kind]}".rstrip() + " --fpr 0.05\n" in answered
        assert "left out: " in answered
    _, predict = made(kind)
    new = pd.read_csv("new.csv")
    new["texture"] = new.texture.astype("category")
    assert run(f"correct {guard} --data new.csv --id patient --out answers.csv --quiet {KINDS[kind]}") == OK
    answers = pd.read_csv("answers.csv")
    assert list(answers.columns[:4]) == ["row", "patient", "is_adversarial", "instance_score"]
    assert answers.patient.tolist() == new.patient.tolist()
    np.testing.assert_array_equal(answers.no_defense, predict(new).argmax(axis=1))
    # The same rows in another format and with columns in another order.
    new.iloc[:, ::-1].to_parquet("turned.parquet")
    for file in ("new.parquet", "turned.parquet"):
        found = scores(f"{guard} --data {file} {KINDS[kind]}", "scores.csv")
        np.testing.assert_allclose(found.instance_score, answers.instance_score, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("onnx", "name the classifier's file, --classifier FILE"),
        ("torch", "name what makes it, --module MODULE:FUNCTION"),
    ],
)
def test_a_classifier_that_is_not_in_the_folder_is_asked_for(kind, advice, capsys):
    guard = guard_of(kind)
    with advises(WrongClassifier, advice):
        run_raising("score", guard, "--data", "new.csv")
    capsys.readouterr()
    for command in ("score", "threshold", "export -o g.onnx"):
        assert advice in error_of(capsys, f"{command} {guard} --data new.csv")
    assert run(f"score {guard} --data new.csv {KINDS[kind]}") == OK  # as the message says
    made("lightgbm")
    capsys.readouterr()
    error = error_of(capsys, f"score {guard} --data new.csv --classifier lgb.txt")
    assert "not the classifier" in error


def test_an_export_with_data_gets_the_classifier():
    guard = guard_of("onnx")
    without = export._loaded(cli.build_parser().parse_args(["export", str(guard), "-o", "logit-guard.onnx"]))
    with advises(WrongClassifier, "so it cannot be asked about data: pass --classifier FILE"):
        without.score(frame()[NUMBERS].to_numpy("float32"))
    assert run(f"export {guard} -o logit-guard.onnx --data held_out.csv {PLAIN} --classifier logit.onnx") == OK


def test_what_gives_no_gradients_gets_no_autoencoder(capsys):
    classifier, _ = made("lightgbm")
    fit = f"fit {classifier} --data train.csv --label-column benign --id patient --out no-ae --epochs 1 --quiet"
    capsys.readouterr()
    for options in ("--detector adversarial-ae", "--w-recon 0.1"):
        error = error_of(capsys, f"{fit} {options}")
        assert "gives no gradients: leave out --detector and the options of adversarial-ae" in error
    assert run(fit) == OK


def test_kinds_of_columns_stay_as_they_were_learned(capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    new = pd.read_csv("new.csv")
    expected = scores(f"{guard} --data new.csv {line}", "a.csv").instance_score
    new.astype({"mean area": float}).to_csv("floats.csv", index=False)
    np.testing.assert_array_equal(scores(f"{guard} --data floats.csv {line}", "b.csv").instance_score, expected)
    # One row of whole numbers only: text of digits stays text, numbers stay numbers.
    new[:1].assign(texture=7, **{"mean radius": 14}).to_csv("digits.csv", index=False)
    assert run(f"score {guard} --data digits.csv {line}") == OK
    capsys.readouterr()
    new.assign(**{"mean area": "large"}).to_csv("text.csv", index=False)
    error = error_of(capsys, f"score {guard} --data text.csv {line}")
    assert "column mean area held whole numbers when the guard learned, and now holds 'large' in row 0" in error
    new.drop(columns="texture").to_csv("fewer.csv", index=False)
    assert "fewer.csv has no column texture; it has" in error_of(capsys, f"score {guard} --data fewer.csv {line}")


def test_pickles_are_refused_with_the_line_that_converts_them(capsys):
    pytest.importorskip("skops")
    import joblib
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(3, random_state=0).fit(frame()[NUMBERS], frame().benign)
    joblib.dump(forest, "forest.joblib")
    error = error_of(capsys, "fit forest.joblib --data train.csv --out g")
    program = shlex.split(error.partition("convert it once: ")[2])
    assert program[0] == "python"
    subprocess.run([sys.executable, *program[1:]], check=True)
    error = error_of(capsys, "fit forest.skops --data train.csv --out g")
    with advises(WrongType, "If you made the file, or trust who did, name each of them: --trust "):
        load_classifier("forest.skops")
    trust = error.partition("name each of them: ")[2].partition(" (in Python")[0]
    assert "sklearn.tree._tree.Tree" in trust
    shown = said(capsys, f"fit forest.skops {trust} --data train.csv --id patient --out g --epochs 1 --quiet")
    assert f"--classifier forest.skops {trust}" in shown
    assert "columns    mean radius, mean texture, mean area; left out: texture, patient, benign" in shown


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("net.safetensors", {}, "name what makes it, --module"),
        ("net.safetensors", {"module": "net"}, "--module is package.module:function"),
        ("net.safetensors", {"module": "nowhere:make"}, "No module named 'nowhere'"),
        ("net.safetensors", {"module": "net:other"}, "does not hold the weights of the Linear that net:other makes"),
        ("net.safetensors", {"module": "net:nothing"}, "net:nothing must return a torch.nn.Module"),
        ("numbers.json", {}, "is no classifier: its objective, reg:squarederror, is not one of classes"),
        ("numbers.txt", {}, "is no classifier: its objective, regression, is not one of classes"),
        ("text.json", {}, "is no model of XGBoost's: it must be what save_model('text.json') wrote"),
        ("text.txt", {}, "is no model of LightGBM's"),
        ("text.onnx", {}, "onnxruntime cannot load the classifier text.onnx"),
        ("text.keras", {}, "is not a .keras file: save the classifier with model.save('text.keras')"),
        ("text.pt", {}, "safetensors.torch.save_model(module, 'text.safetensors')"),
        ("text.h5", {}, "save the classifier with model.save('text.keras')"),
        ("text.cbm", {}, "model.save_model('text.onnx', format='onnx')"),
        ("net.py", {}, "a classifier is read from .keras (Keras), .onnx (ONNX)"),
    ],
)
def test_files_that_hold_no_classifier(file, options, message):
    import lightgbm
    import xgboost

    made("torch")
    X, y = frame()[NUMBERS], frame()["mean area"]
    if file == "numbers.json":
        xgboost.XGBRegressor(n_estimators=1).fit(X, y).get_booster().save_model(file)
    elif file == "numbers.txt":
        lightgbm.LGBMRegressor(n_estimators=1, verbose=-1).fit(X, y).booster_.save_model(file)
    elif file.startswith("text"):
        Path(file).write_text("hello")
    with pytest.raises((WrongType, InvalidSetting)) as error:
        load_classifier(file, **options)
    assert message in str(error.value)


def test_what_is_no_keras_file_is_saved_as_one():
    Path("saved.keras").write_text("hello")
    with advises(WrongType, "is not a .keras file: save the classifier with model.save('saved.keras')"):
        load_classifier("saved.keras")
    with pytest.raises(WrongType, match="path is that of a classifier's file; got NoneType"):
        load_classifier(None)
    load_classifier(made("keras")[0]).save("saved.keras")
    assert load_classifier("saved.keras").input_shape == (None, 3)


def test_layers_of_ones_own_are_passed_to_keras():
    import keras

    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    keras.Sequential([keras.layers.Input((3,)), Own(), keras.layers.Dense(2, activation="softmax")]).save("own.keras")
    with advises(WrongType, "use demur from Python, where they can be passed to keras.saving.load_model"):
        load_classifier("own.keras")
    model = keras.saving.load_model("own.keras", custom_objects={"Own": Own})
    ModelDistillation(model=model).fit(frame()[NUMBERS].to_numpy("float32"), epochs=1, verbose=False)


def test_weights_are_loaded_into_what_a_named_function_makes():
    file, predict = made("torch")
    with advises(WrongType, "name what makes it, --module package.module:function, a function without arguments that"):
        load_classifier(file)
    module = load_classifier(file, module="net:make")
    x = module[0].weight.new_tensor(frame()[NUMBERS][:5].to_numpy("float32"))
    np.testing.assert_allclose(module(x).detach().numpy(), predict(frame()[:5]), atol=1e-6)


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_trees_know_their_categories(kind):
    path, predict = made(kind)
    trees = load_classifier(path)
    rows = frame()[250:300][[*NUMBERS, "texture"]]
    expected = predict(rows.assign(texture=pd.Categorical(rows.texture, categories=["rough", "smooth"])))
    np.testing.assert_allclose(trees.predict_proba(rows.iloc[:, ::-1]), expected, atol=1e-6)
    only = rows.assign(texture=["smooth"] * 50)  # its codes are others than in training
    again = predict(rows.assign(texture=pd.Categorical(["smooth"] * 50, categories=["rough", "smooth"])))
    np.testing.assert_allclose(trees.predict_proba(only), again, atol=1e-6)
    missing = predict(rows.assign(texture=pd.Categorical([None] * 50, categories=["rough", "smooth"])))
    np.testing.assert_allclose(trees.predict_proba(rows.assign(texture=["new"] * 50)), missing, atol=1e-6)


# Scores alone -----------------------------------------------------------------------------------------------------


KERAS_FREE = """
import contextlib, io, json, sys
from demur import cli
for line, stdin in json.load(sys.stdin):
    out, sys.stdin = io.StringIO(), io.StringIO(stdin)
    with contextlib.redirect_stdout(out):
        status = cli.main(line)
    print(json.dumps([status, out.getvalue()]))
heavy = sorted({"keras", "tensorflow", "torch", "jax", "lightgbm"} & set(sys.modules))
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def alone(*lines):
    """Run commands in a process of their own, which must import neither Keras nor the classifier's library.

    Returns:
        The status and the output of each.
    """
    given = json.dumps([(shlex.split(line), stdin) for line, stdin in lines])
    done = subprocess.run([sys.executable, "-c", KERAS_FREE], input=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_scores_alone_need_neither_keras_nor_the_classifier():
    guard = guard_of("lightgbm")
    detector = load_detector(guard, model=load_classifier("lgb.txt"))
    scores(f"{guard} --data held_out.csv {KINDS['lightgbm']}", "normal.csv")
    found = scores(f"{guard} --data new.csv {KINDS['lightgbm']}", "scores.parquet")
    np.save("high.npy", np.float32(detector.threshold) + np.linspace(0.1, 1, 50))
    stream = "".join(json.dumps({"score": float(score)}) + "\n" for score in found.instance_score)
    quiet, loud, watched, on, flagged, set_anew = alone(
        (f"drift --detector {guard} --scores scores.parquet", ""),
        (f"drift --calibration {guard} --scores high.npy --json", ""),
        (f"monitor --detector {guard} --state alone.json", stream),
        (f"monitor --detector {guard} --state alone.json --scores high.npy", ""),
        (f"predict {guard} --scores scores.parquet --out flags.csv", ""),
        (f"threshold {guard} --scores normal.csv --fpr 0.2", ""),
    )
    assert quiet[0] == OK
    assert (loud[0], json.loads(loud[1])["data"]["n"]) == (DRIFT, 50)
    assert (watched[0], json.loads(watched[1].splitlines()[-1])["count"]) == (OK, len(found))
    assert json.loads(on[1])["count"] == len(found) + 50

    flags = pd.read_csv("flags.csv")
    expected = detector.calibration.p_values(found.instance_score.to_numpy(), np.zeros(len(found), "int64"))
    np.testing.assert_allclose(flags.p_value, expected, rtol=1e-6)
    np.testing.assert_array_equal(flags.is_adversarial, found.instance_score > detector.threshold)
    assert flagged[0] == set_anew[0] == OK
    again = load_detector(guard, model=load_classifier("lgb.txt"))
    normal = np.sort(pd.read_csv("normal.csv").instance_score)
    assert again.threshold == pytest.approx(normal[-40], rel=1e-6)  # the rank, of 200, is 201 - 40
    np.testing.assert_allclose(again.score(detector_rows("new.csv")), found.instance_score, rtol=1e-5)


def detector_rows(file):
    rows = pd.read_csv(file)
    return rows[[*NUMBERS, "texture"]].astype({"texture": "category"})


def test_classes_come_with_scores_where_each_has_a_threshold(capsys):
    guard, line = guard_of("onnx"), KINDS["onnx"]
    assert run(f"correct {guard} --data held_out.csv {line} --out held.parquet --quiet") == OK
    assert run(f"threshold {guard} --scores held.parquet --by-class --fpr 0.2") == OK
    assert run(f"correct {guard} --data held_out.csv {line} --out by_class.csv --quiet") == OK
    assert run(f"predict {guard} --scores by_class.csv --out again.csv") == OK
    answers, again = pd.read_csv("by_class.csv"), pd.read_csv("again.csv")
    np.testing.assert_array_equal(again.is_adversarial, answers.is_adversarial)
    np.testing.assert_allclose(again.p_value, answers.p_value)
    drifts = {}
    for given in (f"held_out.csv {line}", "--scores by_class.csv"):
        capsys.readouterr()
        assert run(f"drift --detector {guard} {given} --json") in (OK, DRIFT)
        drifts[given] = json.loads(capsys.readouterr().out)["data"]["p_value"]
    assert len({round(p, 6) for p in drifts.values()}) == 1  # both compare each class with its own
    capsys.readouterr()
    answers[["instance_score"]].to_csv("bare.csv", index=False)
    assert "--predicted FILE[:KEY]" in error_of(capsys, f"predict {guard} --scores bare.csv")
    assert run(f"predict {guard} --scores bare.csv --predicted by_class.csv") == OK
    assert run(f"threshold {guard} --scores held.parquet --fpr 0.1") == OK  # as it was, for other tests


def test_a_guard_that_does_not_tell_its_classes_is_fitted_again():
    shutil.copytree(guard_of("onnx"), "old")
    document = Document(Path("old")).fields
    del document["inputs"]["classes"]
    Path("old", "detector.json").write_text(json.dumps(document))
    with advises(NotADetector, "does not tell how many classes there are: fit the guard again"):
        assert Document(Path("old")).classes
    assert run(f"fit logit.onnx --data train.csv --out old --epochs 1 --quiet {PLAIN}") == OK
    assert Document(Path("old")).classes == 2


def test_an_exported_guard_answers_too(capsys):
    guard = guard_of("keras")
    assert run(f"export {guard} -o small.onnx --data held_out.csv") == OK
    expected = scores(f"{guard} --data new.csv", "a.csv").instance_score
    with advises(InvalidSetting, "a row is made of, nor their order: name them in order, --column mean radius,"):
        run_raising("score", "small.onnx", "--data", "new.csv")  # a file with no names of columns
    found = scores(f"small.onnx --data new.csv {PLAIN}", "b.csv").instance_score
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert run("drift --detector small.onnx --scores a.csv") in (OK, DRIFT)
    capsys.readouterr()
    assert "needs the folder" in error_of(capsys, "threshold small.onnx --data new.csv")
    assert "is a guard, as demur export writes them" in error_of(capsys, "fit small.onnx --data train.csv --out g")


def test_rows_of_a_table_in_a_stream(monkeypatch, capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    rows = json.loads(detector_rows("new.csv").to_json(orient="records"))
    texts = [{"score": 0.1}, {"x": rows[0]}, {"rows": rows[1:4]}, {"x": {"texture": "rough"}}]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(json.dumps, texts))))
    assert run(f"monitor --detector {guard} --state table.json {line}") == FAILED
    out, err = capsys.readouterr()
    assert [json.loads(text)["count"] for text in out.splitlines()] == [1, 2, 5]
    assert "line 4: a row has no mean radius, mean texture, mean area" in err


# Accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_is_estimated_after_it_was_calibrated(capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    capsys.readouterr()
    error = error_of(capsys, f"estimate-accuracy {guard} --data new.csv {line}")
    command = shlex.split(error.partition("first: demur ")[2])
    assert command == [
        "calibrate-accuracy",
        str(guard),
        "--data",
        "LABELLED.csv",
        "--label-column",
        "CLASS",
        *line.split(),
    ]
    known = {"LABELLED.csv": "held_out.csv", "CLASS": "benign"}
    shown = said(capsys, shlex.join([*(known.get(word, word) for word in command), "--quiet"]))
    assert shown.startswith("the classifier is right on ")
    assert f"demur estimate-accuracy {guard} --data NEW.csv {line}" in shown
    sentence = said(capsys, f"estimate-accuracy {guard} --data new.csv {line}")
    found = json.loads(said(capsys, f"estimate-accuracy {guard} --data new.csv {line} --json"))["data"]
    assert sentence.startswith(f"accuracy of the classifier {percent(found['accuracy'])}, estimated on 119 rows")
    assert "nine times in ten between" in sentence
    assert found["n"] == 119
    assert run(f"predict {guard} --data new.csv {line} --out rows.csv --quiet") == OK
    assert run(f"predict {guard} --scores rows.csv --out ready.csv") == OK
    rows, ready = pd.read_csv("rows.csv"), pd.read_csv("ready.csv")
    np.testing.assert_allclose(ready.harm_probability, rows.harm_probability, rtol=1e-6)
    capsys.readouterr()
    other = said(
        capsys, f"calibrate-accuracy {guard} --data held_out.csv --labels held_out.parquet:benign {line} --quiet"
    )
    assert other == shown


def test_an_evaluation_of_a_table(capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    options = f"--data held_out.csv --label-column benign {line} --corruptions rounding --out ev --quiet"
    assert "next:" in said(capsys, f"evaluate {guard} {options}")
    assert json.loads(Path("ev/evaluation.json").read_text())


# Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("", "cannot be read as a table: Empty CSV file"),
        ("a,b\n1,2\n1,2,3\n", "Expected 2 columns, got 3"),
        ("a,a\n1,2\n", "has more than one column a: rename or drop all but one"),
        (",".join([*NUMBERS, "texture"]) + "\n", "no rows"),
    ],
)
def test_tables_that_cannot_be_read(contents, message, capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    capsys.readouterr()
    Path("bad.csv").write_text(contents)
    assert message in error_of(capsys, f"score {guard} --data bad.csv {line}")


def test_a_column_that_is_there_twice_is_renamed_or_dropped():
    file = Path("twice.csv")
    file.write_text("a,a\n1,2\n")
    with advises(WrongType, "has more than one column a: rename or drop all but one"):
        read_table(file)
    for contents in ("a,b\n1,2\n", "a\n1\n"):
        file.write_text(contents)
        assert read_table(file).num_rows == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data new.csv --id nope", "new.csv has no column nope; it has"),
        ("--data new.csv --scale 2", "--scale multiplies arrays"),
        ("--data x.npy --id patient", "--id names columns of a table, and x.npy is an array: leave it out"),
        ("--data nowhere.csv", "there is no data at nowhere.csv"),
        ("--data new.xlsx", "data is read from .npy, .npz, .csv"),
    ],
)
def test_options_that_do_not_fit_the_data(options, message, capsys):
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    capsys.readouterr()
    np.save("x.npy", np.zeros((3, 4)))
    assert message in error_of(capsys, f"score {guard} {options} {line}")


def test_ids_are_kept_in_every_format():
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    for name in ("ids.csv", "ids.parquet", "ids.npz"):
        assert run(f"predict {guard} --data new.csv --id patient {line} --out {name} --quiet") == OK
    expected = pd.read_csv("new.csv").patient.tolist()
    assert pd.read_csv("ids.csv").patient.tolist() == pd.read_parquet("ids.parquet").patient.tolist() == expected
    with np.load("ids.npz") as arrays:
        assert arrays["patient"].tolist() == expected
    with Path("ids.csv").open(newline="") as stream:
        assert next(csv.reader(stream))[:2] == ["row", "patient"]


def test_a_column_that_has_the_name_of_a_result_is_renamed():
    guard, line = guard_of("lightgbm"), KINDS["lightgbm"]
    pd.read_csv("new.csv").rename(columns={"patient": "p_value"}).to_csv("taken.csv", index=False)
    with advises(InvalidSetting, "the results have a column p_value too: rename it in the data"):
        run_raising("predict", guard, "--data", "taken.csv", "--id", "p_value", "--out", "a.csv", *shlex.split(line))
    assert run(f"predict {guard} --data new.csv --id patient {line} --out answers.csv --quiet") == OK


def test_a_guard_that_does_not_tell_what_rows_are_takes_arrays():
    unknown = data.How(None, None)
    np.save("rows.npy", frame()[NUMBERS])
    with advises(WrongType, "pass an array, .npy or .npz"):
        data.Data("new.csv").rows(unknown)
    assert data.Data("rows.npy").rows(unknown).shape == (len(frame()), 3)
