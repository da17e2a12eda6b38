"""DataFrames: the classifier gets its columns as they are, the companion gets numbers."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from demur import ModelDistillation, load_detector
from demur.errors import NonFinite, NotFitted, ShapeMismatch, WrongType
from demur.rows.encoder import TableEncoder
from demur.rows.rows import Rows
from demur.testing.files import loaded_as
from tests.scaffold import sources
from tests.scaffold.advice import advises

N = 60


def frame():
    """Wines with a column of text and a whole-number one, in types of their own."""
    X, _ = load_wine(return_X_y=True, as_frame=True)
    X = X[["alcohol", "color_intensity", "proline"]].sample(frac=1, random_state=0)[:N].reset_index(drop=True)
    X["proline"] = X["proline"].astype("int64")
    X["grown"] = np.where(X["alcohol"] > 13, "north", np.where(X["proline"] > 600, "south", "east"))
    return X


def labels():
    return (frame()["color_intensity"] > 4).to_numpy().astype(int)


# The classifiers of these tests remember what they were given, so they are stored otherwise after each call.
pytestmark = pytest.mark.filterwarnings("ignore:whether this is the classifier")


class Watched:
    """A classifier with `predict_proba` that keeps what it was given."""

    def __init__(self, model):
        self.model, self.given = model, []
        self.classes_ = model.classes_

    def predict_proba(self, X):
        self.given.append(X)
        return self.model.predict_proba(X.to_pandas() if hasattr(X, "to_pandas") else X)


def classifier():
    encode = make_column_transformer((OrdinalEncoder(), ["grown"]), remainder="passthrough")
    return Watched(make_pipeline(encode, RandomForestClassifier(10, random_state=0)).fit(frame(), labels()))


def pandas_frame():
    return frame()


def polars_frame():
    return pl.DataFrame(frame().to_dict("list"))


FRAMES = pytest.mark.parametrize("make", [pandas_frame, polars_frame], ids=["pandas", "polars"])


def fit(detector, X, **settings):
    return detector.fit(X, **{"epochs": 4, "batch_size": 16, "verbose": False, **settings})


@FRAMES
def test_columns_and_types_reach_predict_proba(make, tmp_path):
    X, model = make(), classifier()
    detector = fit(ModelDistillation(model=model), X)
    assert model.given
    assert all(type(given) is type(X) for given in model.given)
    assert all(list(given.columns) == list(X.columns) for given in model.given)
    assert all(list(given.dtypes) == list(X.dtypes) for given in model.given)
    assert detector.history["loss"][-1] < detector.history["loss"][0]
    detector.infer_threshold(X, threshold_perc=80)
    score, y, _ = detector.score(X, return_predictions=True)
    np.testing.assert_allclose(y, model.predict_proba(X), atol=1e-6)
    assert detector.predict(X)["data"]["is_adversarial"].sum() == N // 5
    np.testing.assert_allclose(detector.score(X, batch_size=7), score, rtol=1e-4, atol=1e-6)
    assert detector.input_shape == ("alcohol", "color_intensity", "proline", "grown")
    detector.save(tmp_path / "detector")
    loaded = loaded_as(tmp_path / "detector", detector)
    np.testing.assert_allclose(loaded.score(X), score, rtol=1e-5, atol=1e-6)


@FRAMES
def test_numbers_are_standardised_and_categories_one_hot(make):
    X = make()
    encoded = TableEncoder().fit(X).transform(X)
    assert encoded.shape == (N, 3 + 3)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded[:, :3], StandardScaler().fit_transform(frame().iloc[:, :3]), atol=1e-5)
    np.testing.assert_array_equal(encoded[:, 3:], OneHotEncoder(sparse_output=False).fit_transform(frame()[["grown"]]))


def test_pandas_and_polars_mean_the_same():
    encoder = TableEncoder().fit(pandas_frame())
    np.testing.assert_allclose(encoder.transform(polars_frame()), encoder.transform(pandas_frame()), atol=1e-6)


def test_an_encoder_is_made_again_from_json():
    encoder = TableEncoder().fit(frame())
    again = TableEncoder(json.loads(json.dumps(encoder.settings())))
    np.testing.assert_array_equal(again.transform(frame()), encoder.transform(frame()))


def test_corners_of_the_encoder():
    X = pd.DataFrame(
        {
            "constant": [2.0, 2.0, 2.0],
            "flag": [True, False, True],
            "kind": pd.Categorical(["a", "b", "a"], categories=["c", "b", "a"]),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    encoder = TableEncoder().fit(X)
    encoded = encoder.transform(X)
    assert encoded[:, 0].tolist() == [0, 0, 0]
    assert encoded[:, 1:3].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert encoded[:, 3:5].tolist() == [[1, 0], [0, 1], [1, 0]]
    np.testing.assert_allclose(encoded[:, 5:], [[-1, 0], [0, 1], [1, 0]])  # the median, and that it is none of its own
    other = pd.DataFrame({**X, "kind": ["z", None, "b"]})
    found = encoder.transform(other)[:, 3:5]
    assert found[0].tolist() == [0, 0]  # not there when it learned
    assert found[1].tolist() == [0, 0]  # never missing when it learned
    with pytest.raises(WrongType, match=r"'constant' held numbers .* it is object now"):
        encoder.transform(X.assign(constant="x"))
    with pytest.raises(WrongType, match=r"'when' holds dates .* companion_preprocess="):
        TableEncoder().fit(pd.DataFrame({"when": pd.to_datetime(["2026-01-01"])}))


def test_a_missing_category_that_was_there_is_a_category():
    X = pd.DataFrame({"kind": ["a", None, "a"]})
    assert TableEncoder().fit(X).transform(X).tolist() == [[0, 1], [1, 0], [0, 1]]


def test_columns_in_another_order_are_put_in_order():
    X = frame()
    detector = fit(ModelDistillation(model=classifier()), X)
    np.testing.assert_allclose(detector.score(X[X.columns[::-1]]), detector.score(X), rtol=1e-5)
    with pytest.raises(ShapeMismatch, match="it has no grown"):
        detector.score(X.drop(columns="grown"))
    with pytest.raises(WrongType, match=r"a table with columns alcohol, .* got ndarray"):
        detector.score(X.iloc[:, :3].to_numpy())


def gaps():
    """The frame with a tenth of two columns missing."""
    X, rng = frame(), np.random.default_rng(0)
    X.loc[rng.random(N) < 0.1, "alcohol"] = np.nan
    X.loc[rng.random(N) < 0.1, "grown"] = None
    return X


@pytest.mark.parametrize("kind", ["pandas", "polars", "array"])
def test_rows_that_lack_values_are_judged_where_the_classifier_takes_them(kind):
    X = gaps()
    fill = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    encode = make_column_transformer((fill, ["grown"]), (SimpleImputer(), ["alcohol", "color_intensity", "proline"]))
    model = Watched(make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(X, labels()))
    if kind == "polars":
        X = pl.from_pandas(X)
    if kind == "array":
        X = X[["alcohol", "color_intensity", "proline"]].to_numpy()
        model = HistGradientBoostingClassifier(max_iter=10).fit(X, labels()).predict_proba  # no name for its columns
    detector = fit(ModelDistillation(model=model, on_invalid="flag"), X, validation_data=X).infer_threshold(X, fpr=0.2)
    data = detector.predict(X)["data"]
    assert data["invalid"].tolist() == []
    assert data["is_adversarial"].mean() < 0.3
    assert np.isfinite(detector.score(X)).all()


def test_infinity_in_a_table_cannot_be_judged():
    X = frame()
    model = HistGradientBoostingClassifier(max_iter=5).fit(X.iloc[:, :3], labels())
    detector = fit(ModelDistillation(model=model, on_invalid="flag"), X.iloc[:, :3]).infer_threshold(X.iloc[:, :3])
    spoilt = X.iloc[:, :3].copy()
    spoilt.loc[5, "alcohol"] = np.inf
    spoilt.loc[6, "alcohol"] = np.nan
    assert detector.predict(spoilt)["data"]["invalid"].tolist() == [5]
    with pytest.raises(NonFinite, match=r"holds NaN, infinity .* in 1 of 60 rows: 5"):
        fit(ModelDistillation(model=model), spoilt)


@pytest.mark.slow
def test_rows_that_lack_values_cannot_be_judged_where_the_classifier_fails_on_them():
    X = frame().iloc[:, :3]
    model = LogisticRegression(max_iter=1000).fit(X, labels())
    detector = fit(ModelDistillation(model=model, on_invalid="flag"), X).infer_threshold(X)
    spoilt = X.copy()
    spoilt.loc[5, "alcohol"] = np.nan
    spoilt.loc[7, "proline"] = None
    data = detector.predict(spoilt)["data"]
    assert data["invalid"].tolist() == [5, 7]
    assert data["is_adversarial"][[5, 7]].all()
    whole = np.delete(np.arange(N), [5, 7])
    np.testing.assert_allclose(data["instance_score"][whole], detector.score(X)[whole], rtol=1e-4, atol=1e-6)
    with pytest.raises(NonFinite, match="2 of 60 rows is not finite: 5, 7"):
        fit(ModelDistillation(model=model), X).score(spoilt)
    with advises(NonFinite, "Remove these rows or, if new rows will lack values too, impute them") as caught:
        fit(ModelDistillation(model=model), spoilt)
    assert "2 of 60 rows hold NaN or lack a value, and the classifier fails on them" in str(caught.value)
    fit(ModelDistillation(model=model), spoilt.dropna())
    imputing = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000)).fit(X, labels())
    fit(ModelDistillation(model=imputing), spoilt)


class Halves:
    """A transformer of one's own: two columns, as numbers."""

    def transform(self, X):
        return X[["alcohol", "color_intensity"]].to_numpy() / [13, 5]


