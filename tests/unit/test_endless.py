"""Streams that never end are an error that says what to do, and streams that end are none."""

import itertools
import warnings

import numpy as np
import pytest

from demur.errors import InvalidSetting
from demur.rows import endless
from demur.rows.endless import check_ends, watched
from tests.scaffold.advice import advises


def loops():
    while True:
        yield np.zeros(3)


def nested_loops():
    while 1:
        yield from [np.zeros(3), np.ones(3)]


class LoopsAnew:
    def __iter__(self):
        while True:
            yield np.zeros(3)


class Endless:
    """As a tf.data.Dataset that repeats, and a keras.utils.PyDataset without a length, say it."""

    num_batches = None

    def cardinality(self):
        return -1

    def take(self, n):
        return [np.zeros(3)] * n


class Unsized:
    num_batches = None

    def __getitem__(self, index):
        return np.zeros(3)


def some(n=3):
    while n:
        n -= 1
        yield np.zeros(3)


def until_told():
    n = 0
    while True:
        n += 1
        if n > 3:
            return
        yield np.zeros(3)


class SomeAnew:
    def __iter__(self):
        return iter([np.zeros(3)])


@pytest.mark.parametrize(
    "stream",
    [
        loops(),
        nested_loops(),
        LoopsAnew(),
        itertools.cycle([1]),
        itertools.count(),
        itertools.repeat(1),
        (x for x in itertools.cycle([np.zeros(3)])),
    ],
    ids=lambda stream: type(stream).__name__,
)
def test_what_loops_for_ever_is_refused_and_the_advice_works(stream):
    with advises(InvalidSetting, "pass as many batches as are wanted, itertools.islice(data, n)") as caught:
        check_ends(stream, "data")
    assert "data is a stream that never ends" in str(caught.value)
    check_ends(itertools.islice(stream, 3))
    assert len(list(itertools.islice(stream, 3))) == 3


def test_what_says_that_it_is_endless_is_refused():
    with pytest.raises(InvalidSetting, match=r"as are wanted, X\.take\(n\)"):
        check_ends(Endless())
    check_ends(Endless().take(3))
    with pytest.raises(InvalidSetting, match=r"by giving it a length: def __len__\(self\)"):
        check_ends(Unsized())


@pytest.mark.parametrize(
    "stream",
    [
        some(),
        until_told(),
        SomeAnew(),
        itertools.repeat(1, 3),
        (x for x in [1]),
        (x for x in itertools.repeat(1, 2)),
        itertools.islice(loops(), 3),
        map(str, [1]),
        zip([1], [2], strict=True),
    ],
    ids=lambda stream: type(stream).__name__,
)
def test_what_may_end_is_not(stream):
    check_ends(stream)


def test_a_generator_that_has_ended_is_none_that_never_ends():
    ended = some(1)
    list(ended)
    check_ends(ended)


def test_very_many_batches_are_worth_a_word(monkeypatch):
    monkeypatch.setattr(endless, "UNTOLD", 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(watched(iter(range(5)), "X")) == [0, 1, 2, 3, 4]
    with pytest.warns(UserWarning, match=r"X has given 5 batches .* itertools\.islice\(X, n\)"):
        assert len(list(watched(iter(range(7)), "X"))) == 7
