"""Rows that are texts: any list, array or column of strings, read by the student itself."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from demur import ModelDistillation, drift, load_detector
from demur.errors import EmptyInput, NonFinite, ShapeMismatch, WrongType
from demur.testing.files import loaded_as
from tests.scaffold.advice import advises

N = 120
SUBJECTS = {
    "weather": ["rain", "storm", "cloudy", "sunny", "forecast", "wind", "snow", "temperature", "degrees", "humid"],
    "kitchen": ["onion", "simmer", "butter", "oven", "recipe", "flour", "garlic", "boiling", "spoon", "roast"],
    "travel": [
        "train",
        "airport",
        "ticket",
        "passenger",
        "luggage",
        "hotel",
        "flight",
        "delayed",
        "border",
        "platform",
    ],
}


def texts(seed=0, n=N):
    """Sentences on three subjects, in order of none."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    words = list(SUBJECTS.values())
    return np.array([f"Today the {' and the '.join(rng.choice(words[c], 6))}." for c in y], object), y


def classifier():
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(*texts(9))


def fit(detector, X, **settings):
    return detector.fit(X, **{"epochs": 8, "batch_size": 16, "verbose": False, **settings})


@pytest.fixture(scope="module")
def detector():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # texts are what they look like
        return fit(ModelDistillation(model=classifier()), texts(0)[0]).infer_threshold(texts(1, 5 * N)[0], fpr=0.1)


def typos(text, seed):
    """Two letters out of three exchanged with their neighbour: words that no vocabulary holds."""
    rng, letters = np.random.default_rng(seed), list(text)
    for i in range(0, len(letters) - 1, 2):
        if rng.random() < 0.67:
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
    return "".join(letters)


def test_the_student_reads_by_itself_and_objects_to_typos(detector):
    X, y = texts(2)
    score, p, q = detector.score(X, return_predictions=True)
    assert (p.argmax(axis=1) == q.argmax(axis=1)).mean() > 0.95
    assert (score > detector.threshold).mean() < 0.2
    spoilt = np.array([typos(text, i) for i, text in enumerate(X)], object)
    wrong = detector.model.predict(spoilt) != y
    assert wrong.sum() > 10
    assert roc_auc_score(np.r_[np.zeros(N), np.ones(wrong.sum())], np.r_[score, detector.score(spoilt[wrong])]) > 0.8


def streams(X):
    """Iterables of batches, each of a kind."""

    class Pairs:
        def __iter__(self):
            return ((X[i : i + 7].tolist(), [0] * 7) for i in range(0, len(X), 7))

    return {
        "arrays": (X[i : i + 7] for i in range(0, len(X), 7)),
        "lists": (X[i : i + 7].tolist() for i in range(0, len(X), 7)),
        "with labels": Pairs(),
    }


def test_every_holder_of_texts_is_taken(detector):
    X = texts(3, 30)[0]
    score = detector.score(X)
    holders = [
        X.tolist(),
        tuple(X),
        X.astype("U"),
        X.astype(np.dtypes.StringDType()),
        pd.Series(X, index=np.arange(30) + 100),
        pd.Series(X, dtype="category"),
        pd.Series(X, dtype="string"),
        pl.Series(X.tolist()),
        *streams(X).values(),
    ]
    for holder in holders:
        np.testing.assert_allclose(detector.score(holder), score, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(detector.score(X, batch_size=4), score, rtol=1e-4, atol=1e-6)
    assert detector.input_shape == "text"


@pytest.mark.parametrize("holder", [list, pd.Series, lambda X: pl.Series(X.tolist()), np.asarray])
def test_a_function_is_given_texts_as_they_came_to_fit(holder):
    model, given = classifier(), []

    def answer(X):
        given.append(type(X))
        return model.predict_proba(list(X))

    X = texts(4, 20)[0]
    found = fit(ModelDistillation(model=answer), holder(X), epochs=1)
    found.score(X.tolist())
    found.score(X)
    assert set(given) == {type(holder(X))}


def test_a_detector_of_texts_is_saved_and_watches_for_drift(detector, tmp_path):
    X = texts(5)[0]
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", model=detector.model)
    np.testing.assert_allclose(loaded.score(X.tolist()), detector.score(X), rtol=1e-5, atol=1e-6)
    assert not drift.test(loaded, X)["data"]["is_drift"]
    assert drift.test(loaded, np.array([typos(text, 0) for text in X], object))["data"]["is_drift"]
    assert loaded_as(tmp_path / "detector", detector).input_shape == "text"


def test_a_stream_of_texts_is_learned_from():
    X = texts(6, 28)[0]
    found = fit(ModelDistillation(model=classifier()), streams(X)["with labels"], epochs=2)
    assert len(found.history["loss"]) == 2


@pytest.mark.slow
def test_a_table_with_a_column_of_texts():
    X, y = texts(7)
    frame = pd.DataFrame({"text": X, "length": [len(text) for text in X]})
    pipe = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(X, y)
    with pytest.warns(UserWarning, match=r"'text' looks like free text, .* 1,024 numbers a column"):
        found = fit(ModelDistillation(model=lambda rows: pipe.predict_proba(rows["text"])), frame)
    _, p, q = found.score(frame, return_predictions=True)
    assert (p.argmax(axis=1) == q.argmax(axis=1)).mean() > 0.95


def test_what_is_no_column_of_texts_is_told(detector):
    X = texts(8, 20)[0]
    for wrong, error, message in [
        ([X[0], 3], WrongType, "row 1 is of type int: make it a string"),
        ([X[0].encode()], WrongType, "row 0 is of type bytes: decode it first"),
        (X[:, None], ShapeMismatch, r"got shape \(20, 1\): pass X\[:, 0\]"),
        ([], EmptyInput, "X has no rows"),
        ([X[0], None], NonFinite, "1 of 2 rows is not finite: 1"),
    ]:
        with pytest.raises(error, match=message):
            detector.score(wrong)
    with pytest.raises(ShapeMismatch, match=r"as many as there are columns: .* such as X\['text'\]"):
        fit(ModelDistillation(model=detector.model, companion_preprocess=lambda X: X), pd.DataFrame({"text": X}))
    fit(ModelDistillation(model=detector.model), pd.DataFrame({"text": X})["text"], epochs=1)


def test_one_text_becomes_a_list_of_one(detector):
    text = str(texts(8, 1)[0][0])
    with advises(WrongType, "must hold one text a row; got a single str: pass a list, [text]"):
        detector.score(text)
    assert detector.score([text]).shape == (1,)


def test_a_network_asks_for_a_function_from_texts():
    import keras

    X = texts(8, 20)[0]
    last = keras.layers.Dense(3, activation="softmax")
    network = keras.Sequential([keras.layers.Input((5,)), last])
    with advises(WrongType, "pass a function from texts to probabilities as the classifier, such as lambda texts:"):
        ModelDistillation(model=network).fit(X)
    with advises(WrongType, "pass a function from texts to probabilities in its place, such as lambda texts:"):
        ModelDistillation(model=keras.Sequential([last])).fit(X)

    def tokenize(texts):
        return np.array([[len(text), *map(text.count, "aeio")] for text in texts], "float32")

    fit(ModelDistillation(model=lambda texts: network.predict(tokenize(texts), verbose=0)), X, epochs=1)
