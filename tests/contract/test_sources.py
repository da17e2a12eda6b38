"""Rows from anywhere: arrays, files mapped into memory and streams of any framework give the same scores."""

import itertools

import keras
import numpy as np
import pytest

from demur import AdversarialAE, ModelDistillation
from demur.errors import EmptyInput, InvalidSetting, NonFinite, ShapeMismatch, WrongType
from demur.rows.layout import Field
from demur.rows.sources import as_source
from tests.scaffold.models import cnn, decoder, digits, encoder, live_student

X = digits()[0][:70]


class Indexed(keras.utils.PyDataset):
    """Batches of 16, with labels."""

    def __init__(self, rows=X):
        super().__init__()
        self.rows = rows

    def __len__(self):
        return int(np.ceil(len(self.rows) / 16))

    def __getitem__(self, index):
        part = self.rows[16 * index : 16 * index + 16]
        return part, np.zeros(len(part))


class Again:
    """Batches of 13, as often as one likes, without a length."""

    def __iter__(self):
        return (X[start : start + 13] for start in range(0, len(X), 13))


class Refilled:
    """Batches of 14, all in one buffer, which is filled anew before the last batch may have been looked at."""

    def __iter__(self):
        buffer = np.empty_like(X[:14])
        for start in range(0, len(X), 14):
            buffer[:] = X[start : start + 14]
            yield buffer
        buffer[:] = 0


def once():
    return iter(Again())


def memmap(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", "float32", X.shape)
    mapped[:] = X
    mapped.flush()
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


def tf_dataset(labels):
    tf = pytest.importorskip("tensorflow")
    rows = (X, np.zeros(len(X))) if labels else X
    return tf.data.Dataset.from_tensor_slices(rows).batch(11)


def data_loader():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.from_numpy(X), torch.zeros(len(X))), batch_size=9)


