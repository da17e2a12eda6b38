"""Classifiers outside the graph: how often they are asked, and what becomes of answers when something fails."""

import re
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from demur import BlackBox, ModelDistillation, load_detector
from demur.classifiers.answers import InMemory, OnDisk
from demur.errors import (
    ClassifierFailed,
    InvalidSetting,
    MissingExtra,
    NonFinite,
    NotADistribution,
    ShapeMismatch,
    WrongClassifier,
    WrongType,
)
from demur.rows.row_sketch import row_keys
from demur.rows.rows import Rows
from tests.scaffold import sources


class Endpoint:
    """Answers, counts, and fails when told to."""

    def __init__(self, *, fails=(), answer=sources.function):
        self.calls, self.rows, self.fails, self.answer = 0, [], set(fails), answer

    def __call__(self, rows):
        self.calls += 1
        if self.calls in self.fails:
            raise ConnectionError("the line is dead")
        self.rows += [row.tobytes() for row in rows]
        return self.answer(rows)


@pytest.fixture
def X():  # noqa: N802 - it is what every call here takes
    return sources.wine()[0][:64]


def fit(model, X, **settings):
    return ModelDistillation(model=model).fit(X, **{"epochs": 5, "batch_size": 8, "verbose": False, **settings})


def test_each_training_row_is_asked_about_once(X):
    endpoint = Endpoint()
    fit(endpoint, X, epochs=7)
    assert sorted(endpoint.rows) == sorted(row.tobytes() for row in X)


def test_rows_that_come_twice_are_asked_about_once(X):
    endpoint = Endpoint()
    fit(endpoint, np.concatenate([X, X[:20]]), validation_data=X[10:30])
    assert len(endpoint.rows) == len(X)


def test_a_stream_is_asked_about_once_whatever_the_epochs(X):
    class Stream:
        def __iter__(self):
            return (X[start : start + 8] for start in range(0, len(X), 8))

    endpoint = Endpoint()
    fit(endpoint, Stream(), epochs=4)
    assert len(endpoint.rows) == len(X)


def test_scoring_asks_again_and_keeps_nothing(X):
    endpoint = Endpoint()
    detector = fit(endpoint, X)
    endpoint.rows.clear()
    detector.score(X)
    detector.score(X)
    assert len(endpoint.rows) == 2 * len(X)
    assert detector.classifier.answers is None


def test_rows_are_asked_about_in_batches(X):
    sizes = []

    def endpoint(rows):
        sizes.append(len(rows))
        return sources.function(rows)

    detector = fit(BlackBox(endpoint, batch_size=10), X)
    assert max(sizes) == 10
    assert sum(sizes) == 64
    sizes.clear()
    detector.score(X)
    assert sizes == [10] * 6 + [4]


@pytest.mark.parametrize("cached", [False, True])
def test_a_failure_half_way_loses_nothing(X, tmp_path, cached):
    endpoint = Endpoint(fails={4})
    box = BlackBox(endpoint, batch_size=10, fingerprint="v1", cache=tmp_path / "answers.sqlite" if cached else None)
    detector = ModelDistillation(model=box)
    with pytest.raises(
        ClassifierFailed, match=r"raised ConnectionError on 10 rows: the line is dead.*goes on"
    ) as error:
        detector.fit(X, epochs=2, verbose=False)
    assert isinstance(error.value.__cause__, ConnectionError)
    before = len(endpoint.rows)
    assert before >= 20
    if cached:  # as another process would go on
        detector = ModelDistillation(model=box)
    detector.fit(X, epochs=2, verbose=False)
    assert sorted(endpoint.rows) == sorted(row.tobytes() for row in X)


