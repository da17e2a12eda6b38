"""What is asked and answered in the Open Inference Protocol, version 2, whatever the transport. NumPy and orjson only.

The protocol: https://github.com/kserve/open-inference-protocol. `bodies` has its messages over HTTP, `open_inference`
those over gRPC.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

Array = npt.NDArray[Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
"""The datatypes that guards take or return."""
NAMES = {dtype.newbyteorder("="): name for name, dtype in DATATYPES.items()}
IS_LITTLE = sys.byteorder == "little"
MAX_DIMENSIONS = 32
"""Of a tensor; NumPy knows no more than 64."""
CLIENT_GONE = 499
"""The status, in logs and metrics, of a request whose client did not wait for its answer; nginx calls it so, too."""


class ProtocolError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: of HTTP.
        message: for whoever sent the request.
        retry_after: seconds after which it may be worth to try again.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


class Wanted(NamedTuple):
    """An output that was asked for."""

    name: str
    binary: bool = False


@dataclass(slots=True)
class InferRequest:
    """What is asked.

    Attributes:
        id: to be given back.
        inputs: `(n, ...)`, by name.
        outputs: what is wanted; nothing for all that the guard returns by default.
        parameters: of the request; "threshold" and "binary_data_output" mean something here.
    """

    inputs: dict[str, Array]
    id: str | None = None
    outputs: tuple[Wanted, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class InferResponse:
    """What is answered.

    Attributes:
        model: its name.
        version: of the guard that answered.
        id: of the request.
        outputs: `(n, ...)`, by name.
        rows: how many there were.
        flagged: how many of them were flagged.
    """

    model: str
    version: str
    id: str | None
    outputs: dict[str, Array]
    rows: int = 0
    flagged: int = 0


def dtype_of(datatype: Any) -> np.dtype[Any]:
    """NumPy's type for a datatype of the protocol.

    Raises:
        ProtocolError: there is none, or it is not of numbers.
    """
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise ProtocolError(400, f"datatype is one of {', '.join(DATATYPES)}; got {shown(datatype)}")
    return dtype


def datatype_of(dtype: Any) -> str:
    """The protocol's datatype for NumPy's type."""
    dtype = np.dtype(dtype)
    return NAMES.get(dtype) or NAMES[dtype.newbyteorder("=")]


# Tensors --------------------------------------------------------------------------------------------------------------


def count_of(shape: Any, name: str) -> int:
    """How many numbers an input of this shape has.

    Raises:
        ProtocolError: it is no shape.
    """
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(size) is int and 0 <= size < 2**63 for size in shape)
    ):
        raise ProtocolError(
            400,
            f"shape of input {shown(name)} is a list of at most {MAX_DIMENSIONS} sizes: whole numbers, none of them "
            f"negative; got {shown(shape)}",
        )
    return math.prod(shape)


def shaped(array: Array, shape: list[int], name: str) -> Array:
    """The numbers of an input in its shape, which has as many.

    Raises:
        ProtocolError: there is no such array: beside a size of 0, others can be any.
    """
    try:
        return array.reshape(shape)
    except ValueError:
        raise ProtocolError(400, f"shape of input {shown(name)} has sizes beyond any array's") from None


def from_bytes(data: bytes | memoryview, name: str, dtype: np.dtype[Any]) -> Array:
    """The numbers of an input, flat, from the bytes that the protocol has them as; not copied if that can be.

    Raises:
        ProtocolError: they are no truth values, and should be.
    """
    array: Array = np.frombuffer(data, dtype)
    if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise ProtocolError(400, f"input {shown(name)} is BOOL, whose bytes are 0 or 1")
    if IS_LITTLE and array.flags.aligned:
        return array
    return array.astype(dtype.newbyteorder("="))


def to_bytes(array: Array) -> bytes:
    """A tensor as the protocol has it: row after row, the lowest byte first."""
    return array.tobytes() if IS_LITTLE else array.astype(array.dtype.newbyteorder("<")).tobytes()


def holds(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether a type of whole numbers can hold all of an array's numbers exactly."""
    if not array.size:
        return True
    info = np.iinfo(dtype)
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        return False
    return int(array.min()) >= info.min and int(array.max()) <= info.max


def shown(value: Any) -> str:
    """A value of a request as an error message shows it: its beginning."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def error_body(message: str, **more: Any) -> bytes:
    """An error as JSON."""
    return orjson.dumps({"error": message, **more})
