"""Corruptions of images and of tables: what each changes, what it leaves, and what it refuses."""

import functools
import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_sample_images, load_wine

from demur.errors import EmptyInput, InvalidSetting, MissingExtra, NonFinite, ShapeMismatch, WrongType
from demur.evaluation import corruptions
from demur.evaluation.corruptions import CORRUPTIONS, TABLE_CORRUPTIONS, applies, corrupt, corrupt_table

SEVERITIES = range(1, 6)
SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (8, 11, 3)]
PUBLISHED = [
    *("gaussian noise", "shot noise", "impulse noise", "speckle noise"),
    *("defocus blur", "glass blur", "motion blur", "zoom blur", "gaussian blur"),
    *("snow", "frost", "fog", "spatter"),
    *("brightness", "contrast", "saturate", "elastic transform", "pixelate", "jpeg compression"),
]
UNRANDOM = {"defocus blur", "zoom blur", "gaussian blur", *PUBLISHED[-6:]} - {"elastic transform"}

each_image_corruption = pytest.mark.parametrize("name", PUBLISHED)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@functools.cache
def whole_photograph():
    """256 pixels a side."""
    return load_sample_images().images[0].astype("float32")[100:356, 200:456]


def images(shape, n=6):
    """Parts of a photograph, the contrast of each stretched to [0, 1]."""
    photograph = whole_photograph()
    height, width, channels = shape
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(n):
        top, left = rng.integers(0, 256 - 4 * max(height, width), 2)
        part = photograph[top : top + 4 * height, left : left + 4 * width]
        part = part.reshape(height, 4, width, 4, 3).mean((1, 3))
        parts.append(part if channels == 3 else part.mean(-1, keepdims=True))
    X = np.stack(parts)
    X -= X.min((1, 2, 3), keepdims=True)
    return X / X.max((1, 2, 3), keepdims=True)


def distance(changed, X):
    """Mean L2 distance."""
    return float(np.sqrt(((changed - X) ** 2).sum((1, 2, 3))).mean())


# Images --------------------------------------------------------------------------------------------------------------


def test_the_published_corruptions_are_there():
    assert sorted(CORRUPTIONS) == sorted(PUBLISHED)


def test_every_file_of_the_package_is_imported():
    """A family whose import line is forgotten would be missed by nobody."""
    folder = Path(corruptions.__file__).parent
    files = {f"{corruptions.__name__}.{file.stem}" for file in folder.glob("*.py")} - {
        f"{corruptions.__name__}.__init__"
    }
    assert len(files) > 5
    assert files <= set(sys.modules)


@each_shape
@each_image_corruption
def test_images_are_changed_more_at_a_higher_severity(name, shape):
    X = images(shape)
    before = X.copy()
    found = []
    for severity in SEVERITIES:
        changed = corrupt(X, name=name, severity=severity)
        assert changed.shape == X.shape
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 1
        found.append(distance(changed, X))
    np.testing.assert_array_equal(X, before)
    # A change that can be seen: of one pixel of the image at the very least, by a twentieth.
    assert min(found) > 0.05
    assert found[4] > found[0]
    # Something of each image is left: it is nearer to its corrupted self than to another image's.
    away = [np.corrcoef(changed[i].ravel(), X[i].ravel())[0, 1] for i in range(len(X))]
    assert np.mean(away) > 0.3