@pytest.mark.slow
def test_a_cache_is_shared_by_detectors_and_processes(X, tmp_path):
    cache = tmp_path / "somewhere" / "answers.sqlite"
    endpoint = Endpoint()
    detector = fit(BlackBox(endpoint, fingerprint="v1", cache=cache), X)
    scores = detector.score(X)
    assert len(endpoint.rows) == len(X)
    silent = Endpoint(fails=range(1, 1000))
    np.testing.assert_allclose(fit(BlackBox(silent, fingerprint="v1", cache=cache), X).score(X), scores, rtol=1e-4)
    assert silent.calls == 0
    np.save(tmp_path / "X.npy", X)
    script = f"""
        import numpy as np
        from demur.classifiers.answers import OnDisk
        from demur.rows.row_sketch import row_keys
        from demur.rows.rows import Rows
        keys = row_keys(Rows.unchecked(np.load({str(tmp_path / "X.npy")!r})))
        print(len(OnDisk({str(cache)!r}, "v1 logits=False").get(keys)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "64"
    other = Endpoint()
    fit(BlackBox(other, fingerprint="v2", cache=cache), X)
    assert len(other.rows) == len(X)


@pytest.mark.slow
def test_estimators_know_their_own_fingerprint(X, tmp_path):
    box = BlackBox(sources.forest(), cache=tmp_path / "answers.sqlite")
    detector = fit(box, X)
    assert detector.classifier.fingerprint() == fit(sources.forest(), X).classifier.fingerprint()


def test_a_cache_needs_a_fingerprint(tmp_path):
    with pytest.raises(InvalidSetting, match=r"a cache needs fingerprint='...'"):
        BlackBox(Endpoint(), cache=tmp_path / "a.sqlite")


def test_nobody_is_asked_about_rows_that_are_nobodys(X):
    """A paid endpoint is not asked about zeros to learn how many classes it has."""
    endpoint = Endpoint()
    detector = ModelDistillation(model=endpoint, input_shape=(13,))
    assert detector.input_shape == (13,)
    assert endpoint.calls == 0
    with pytest.raises(ShapeMismatch, match=r"X must have shape \(n, 13\); got \(64, 12\)"):
        detector.fit(X[:, 1:])


def test_calls_that_fail_are_repeated(X):
    endpoint = Endpoint(fails={1, 2, 5})
    detector = fit(BlackBox(endpoint, retries=2, wait=0, batch_size=16), X)
    assert len(set(endpoint.rows)) == len(X)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    with pytest.raises(ClassifierFailed, match="the line is dead"):
        fit(BlackBox(Endpoint(fails={1, 2, 3}), retries=2, wait=0), X)


def test_a_call_that_takes_too_long_is_given_up(X):
    done = threading.Event()
    calls = []

    def hangs_once(rows):
        calls.append(len(rows))
        if len(calls) == 1:
            done.wait(20)
        return sources.function(rows)

    start = time.monotonic()
    fit(BlackBox(hangs_once, retries=1, wait=0, timeout=0.2), X, epochs=1)
    assert len(calls) > 1
    done.set()
    assert time.monotonic() - start < 15
    with pytest.raises(ClassifierFailed, match=r"did not answer within 0.05 s"):
        fit(BlackBox(lambda rows: time.sleep(1), timeout=0.05), X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retries": -1}, "retries is a whole number"),
        ({"timeout": 0}, "timeout is a number of seconds above 0"),
        ({"wait": -1}, "wait is a number of seconds"),
        ({"batch_size": 0}, "batch_size is a whole number"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(InvalidSetting, match=message):
        BlackBox(Endpoint(), **settings)


def test_retries_without_tenacity_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(MissingExtra, match=r"demur\[remote\]"):
        BlackBox(Endpoint(), retries=1)
    BlackBox(Endpoint())


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda rows: sources.function(rows)[:-1], ShapeMismatch, r"probabilities \(n, classes\) of 32 rows"),
        (lambda rows: np.full((len(rows), 3), "a"), ShapeMismatch, "probabilities"),
        (lambda rows: 2 * sources.function(rows), NotADistribution, "from_logits=True"),
        (lambda rows: sources.function(rows) * np.nan, NonFinite, "returned NaN"),
        (lambda rows: rows.no_such_thing, ClassifierFailed, "a function, raised AttributeError"),
    ],
)
def test_answers_are_checked(X, answer, error, message):
    with pytest.raises(error, match=message):
        fit(answer, X)


def test_the_number_of_classes_must_stay(X):
    def grows(rows):
        p = sources.function(rows)
        return np.column_stack([p, np.zeros(len(p))]) if grows.seen else p

    grows.seen = False
    detector = fit(grows, X)
    grows.seen = True
    with pytest.raises(ShapeMismatch, match="has 3 classes; an answer has 4"):
        detector.score(X)


def test_rows_come_as_they_are(X):
    """Neither cast nor copied: a service may want whole numbers."""
    types = set()

    def endpoint(rows):
        types.add(rows.dtype)
        return sources.function(rows)

    whole = np.round(X).astype("int16")
    fit(endpoint, whole).score(whole)
    assert types == {np.dtype("int16")}


def test_rows_that_cannot_be_judged_are_asked_about_on_their_own(X):
    def picky(rows):
        if not np.isfinite(rows).all():
            raise ValueError("NaN")
        return sources.function(rows)

    detector = ModelDistillation(model=picky, on_invalid="flag").fit(X, epochs=1, verbose=False).infer_threshold(X)
    spoilt = X.copy()
    spoilt[[3, 9], 0] = np.nan
    data = detector.predict(spoilt)["data"]
    assert data["invalid"].tolist() == [3, 9]
    assert data["is_adversarial"][[3, 9]].all()
    np.testing.assert_allclose(
        np.delete(data["instance_score"], [3, 9]), np.delete(detector.score(X), [3, 9]), rtol=1e-4
    )


def test_a_saved_detector_asks_for_its_black_box(X, tmp_path):
    detector = fit(BlackBox(Endpoint(), fingerprint="fraud-v3"), X)
    detector.save(tmp_path / "detector")
    assert not list((tmp_path / "detector").glob("*classifier*"))
    with pytest.raises(WrongClassifier, match="saved without its classifier"):
        load_detector(tmp_path / "detector")
    with pytest.raises(WrongClassifier, match="its fingerprint is another"):
        load_detector(tmp_path / "detector", model=BlackBox(Endpoint(), fingerprint="fraud-v4"))
    loaded = load_detector(tmp_path / "detector", model=BlackBox(Endpoint(), fingerprint="fraud-v3"))
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


def test_what_is_in_the_graph_is_no_black_box():
    from tests.scaffold import models

    with pytest.raises(WrongType, match="BlackBox is for classifiers outside the graph"):
        BlackBox(models.tabular())


@pytest.mark.parametrize("in_graph", [False, True])
def test_training_shows_how_far_the_classifiers_answers_are(X, capsys, monkeypatch, in_graph):
    """On a terminal, once they take longer than two seconds."""
    from tests.scaffold import models

    monkeypatch.setattr("demur.progress.can_draw", lambda: True)
    monkeypatch.setattr("demur.progress.PATIENCE", 0.0)
    wide = np.concatenate([X + i for i in range(24)])  # 1536 rows, six batches of 256
    fit(models.tabular() if in_graph else sources.function, wide, epochs=1, verbose=True)
    shown, _, _ = capsys.readouterr().out.partition("agreement")
    assert re.search(r"(?<!\d)6/6(?!\d)", shown)


# What keeps answers -------------------------------------------------------------------------------------------------


def keys_of(X):
    return row_keys(Rows.unchecked(X))


@pytest.mark.parametrize("make", [InMemory, None], ids=["memory", "disk"])
def test_answers_are_kept_by_row(make, tmp_path, X):
    answers = make() if make else OnDisk(tmp_path / "a.sqlite", "v1")
    keys = keys_of(X)
    assert len(set(keys)) == len(X)
    answers.put({key: np.float32([i, -i]) for i, key in enumerate(keys[:40])})
    found = answers.get(keys)
    assert set(found) == set(keys[:40])
    np.testing.assert_array_equal(found[keys[7]], [7, -7])
    if not make:
        assert OnDisk(tmp_path / "a.sqlite", "v2").get(keys) == {}


def test_keys_tell_rows_apart_by_value_shape_and_type(X):
    keys = keys_of(X)
    assert keys_of(X[::-1])[::-1] == keys
    assert keys_of(X[10:20]) == keys[10:20]
    assert keys_of(np.asfortranarray(X)) == keys
    assert not set(keys_of(X.astype("float64"))) & set(keys)
    assert not set(keys_of(X[:, :, None])) & set(keys)
    assert keys_of({"a": X, "b": X}) != keys_of({"a": X, "b": X + 1})


def test_many_rows_are_looked_up_and_kept(tmp_path):
    answers = OnDisk(tmp_path / "a.sqlite", "v1")
    keys = keys_of(np.arange(2500.0)[:, None])
    answers.put({key: np.float32([0.5]) for key in keys})
    assert len(answers.get(keys)) == 2500
