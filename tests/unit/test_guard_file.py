"""What a guard's file says of itself, and its checksum. No Keras, no ONNX."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demur.calibration.harm import HarmCalibration
from demur.calibration.thresholds import Calibration, ScoreDistribution
from demur.errors import CorruptDetector, NotADetector
from demur.guards.description import SHA256, UNSEALED, Description, check_seal, sealed
from demur.rows.classes import Classes
from demur.rows.layout import Field

PATH = Path("guard.onnx")


def description(**changes):
    scores = np.linspace(0, 1, 30, dtype="float32")
    found = {
        "detector": "AdversarialAE",
        "threshold": 0.5,
        "layout": Field((8, 8, 1)),
        "inputs": ("x",),
        "classes": 10,
        "labels": Classes(10),
        "temperature": 0.5,
        "on_invalid": "raise",
        "data_type": None,
        "channels_first": False,
        "classifier": "ab12",
        "precision": "float32",
        "versions": {"keras": "3"},
        "calibration": Calibration({None: ScoreDistribution.of(scores)}, 0.5, 0.05),
        "harm": None,
    }
    return Description(**(found | changes))


def file_of(metadata, body=b"graph"):
    """Bytes as protocol buffers write them: each value behind its name, a tag and its length."""
    value = metadata[SHA256].encode()
    return body + SHA256.encode() + bytes([0x12, len(value)]) + value + b"the end"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"threshold": np.array([0.1, 0.2, 0.3]), "classes": 3, "labels": Classes(3)},
        {"classes": 2, "labels": Classes(2, ("ham", "spam"))},
        {"layout": {"ids": Field((6,), "int32"), "mask": Field((6,))}, "inputs": ("ids", "mask")},
        {"layout": (Field((2,)), Field((None, 3))), "inputs": ("x0", "x1")},
        {"calibration": None},
        {
            "calibration": Calibration(
                {None: ScoreDistribution.of(np.arange(3.0))}, 2.0, whole={None: ScoreDistribution.of(np.arange(9.0))}
            )
        },
        {
            "harm": HarmCalibration(
                0.1,
                0.2,
                weights=np.array([0.1, 0.2, 0.7]),
                origin=np.array([0.9, 0.9, 0.95]),
                anchor=0.9,
                accuracy=0.9,
                n=100,
                noise=0.2,
                spread=0.0,
                spread_by_change=0.3,
                reached=np.array([0.5, 0.4, 0.3]),
                scores=np.array([0.0, 1.0]),
                wrong=np.array([0.1, 0.7]),
            )
        },
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_what_is_written_is_read(changes):
    before = description(**changes)
    after = Description.of(before.as_metadata(), "guard.onnx")
    apart = {"threshold": 0, "calibration": None, "harm": None}
    assert msgspec.structs.replace(after, **apart) == msgspec.structs.replace(before, **apart)
    np.testing.assert_array_equal(after.threshold, before.threshold)
    for one, other in ((before.calibration, after.calibration), (before.harm, after.harm)):
        assert (one is None) == (other is None)
        if one is not None:
            a, b = one.as_arrays(), other.as_arrays()
            assert list(a) == list(b)
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_metadata_of_others_and_of_a_newer_demur_are_told():
    with pytest.raises(NotADetector, match="no guard"):
        Description.of({"producer": "x"}, "guard.onnx")
    metadata = description().as_metadata()
    with pytest.raises(NotADetector, match="upgrade demur"):
        Description.of(metadata | {"demur.format": "2"}, "guard.onnx")
    for wrong in ({"demur.layout": "{}"}, {"demur.threshold": "x"}, {"demur.calibration": "AAAA"}):
        with pytest.raises(NotADetector, match="whole guard"):
            Description.of(metadata | wrong, "guard.onnx")


@given(st.data())
def test_no_changed_byte_passes(data):
    contents = sealed(file_of(description().as_metadata()))
    check_seal(contents, PATH)
    changed = bytearray(contents)
    place = data.draw(st.integers(0, len(contents) - 1))
    # A changed name is another file's, which has no seal to check.
    begin = contents.rfind(SHA256.encode())
    if begin <= place < begin + len(SHA256):
        return
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptDetector, match="SHA-256"):
        check_seal(bytes(changed), PATH)


def test_only_an_unsealed_file_is_sealed():
    contents = file_of(description().as_metadata())
    assert UNSEALED.encode() in contents
    once = sealed(contents)
    assert UNSEALED.encode() not in once
    for wrong in (once, b"nothing"):
        with pytest.raises(CorruptDetector):
            sealed(wrong)
    check_seal(b"another file", PATH)  # is somebody else's matter


def test_files_from_before_classes_had_names_are_read():
    metadata = description().as_metadata()
    del metadata["demur.labels"]
    assert Description.of(metadata, "guard.onnx").labels == Classes(10)