class ByRow:
    """One row and its label, by its number: what PyTorch calls a Dataset."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], 0


class ByColumn(ByRow):
    """A dict of columns for each row, as a data set of Hugging Face gives it."""

    column_names = ("image", "label")

    def __getitem__(self, index):
        return {"image": X[index], "label": 0}

    def __iter__(self):
        return (self[index] for index in range(len(self)))


SOURCES = {
    "memmap": memmap,
    "PyDataset": lambda _: Indexed(),
    "iterable": lambda _: Again(),
    "one buffer": lambda _: Refilled(),
    "one-pass iterator": lambda _: once(),
    "tf.data.Dataset": lambda _: tf_dataset(labels=False),
    "tf.data.Dataset with labels": lambda _: tf_dataset(labels=True),
    "DataLoader": lambda _: data_loader(),
    "a data set's rows": lambda _: ByRow(),
    "a data set's columns": lambda _: ByColumn(),
}


@pytest.fixture(scope="module")
def detector():
    made = AdversarialAE(model=cnn(), encoder_net=encoder(), decoder_net=decoder(), hidden_layer_kld={"hidden": 4})
    return made.infer_threshold(X, threshold_perc=70)


@pytest.mark.parametrize("source", SOURCES)
def test_every_method_takes_every_source(detector, source, tmp_path):
    make = SOURCES[source]
    expected = detector.correct(X)["data"]
    np.testing.assert_allclose(detector.score(make(tmp_path)), expected["instance_score"], atol=1e-5)
    for batch_size in (4, 256):
        for method in (detector.predict, detector.correct):
            for name, value in method(make(tmp_path), batch_size=batch_size)["data"].items():
                # A score is compared with itself in the calibration here: rounding decides which is the larger.
                tolerance = 1.5 / (len(X) + 1) if name == "p_value" else 1e-5
                np.testing.assert_allclose(value, expected[name], atol=tolerance)
    score, y, opinion = detector.score(make(tmp_path), return_predictions=True)
    assert len(score) == len(y) == len(opinion) == len(X)
    np.testing.assert_allclose(detector.reconstruct(make(tmp_path)), detector.reconstruct(X), atol=1e-5)
    threshold = detector.threshold
    assert detector.infer_threshold(make(tmp_path), threshold_perc=70).threshold == pytest.approx(threshold, abs=1e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_fit_takes_every_source(source, tmp_path):
    detector = ModelDistillation(model=cnn(), distilled_model=live_student())
    epochs = 1 if source == "one-pass iterator" else 8
    detector.fit(SOURCES[source](tmp_path), epochs=epochs, batch_size=12, verbose=False, validation_data=X[:20])
    assert len(detector.history["loss"]) == len(detector.history["val_loss"]) == epochs
    assert epochs == 1 or detector.history["loss"][-1] < detector.history["loss"][0]


@pytest.mark.slow
def test_fit_on_a_stream_takes_the_steps_that_fit_on_its_array_takes():
    """With one batch an epoch and no Dropout, a reference that is cached or computed in the step is all the same."""

    def losses(source, **options):
        made = AdversarialAE(model=cnn(), encoder_net=encoder(), decoder_net=decoder())
        return made.fit(source, epochs=4, batch_size=len(X), validation_split=0, verbose=False, **options).history[
            "loss"
        ]

    class Whole:
        def __iter__(self):
            return iter([X])

    cached = losses(X)
    np.testing.assert_allclose(losses(Whole()), cached, rtol=1e-4)
    np.testing.assert_allclose(losses(X, preprocess_fn=lambda x: x), cached, rtol=1e-4)


def test_a_stream_that_is_drawn_once_has_one_epoch():
    with pytest.raises(InvalidSetting, match=r"drawn only once.*epochs=2"):
        ModelDistillation(model=cnn()).fit(once(), epochs=2, verbose=False)


def test_preprocessing_reaches_streams():
    seen = []
    detector = ModelDistillation(model=cnn(), distilled_model=live_student())
    detector.fit(Indexed(), epochs=1, verbose=False, preprocess_fn=lambda x: seen.append(len(x)) or x)
    assert sum(seen) >= len(X)


def test_whole_numbers_stay_so_until_a_batch_is_cast(detector):
    whole = (X * 16).astype("uint8")
    assert as_source(whole, Field((8, 8, 1))).rows.raw is whole
    assert next(as_source(iter([whole]), Field((8, 8, 1))).draw(10)).raw.dtype == "uint8"
    np.testing.assert_allclose(detector.score(iter([whole])), detector.score(whole.astype("float32")), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (lambda: iter([]), EmptyInput, "no batches"),
        (lambda: iter([X[:3], X[:2, :4]]), ShapeMismatch, "batch 1 of X must have shape"),
        (lambda: iter([X[:3], X[:0]]), EmptyInput, "batch 1 of X has no rows"),
        (
            lambda: iter([X[:3], np.where(np.arange(64).reshape(8, 8, 1) == 9, np.nan, X[:3])]),
            NonFinite,
            "batch 1 of X",
        ),
        (lambda: iter([X[:3], "text"]), WrongType, "batch 1 of X"),
        (lambda: [X[:3]], WrongType, "got list"),
        (lambda: {"x": X}, WrongType, "got dict"),
        (lambda: 3, WrongType, "got int"),
    ],
)
def test_bad_streams_are_refused(detector, stream, error, message):
    detector.threshold = 0.5  # a failed fit may have made one step, so it forgets what was inferred
    for method in (detector.score, detector.predict, detector.infer_threshold):
        with pytest.raises(error, match=message):
            method(stream())
    with pytest.raises(error, match=message):
        detector.fit(stream(), epochs=1, verbose=False)


def test_invalid_rows_of_a_stream_can_be_flagged(detector):
    bad = X.copy()
    bad[[5, 40], 0, 0] = np.nan
    setting, detector.on_invalid = detector.on_invalid, "flag"
    try:
        data = detector.infer_threshold(X).predict(bad[start : start + 13] for start in range(0, len(X), 13))["data"]
    finally:
        detector.on_invalid = setting
    assert data["invalid"].tolist() == [5, 40]


class Unsized(Indexed):
    """Without a length, Keras takes it for endless."""

    num_batches = None


def repeated():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(X).batch(16).repeat()


def for_ever():
    while True:
        yield X[:16]


@pytest.mark.parametrize("method", ["fit", "score", "predict", "correct", "infer_threshold"])
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (repeated, r"X\.take\(n\)"),
        (Unsized, r"def __len__\(self\)"),
        (for_ever, r"itertools\.islice\(X, n\)"),
        (lambda: itertools.cycle([X[:16]]), r"itertools\.islice\(X, n\)"),
    ],
    ids=["tf.data", "PyDataset", "generator", "cycle"],
)
def test_a_stream_that_never_ends_is_an_error_at_once(detector, make, advice, method):
    arguments = {"fit": {"epochs": 1, "verbose": False}}.get(method, {})
    with pytest.raises(InvalidSetting, match=f"X is a stream that never ends, .*{advice}"):
        getattr(detector, method)(make(), **arguments)


@pytest.mark.slow
def test_what_the_error_about_endless_streams_advises_works(detector):
    class Sized(Unsized):
        num_batches = 2

    ended = [repeated().take(2), itertools.islice(for_ever(), 2), Sized()]
    assert [len(detector.score(stream)) for stream in ended] == [32, 32, 32]
    live = ModelDistillation(model=cnn(), distilled_model=live_student())
    live.fit(itertools.islice(for_ever(), 2), epochs=1, verbose=False)
    live.fit(repeated().take(2), epochs=2, verbose=False)


def test_the_first_rows_of_an_endless_stream_are_not_taken_for_its_layout():
    detector = ModelDistillation(model=lambda rows: np.full((len(rows), 2), 0.5), distilled_model=live_student())
    with pytest.raises(InvalidSetting, match="X is a stream that never ends"):
        detector.fit(for_ever(), verbose=False)


@pytest.mark.slow
def test_the_reference_of_a_large_set_is_kept_on_disk(monkeypatch):
    import demur.network.passes

    def losses():
        made = AdversarialAE(model=cnn(), encoder_net=encoder(), decoder_net=decoder())
        return made.fit(X, epochs=2, verbose=False).history["loss"]

    expected = losses()
    monkeypatch.setattr(demur.network.passes, "IN_MEMORY", 100)
    np.testing.assert_allclose(losses(), expected, rtol=1e-5)


def test_heads_share_one_pass_through_the_classifier():
    """Three heads cost as many passes through the classifier as none: one for x, one for its reconstruction."""
    calls = []

    @keras.saving.register_keras_serializable("demur_tests")
    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Flatten()(Counting()(inputs))
    first = keras.layers.Dense(8, name="first")(h)
    second = keras.layers.Dense(8, name="second")(first)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="last")(second))

    def passes(heads):
        detector = AdversarialAE(model=model, encoder_net=encoder(), decoder_net=decoder(), hidden_layer_kld=heads)
        calls.clear()
        detector.graph(X[:2])
        return len(calls)

    assert passes({"first": 2, "second": 3, "last": 4}) == passes(None) == 2


def test_a_stream_that_ends_early_is_an_error_that_says_so():
    class Shrinking:
        left = 4

        def __iter__(self):
            Shrinking.left -= 1
            return iter([X[:16]] * Shrinking.left)

    detector = ModelDistillation(model=cnn(), distilled_model=live_student())
    with pytest.raises(EmptyInput, match=r"X ended after \d batches"):
        detector.fit(Shrinking(), epochs=3, verbose=False)