@each_image_corruption
def test_the_seed_decides(name):
    X = images((28, 28, 1), 3)
    first, again, other = (corrupt(X, name=name, severity=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name in UNRANDOM)


@each_shape
@each_image_corruption
def test_an_image_does_not_depend_on_its_batch(name, shape, monkeypatch):
    X = images(shape)
    whole = corrupt(X, name=name, severity=4, seed=3)
    np.testing.assert_array_equal(corrupt(X[2:3], name=name, severity=4, seed=3, start=2), whole[2:3])
    monkeypatch.setattr(corruptions.images, "PIXELS_TOGETHER", 4 * X[0].size)
    np.testing.assert_array_equal(corrupt(X, name=name, severity=4, seed=3), whole)


@each_image_corruption
def test_images_that_are_alike_are_not_corrupted_alike(name):
    X = images((28, 28, 1), 1).repeat(2, axis=0)
    first, second = corrupt(X, name=name, severity=3)
    assert np.array_equal(first, second) == (name in UNRANDOM)


@each_image_corruption
def test_global_random_state_is_left_alone(name):
    before = np.random.get_state(), random.getstate()
    corrupt(images((8, 8, 1), 2), name=name, severity=2)
    after = np.random.get_state(), random.getstate()
    np.testing.assert_array_equal(after[0][1], before[0][1])
    assert after[0][2:] == before[0][2:]
    assert after[1] == before[1]


def test_large_images_in_colour_get_levels_of_their_own():
    found = CORRUPTIONS["gaussian noise"]
    assert found.level((32, 32, 3), 5) < found.level((32, 32, 1), 5) < found.level((64, 80, 3), 5)
    large = images((16, 16, 3), 1).repeat(6, axis=1).repeat(6, axis=2)
    changed = corrupt(large, name="gaussian noise", severity=3)
    assert (changed - large)[(large > 0.3) & (large < 0.7)].std() == pytest.approx(0.18, rel=0.1)


def test_what_some_corruptions_do():
    X = images((32, 32, 3))
    value = X.max(-1)
    brighter = corrupt(X, name="brightness", severity=5)
    np.testing.assert_allclose(brighter.max(-1), np.minimum(value + 0.3, 1), atol=1e-5)
    np.testing.assert_allclose(brighter.min(-1) * value, brighter.max(-1) * X.min(-1), atol=1e-5)  # as colourful
    paler = corrupt(X, name="contrast", severity=2)
    np.testing.assert_allclose(paler.std((1, 2)), X.std((1, 2)) / 2, rtol=1e-4)
    np.testing.assert_allclose(paler.mean((1, 2)), X.mean((1, 2)), rtol=1e-4)
    faded = corrupt(X, name="saturate", severity=2)
    np.testing.assert_allclose(faded.max(-1), value, atol=1e-6)
    np.testing.assert_allclose(np.ptp(faded, -1), 0.2 * np.ptp(X, -1), atol=1e-6)
    coarse = corrupt(X, name="pixelate", severity=5)
    assert len(np.unique(coarse[0, ..., 0])) <= 20 * 20 < len(np.unique(X[0, ..., 0]))
    salted = corrupt(np.full((4, 32, 32, 3), 0.5), name="impulse noise", severity=5)
    assert np.mean(salted == 0) == pytest.approx(0.035, abs=0.01)
    assert np.mean(salted == 1) == pytest.approx(0.035, abs=0.01)
    splashed, muddy = (corrupt(np.full((2, 32, 32, 3), 0.5), name="spatter", severity=severity) for severity in (1, 5))
    assert splashed.min() >= 0.5 - 1e-6  # water brightens, mud hides
    assert muddy.max() <= 0.5 + 1e-6
    assert 0.1 < np.mean(muddy < 0.3) < 0.35


@pytest.mark.parametrize(
    "name", ["defocus blur", "motion blur", "zoom blur", "gaussian blur", "glass blur", "pixelate"]
)
def test_a_plain_image_has_nothing_to_blur(name):
    X = np.full((2, 28, 30, 1), 0.4, "float32")
    np.testing.assert_allclose(corrupt(X, name=name, severity=5), X, atol=1e-5)


def test_whole_numbers_and_float64_are_images_too():
    X = images((8, 8, 1)) > 0.5
    for dtype in ("bool", "uint8", "float64"):
        changed = corrupt(X.astype(dtype), name="gaussian noise", severity=1)
        np.testing.assert_array_equal(changed, corrupt(X.astype("float32"), name="gaussian noise", severity=1))


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"name": "rain"}, InvalidSetting, r"one of .*'jpeg compression', 'gaussian noise', .*; got 'rain'"),
        ({"severity": 0}, InvalidSetting, r"from 1 to 5; got 0"),
        ({"severity": 6}, InvalidSetting, r"from 1 to 5; got 6"),
        ({"severity": 2.0}, InvalidSetting, r"from 1 to 5; got 2.0"),
        ({"severity": True}, InvalidSetting, r"from 1 to 5; got True"),
        ({"seed": -1}, InvalidSetting, r"seed is a whole number of at least 0; got -1"),
        ({"start": -1}, InvalidSetting, r"start is a whole number of at least 0; got -1"),
        ({"X": [[0.5]]}, WrongType, r"must be an array"),
        ({"X": np.zeros((2, 8, 8))}, ShapeMismatch, r"got \(2, 8, 8\); for a single instance"),
        ({"X": np.zeros((0, 8, 8, 1))}, EmptyInput, r"no rows"),
        ({"X": np.full((1, 8, 8, 1), np.nan)}, NonFinite, r"NaN"),
        ({"X": np.zeros((1, 7, 8, 1))}, ShapeMismatch, r"at least 8 pixels a side; got \(1, 7, 8, 1\)"),
        ({"X": np.zeros((1, 8, 7, 3))}, ShapeMismatch, r"at least 8 pixels a side; got \(1, 8, 7, 3\)"),
        ({"X": np.zeros((1, 8, 8, 2))}, ShapeMismatch, r"1 or 3 channels, .* got \(1, 8, 8, 2\)"),
        ({"X": np.full((1, 8, 8, 1), 255)}, InvalidSetting, r"in \[0, 1\]; got values from 255 to 255: rescale"),
        ({"X": np.full((1, 8, 8, 1), -0.5)}, InvalidSetting, r"in \[0, 1\]; got values from -0.5 to -0.5"),
    ],
)
def test_errors_of_images(settings, error, says):
    with pytest.raises(error, match=says):
        corrupt(**{"X": np.zeros((2, 8, 8, 1)), "name": "fog", "severity": 1, **settings})