@pytest.mark.parametrize("kind", ["object", "function", "scikit-learn"])
def test_what_makes_the_numbers_may_be_ones_own(kind, tmp_path):
    own = {
        "object": Halves(),
        "function": Halves().transform,
        "scikit-learn": make_column_transformer(
            (OneHotEncoder(), ["grown"]), (StandardScaler(), ["proline"]), sparse_threshold=1.0
        ).fit(frame()),
    }[kind]
    X = frame()
    detector = fit(ModelDistillation(model=classifier(), companion_preprocess=own), X)
    assert detector.companion.input_shape == (None, 4 if kind == "scikit-learn" else 2)
    detector.save(tmp_path / "detector")
    with pytest.raises(WrongType, match="a companion_preprocess of your own"):
        load_detector(tmp_path / "detector", model=detector.model)
    loaded = load_detector(tmp_path / "detector", model=detector.model, companion_preprocess=own)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)


def test_a_preprocess_must_keep_the_rows():
    with pytest.raises(ShapeMismatch, match=r"keep the number of rows; it made 1 of \d+"):
        fit(ModelDistillation(model=classifier(), companion_preprocess=lambda X: np.zeros((1, 2))), frame())


def test_numbers_are_learned_from_training_rows():
    with pytest.raises(NotFitted, match=r"call fit\(X\)"):
        ModelDistillation(model=classifier()).score(frame())


