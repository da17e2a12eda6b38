"""A classifier is the same in another process: saved detectors take it, caches know its answers, others are refused."""

import json
import os
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from demur import BlackBox, ModelDistillation, load_detector
from demur.classifiers.estimator import earlier_fingerprint, fingerprint
from demur.classifiers.likeness import Probe
from demur.errors import WrongClassifier
from demur.rows.rows import Rows
from tests.scaffold.advice import advises

X, Y = load_wine(return_X_y=True)


def table():
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    return frame.assign(kind=np.where(frame["a"] > 13, "high", "low"))


def encoded(seed):
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["a", "b", "c"]))
    return make_pipeline(columns, LogisticRegression(C=1 + seed))


def xgboost(seed):
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=3, max_depth=2 + seed)


def lightgbm(seed):
    return pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=3, max_depth=2 + seed, verbose=-1)


MAKE = {
    "forest": lambda seed: RandomForestClassifier(5, random_state=seed),
    "boosting": lambda seed: GradientBoostingClassifier(n_estimators=3, max_depth=2 + seed),
    "histogram boosting": lambda seed: HistGradientBoostingClassifier(max_iter=3 + seed),
    "neighbours": lambda seed: KNeighborsClassifier(3 + 2 * seed),
    "ball tree": lambda seed: KNeighborsClassifier(3 + 2 * seed, algorithm="ball_tree"),
    "voting": lambda seed: VotingClassifier(
        [("nb", GaussianNB()), ("knn", KNeighborsClassifier(3 + 2 * seed))], voting="soft"
    ),
    "calibrated": lambda seed: CalibratedClassifierCV(GaussianNB(var_smoothing=10.0 ** (-9 + 7 * seed)), cv=3),
    "search": lambda seed: GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3 + 2 * seed]}, cv=2),
    "support vectors": lambda seed: SVC(probability=True, random_state=0, C=1 + seed),
    "perceptron": lambda seed: MLPClassifier((5,), max_iter=5, random_state=seed),
    "pipeline of a frame": encoded,
    "xgboost": xgboost,
    "lightgbm": lightgbm,
    "pipeline of xgboost": lambda seed: make_pipeline(StandardScaler(), xgboost(seed)),
}


def rows_for(name):
    return table() if name == "pipeline of a frame" else X