@pytest.mark.parametrize(
    ("name", "module", "package"), [("gaussian blur", "scipy.ndimage", "scipy"), ("jpeg compression", "PIL", "pillow")]
)
def test_a_missing_package_is_named(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"'{package}'.*pip install 'demur\[evaluate\]'"):
        corrupt(np.zeros((1, 8, 8, 1)), name=name, severity=1)


# Tables --------------------------------------------------------------------------------------------------------------

N = 80


def frame():
    """Wines with a whole-number column, two of categories, one of truths, one of dates, and some values missing."""
    X, _ = load_wine(return_X_y=True, as_frame=True)
    X = X.sample(frac=1, random_state=0)[:N].reset_index(drop=True)
    X["proline"] = X["proline"].astype("int64")
    X["grown"] = np.where(X["alcohol"] > 13, "north", np.where(X["proline"] > 600, "south", "east"))
    X["sweet"] = X["hue"] > 1
    X["bottled"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(N), "D")
    X.loc[3, "alcohol"] = np.nan
    X.loc[5, "grown"] = None
    return X


def polars_frame():
    X = frame()
    return pl.DataFrame(
        {name: [None if pd.isna(value) else value for value in X[name].tolist()] for name in X.columns},
        schema_overrides={"grown": pl.Categorical},
    )


def array():
    return load_wine().data[:N].astype("float32")


MAKERS = {"array": array, "pandas": frame, "polars": polars_frame}
MIXED = {name: maker for name, maker in MAKERS.items() if name != "array"}
NAMES = list(TABLE_CORRUPTIONS)
each_table = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
each_frame = pytest.mark.parametrize("make", MIXED.values(), ids=MIXED)
each_table_corruption = pytest.mark.parametrize("name", NAMES)


def cells(X):
    """A table as a frame of objects, None where a value is missing."""
    plain = X.to_pandas() if hasattr(X, "to_pandas") else pd.DataFrame(X)
    return plain.astype(object).where(plain.notna(), None)


def differing(changed, X):
    """Which cells differ: `(n, columns)`."""
    one, other = cells(changed), cells(X)
    return ((one != other) & ~(one.isna() & other.isna())).to_numpy()


def skip_unless_it_applies(name, X):
    if not applies(name, X):
        assert (name, type(X)) == ("category shift", np.ndarray)
        pytest.skip("no categories in an array")


def test_the_table_corruptions_are_there():
    assert sorted(NAMES) == sorted(
        ["noise", "imputed", "unit change", "column swap", "category shift", "stuck sensor", "rounding"]
    )


@each_table
@each_table_corruption
def test_tables_are_changed_more_at_a_higher_severity(name, make):
    X = make()
    skip_unless_it_applies(name, X)
    before = cells(X)
    found = []
    for severity in SEVERITIES:
        changed = corrupt_table(X, name=name, severity=severity)
        assert type(changed) is type(X)
        assert changed.shape == X.shape
        if isinstance(X, np.ndarray):
            assert changed.dtype == X.dtype
        else:
            assert list(changed.columns) == list(X.columns)
            assert list(changed.dtypes) == list(X.dtypes)
            assert (cells(changed).isna() == before.isna()).all(axis=None)  # what is missing stays so
        touched = differing(changed, X)
        if name in ("noise", "rounding"):  # all cells are touched at once: how far they go grows
            numbers = [i for i in range(13) if before.iloc[:, i].notna().all()]
            values, old = (cells(t).iloc[:, numbers].to_numpy("float64") for t in (changed, X))
            found.append(np.mean(np.abs(values - old) / old.std(0)))
        else:
            found.append(touched.mean())
    assert found[0] > 0
    assert sorted(found) == found
    assert found[4] > 2 * found[0]
    assert not differing(X, before).any()  # the caller's table is as it was