def test_arrays_given_to_an_estimator_are_standardised_too():
    """Trees do not care how large a number is; a student does."""
    X = sources.rows() * np.geomspace(1e-3, 1e3, 13)
    detector = fit(ModelDistillation(model=sources.forest()), X)
    encoded = detector.route.companion_rows(Rows.unchecked(X)).raw
    np.testing.assert_allclose(encoded.std(axis=0), 1, atol=1e-3)
    as_they_are = fit(ModelDistillation(model=sources.forest(), companion_preprocess="passthrough"), X)
    np.testing.assert_array_equal(as_they_are.route.companion_rows(Rows.unchecked(X)).raw, X)


def test_an_encoder_may_be_given_and_is_saved_with_the_detector(tmp_path):
    X = frame()
    given = TableEncoder(drop=["proline"])
    detector = fit(ModelDistillation(model=classifier(), companion_preprocess=given), X)
    assert detector.companion.input_shape == (None, 2 + 3)
    assert not given.is_fitted
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", model=detector.model)
    np.testing.assert_allclose(loaded.score(X), detector.score(X), rtol=1e-5, atol=1e-6)
    with pytest.raises(NotFitted, match=r"call fit\(X\)"):
        ModelDistillation(model=classifier(), companion_preprocess=given).score(X)


def test_a_constant_column_of_tenths_is_the_same_as_float32():
    """A column of 0.1 has a standard deviation of 2.8e-17."""
    X, y = sources.wine()
    X = np.c_[X, np.full(len(X), 0.1)]
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    detector = fit(ModelDistillation(model=forest), X)
    np.testing.assert_allclose(detector.score(X.astype("float32")), detector.score(X), atol=1e-3)


@pytest.mark.slow
def test_streams_of_tables():
    class Stream:
        def __iter__(self):
            return (frame()[start : start + 20] for start in range(0, N, 20))

    X = frame()
    detector = fit(ModelDistillation(model=classifier()), X)
    np.testing.assert_allclose(detector.score(Stream()), detector.score(X), rtol=1e-4, atol=1e-6)
    fit(detector, Stream(), epochs=2)