def trained(name, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few iterations do not converge
        return MAKE[name](seed).fit(rows_for(name), Y)


DIGESTS = """
import json, sys, joblib
from demur.classifiers.estimator import fingerprint
print(json.dumps({name: [fingerprint(model) for model in two] for name, two in joblib.load(sys.argv[1]).items()}))
"""

LOAD = """
import json, sys, warnings, joblib
from demur import load_detector
from demur.errors import WrongClassifier
warnings.filterwarnings("error", category=UserWarning, message=".*classifier")
said = {}
for name, (same, other) in joblib.load(sys.argv[1]).items():
    load_detector(f"{sys.argv[1]}-{name}", model=same)
    try:
        load_detector(f"{sys.argv[1]}-{name}", model=other)
        said[name] = "another one was taken"
    except WrongClassifier:
        said[name] = "refused"
print(json.dumps(said))
"""


def elsewhere(script, *arguments):
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=500, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def fitted(model, rows):
    return ModelDistillation(model=model).fit(rows, epochs=1, batch_size=64, verbose=False)


def test_another_process_tells_each_by_what_it_has_learned(tmp_path):
    models = {name: [trained(name, seed) for seed in (0, 1)] for name in MAKE}
    here = {name: [fingerprint(model) for model in two] for name, two in models.items()}
    joblib.dump(models, tmp_path / "models")
    assert elsewhere(DIGESTS, str(tmp_path / "models")) == here
    assert all(same and same != other for same, other in here.values())


def test_another_process_takes_the_same_classifier_and_refuses_others(tmp_path):
    names = ["neighbours", "search", "pipeline of a frame"]
    models = {name: [trained(name, seed) for seed in (0, 1)] for name in names}
    for name, (model, _) in models.items():
        fitted(model, rows_for(name)).save(tmp_path / f"models-{name}")
    joblib.dump(models, tmp_path / "models")
    assert elsewhere(LOAD, str(tmp_path / "models")) == dict.fromkeys(names, "refused")


CACHED = """
import json, sys, joblib
from demur import BlackBox, ModelDistillation

model = joblib.load(sys.argv[1])
asked, answer = [0], model.predict_proba
box = BlackBox(model, cache=sys.argv[2])
type(model).predict_proba = lambda self, rows: (asked.__setitem__(0, asked[0] + len(rows)), answer(rows))[1]
X = joblib.load(sys.argv[3])
ModelDistillation(model=box).fit(X, epochs=1, batch_size=64, verbose=False)
print(json.dumps(asked[0]))
"""


def test_another_process_reuses_the_answers_of_a_cache(tmp_path):
    model, other = trained("forest", 0), trained("forest", 1)
    for file, value in (("model", model), ("other", other), ("rows", X)):
        joblib.dump(value, tmp_path / file)
    fitted(BlackBox(model, cache=tmp_path / "answers.sqlite"), X)
    arguments = str(tmp_path / "answers.sqlite"), str(tmp_path / "rows")
    assert elsewhere(CACHED, str(tmp_path / "model"), *arguments) == 0
    assert elsewhere(CACHED, str(tmp_path / "other"), *arguments) == len(X)


@pytest.mark.parametrize("name", ["neighbours", "forest", "search"])
def test_using_a_classifier_does_not_change_what_it_is(name):
    model = trained(name, 0)
    before = fingerprint(model)
    model.predict_proba(X)
    model.n_jobs = 2
    assert fingerprint(model) == before
    assert fingerprint(trained(name, 1)) != before


def test_text_too():
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad", "good good"], [1, 0, 1])
    before = fingerprint(model)
    model.predict_proba(["bad"])
    assert fingerprint(model) == before is not None


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector of a forest, and its folder."""
    model, folder = trained("forest", 0), tmp_path_factory.mktemp("saved") / "guard"
    fitted(model, X).save(folder)
    return model, folder


def with_digest(folder, digest, *, probe=True):
    document = json.loads((folder / "detector.json").read_text())
    document["classifier"]["fingerprint"] = digest
    if not probe:
        document["files"].pop("probe", None)
    (folder / "detector.json").write_text(json.dumps(document))


def test_another_digest_and_the_same_answers_are_a_warning(saved):
    model, folder = saved
    with_digest(folder, "0" * 64)  # as when another version of the library reads it
    same = "Its answers are the same on the made-up rows"
    with advises(UserWarning, "If it is the same one, detector.save(path) remembers it as it is now") as caught:
        loaded = load_detector(folder, model=model)
    assert same in str(caught[0].message)
    with pytest.raises(WrongClassifier, match="it answers otherwise"):
        load_detector(folder, model=trained("forest", 1))
    loaded.save(folder)  # what the warning says to do
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_detector(folder, model=model)


def test_detectors_of_earlier_versions_are_compared_as_they_were_saved(saved):
    model, folder = saved
    with_digest(folder, earlier_fingerprint(model), probe=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_detector(folder, model=model)
    with pytest.warns(UserWarning, match="cannot be told for certain"):
        load_detector(folder, model=trained("forest", 1))


def test_a_function_that_answers_otherwise_is_a_warning(tmp_path):
    model, other = trained("forest", 0), trained("forest", 1)

    def function(rows):
        return model.predict_proba(rows)

    def another(rows):
        return other.predict_proba(rows)

    fitted(function, X).save(tmp_path / "guard")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_detector(tmp_path / "guard", model=function)
    with pytest.warns(UserWarning, match=r"a function, it answers otherwise.*fingerprint="):
        load_detector(tmp_path / "guard", model=another)


def test_no_row_is_kept(tmp_path):
    frame = table().assign(name=[f"person {i}" for i in range(len(X))])
    probe = Probe.like(Rows.unchecked(frame))
    assert set(probe.rows["name"]) == {"text"}
    assert set(probe.rows["kind"]) <= {"high", "low"}
    assert list(probe.rows.dtypes) == list(frame.dtypes)
    assert not pd.merge(probe.rows[["a", "b", "c"]], frame[["a", "b", "c"]]).size


def test_a_gaussian_process_far_from_its_rows_is_told_by_what_it_has_learned():
    """Far from all training rows it answers the same whatever it has learned."""
    one, other = (GaussianProcessClassifier().fit(X[start::2], Y[start::2]) for start in (0, 1))
    assert fingerprint(one) != fingerprint(other)