@each_frame
def test_only_the_columns_meant_are_touched(make):
    X = make()
    names = list(X.columns)
    numbers = [i for i, name in enumerate(names) if name not in ("grown", "sweet", "bottled")]
    for name in NAMES:
        touched = {i for i in range(len(names)) if differing(corrupt_table(X, name=name, severity=5), X)[:, i].any()}
        expected = {names.index("grown"), names.index("sweet")} if name == "category shift" else set(numbers)
        expected |= {names.index("grown"), names.index("sweet")} if name == "imputed" else set()
        assert touched <= expected, name
        assert len(touched) >= min(2, len(expected)), name


@each_table
@each_table_corruption
def test_the_seed_decides_of_tables(name, make):
    X = make()
    skip_unless_it_applies(name, X)
    first, again, other = (corrupt_table(X, name=name, severity=3, seed=seed) for seed in (1, 1, 2))
    assert not differing(first, again).any()
    assert differing(first, other).any() == (name != "rounding")


@each_table
@each_table_corruption
def test_a_row_does_not_depend_on_its_batch_given_a_reference(name, make):
    X = make()
    skip_unless_it_applies(name, X)
    whole = corrupt_table(X, name=name, severity=4, reference=X)
    assert not differing(whole, corrupt_table(X, name=name, severity=4)).any()
    part = corrupt_table(X[20:30], name=name, severity=4, reference=X, start=20)
    assert not differing(
        part.reset_index(drop=True) if make is frame else part, cells(whole[20:30]).reset_index(drop=True)
    ).any()


@each_table_corruption
def test_pandas_and_polars_are_corrupted_alike(name):
    by_pandas, by_polars = (corrupt_table(make(), name=name, severity=3, seed=4) for make in (frame, polars_frame))
    assert not differing(by_pandas, by_polars).any()


def test_global_random_state_is_left_alone_by_tables():
    before = np.random.get_state()[1].copy(), random.getstate()
    for name in NAMES:
        corrupt_table(frame(), name=name, severity=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]


def test_noise_is_a_share_of_the_deviation_of_the_reference():
    X = np.random.default_rng(0).normal(0, 1, (3000, 2)) * [1, 10]
    changed = corrupt_table(X, name="noise", severity=2, reference=X * 5)
    np.testing.assert_allclose((changed - X).std(0), [1, 10], rtol=0.1)


def test_typical_values_come_from_the_reference():
    X = np.arange(40.0).reshape(20, 2)
    changed = corrupt_table(X, name="stuck sensor", severity=5, reference=X + 100)
    np.testing.assert_array_equal(changed, np.broadcast_to([119, 120], (20, 2)) + np.array([0.0, 0.0]))
    imputed = corrupt_table(X, name="imputed", severity=3, reference=X + 100)
    assert set(imputed[imputed != X]) == {119.0, 120.0}


def test_units_change_by_a_factor_a_column():
    X = array()
    changed = corrupt_table(X, name="unit change", severity=5)
    factors = (changed / X)[:, differing(changed, X).any(0)]
    assert factors.shape[1] == 10  # three quarters of thirteen
    np.testing.assert_allclose(factors, factors[:1].repeat(N, 0), rtol=1e-5)
    assert {round(float(factor), 2) for factor in factors[0]} <= {10, 25.4, 1000, 0.45}


def test_swapped_columns_come_in_pairs():
    X = array().astype("float64")
    changed = corrupt_table(X, name="column swap", severity=5)
    source = [int(np.flatnonzero((changed[:, [i]] == X).all(0))[0]) for i in range(13)]
    assert sorted(source) == list(range(13))
    assert sum(source[i] == i for i in range(13)) == 1  # thirteen make six pairs
    assert [source[source[i]] for i in range(13)] == list(range(13))


def test_categories_shift_to_others_that_are_known():
    X = pd.DataFrame({"kind": ["a"] * 50 + ["b"] * 50, "flag": [True, False] * 50, "one": ["x"] * 100})
    known = pd.DataFrame({"kind": ["a", "b", "c"], "flag": [True, False, True], "one": ["x", "x", "x"]})
    changed = corrupt_table(X, name="category shift", severity=5, reference=known)
    assert set(changed["kind"]) == {"a", "b", "c"}
    assert set(changed["kind"][:50]) == {"a", "b", "c"}
    assert 0.3 < np.mean(changed["kind"] != X["kind"]) < 0.7
    assert 0.3 < np.mean(changed["flag"] != X["flag"]) < 0.7
    assert (changed["one"] == "x").all()
    unseen = corrupt_table(
        pd.DataFrame({"kind": ["z"] * 50}), name="category shift", severity=5, reference=known[["kind"]]
    )
    assert set(unseen["kind"]) == {"a", "b", "c", "z"}


def test_types_of_their_own_are_kept():
    X = pd.DataFrame(
        {
            "small": np.array([100, 120, 90, 3] * 5, "uint8"),
            "nullable": pd.array([1, None, 3, 4] * 5, dtype="Int64"),
            "kind": pd.Categorical(["a", "b", "a", None] * 5, categories=["c", "b", "a"]),
            "single": np.array([1.5, -3e38, 3e38, np.inf] * 5, "float32"),
            "nothing": np.full(20, np.nan),
        }
    )
    for name, seed in itertools.product(NAMES, range(4)):
        changed = corrupt_table(X, name=name, severity=5, seed=seed)
        assert list(changed.dtypes) == list(X.dtypes), name
        assert (changed.isna() == X.isna()).all(axis=None), name
        assert np.isfinite(changed["single"][X["single"] < np.inf]).all(), name


def test_missing_values_of_polars_stay_null():
    X = polars_frame()
    for name in NAMES:
        changed = corrupt_table(X, name=name, severity=5)
        assert changed.null_count().row(0) == X.null_count().row(0), name
        assert not changed["alcohol"].is_nan().any(), name


def test_a_column_that_never_varies_is_left_by_noise_and_rounding():
    X = np.full((5, 2), 0.3)
    for name in ("noise", "rounding"):
        np.testing.assert_array_equal(corrupt_table(X, name=name, severity=5), X)


def test_whole_numbers_stay_whole_and_within_bounds():
    X = pd.DataFrame({"small": np.array([100, 120, 90, 3], "uint8")})
    expected = {tuple((X["small"].astype(float) * factor).round().clip(0, 255)) for factor in (10, 25.4, 1000, 0.45)}
    found = [corrupt_table(X, name="unit change", severity=1, seed=seed)["small"] for seed in range(20)]
    assert {tuple(values) for values in found} == expected
    assert (255, 255, 255, 30) in expected


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"name": "typo"}, InvalidSetting, r"one of 'noise', .*; got 'typo'"),
        ({"severity": 6}, InvalidSetting, r"from 1 to 5; got 6"),
        ({"seed": -1}, InvalidSetting, r"seed is a whole number"),
        ({"start": 0.5}, InvalidSetting, r"start is a whole number"),
        ({"name": "category shift"}, InvalidSetting, r"'category shift' needs a column of two categories .* lacks"),
        ({"name": "column swap", "X": np.ones((3, 1))}, InvalidSetting, r"needs two columns of numbers"),
        ({"X": pd.DataFrame({"a": ["x", "y"]})}, InvalidSetting, r"needs a column of numbers"),
        ({"X": [[1.0]]}, WrongType, r"must be an array"),
        ({"X": np.ones((3, 2, 2))}, ShapeMismatch, r"got \(3, 2, 2\)"),
        ({"X": np.ones((0, 2))}, EmptyInput, r"no rows"),
        ({"X": pd.DataFrame({"a": []})}, EmptyInput, r"X has no rows"),
        ({"X": np.full((2, 2), np.inf)}, NonFinite, r"infinity"),
        ({"reference": np.ones((3, 3))}, ShapeMismatch, r"reference must have the columns of X, 2; got 3"),
        ({"reference": pd.DataFrame({"a": [1.0]})}, ShapeMismatch, r"reference must have .* got \['a'\]"),
    ],
)
def test_errors_of_tables(settings, error, says):
    with pytest.raises(error, match=says):
        corrupt_table(**{"X": np.ones((3, 2)), "name": "noise", "severity": 1, **settings})


def test_which_corruptions_apply():
    text = pd.DataFrame({"a": ["x", "y"]})
    assert [name for name in NAMES if applies(name, text)] == ["imputed", "category shift"]
    assert [name for name in NAMES if not applies(name, array())] == ["category shift"]
    assert all(applies(name, frame()) for name in NAMES)
    with pytest.raises(InvalidSetting, match="got 'typo'"):
        applies("typo", text)
