"""Requests and answers of the Open Inference Protocol, version 2, over any transport. NumPy and orjson only.

The protocol: https://github.com/kserve/open-inference-protocol. `transport.bodies` has the messages of HTTP,
`transport.grpc` has the messages of gRPC.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from demur.checks import is_number
from demur.guards.tensors import Array, TensorGuard
from demur.rows.arrays import row_list
from demur.rows.layout import Field

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
"""Most dimensions of a tensor; NumPy's limit is 64."""
CLIENT_GONE = 499
"""The status, in logs and metrics, of a request whose client did not wait for its answer; nginx calls it so, too."""


class ProtocolError(Exception):
    """A request that is answered with an error: a status of HTTP, and the seconds until another try may succeed."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class BadRequest(ProtocolError):
    """A request that is wrong: status 400."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class Wanted(NamedTuple):
    """An output that was asked for."""

    name: str
    binary: bool = False


@dataclass(slots=True)
class InferRequest:
    """A request for inference; ProtocolError if an output is wanted twice.

    Attributes:
        inputs: `(n, ...)`, by name.
        id: to be given back.
        outputs: the outputs that are wanted; none for those that the guard returns by default.
        parameters: of the request; "threshold" and "binary_data_output" mean something here.
    """

    inputs: dict[str, Array]
    id: str | None = None
    outputs: tuple[Wanted, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({output.name for output in self.outputs}) != len(self.outputs):
            raise BadRequest("an output is asked for twice")


@dataclass(slots=True)
class InferResponse:
    """The answer to a request for inference: outputs, `(n, ...)`, by name, of n = `rows`, some of which are flagged."""

    model: str
    version: str
    id: str | None
    outputs: dict[str, Array]
    rows: int = 0
    flagged: int = 0


def dtype_of(datatype: Any) -> np.dtype[Any]:
    """NumPy's type for a datatype of the protocol; ProtocolError if there is none, or it is not of numbers."""
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise BadRequest(f"datatype is one of {', '.join(DATATYPES)}; got {shown(datatype)}")
    return dtype


def datatype_of(dtype: Any) -> str:
    """The protocol's datatype for NumPy's type."""
    dtype = np.dtype(dtype)
    return NAMES.get(dtype) or NAMES[dtype.newbyteorder("=")]


class Tensor:
    """The name, datatype and shape of an input; ProtocolError if the datatype or the shape is not valid."""

    def __init__(self, name: str, datatype: Any, shape: Any) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype_of(datatype)
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or not all(type(size) is int and 0 <= size < 2**63 for size in shape)
        ):
            raise BadRequest(
                f"shape of {self} is a list of at most {MAX_DIMENSIONS} sizes: whole numbers, none of them negative; "
                f"got {shown(shape)}",
            )
        self.count = math.prod(shape)

    def __str__(self) -> str:
        return f"input {shown(self.name)}"

    def check_bytes(self, size: Any, what: str) -> None:
        """Raise ProtocolError unless so many bytes are those of the tensor."""
        expected = self.count * self.dtype.itemsize
        if type(size) is not int or size != expected:
            raise BadRequest(
                f"{what} of {self} must be {expected} bytes, for {datatype_of(self.dtype)} of shape {self.shape}; "
                f"got {shown(size)}",
            )

    def from_bytes(self, data: bytes | memoryview) -> Array:
        """The tensor from bytes, row after row, the lowest byte first; not copied if that can be."""
        array: Array = np.frombuffer(data, self.dtype)
        if self.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise BadRequest(f"{self} is BOOL, whose bytes are 0 or 1")
        if not (IS_LITTLE and array.flags.aligned):
            array = array.astype(self.dtype.newbyteorder("="))
        return self.shaped(array)

    def shaped(self, array: Array) -> Array:
        """The numbers, `(count,)`, in the tensor's shape."""
        try:
            return array.reshape(self.shape)
        except ValueError:  # beside a size of 0, others can be any
            raise BadRequest(f"shape of {self} has sizes beyond any array's") from None


def described(fields: Mapping[str, Field]) -> list[dict[str, Any]]:
    """Inputs or outputs of a guard as the protocol describes them; sizes that may be any are -1."""
    return [
        {"name": name, "datatype": datatype_of(field.dtype or "float32"), "shape": shape_of(field)}
        for name, field in fields.items()
    ]


def shape_of(field: Field) -> list[int]:
    """The shape of an input or output of a guard, with the rows; sizes that may be any are -1."""
    return [-1, *(-1 if size is None else size for size in field.shape)]


def check_outputs(names: Iterable[str], guard: TensorGuard) -> None:
    """Raise BadRequest if a guard lacks one of the outputs."""
    for name in names:
        if name not in guard.outputs:
            raise BadRequest(f"there is no output {shown(name)}; there are {', '.join(guard.outputs)}")


def threshold_of(threshold: Any, *, is_allowed: bool) -> float | None:
    """The threshold of a request, in nats; BadRequest if it is not a number, or may not be there."""
    if threshold is None:
        return None
    if not is_allowed:
        raise BadRequest("the threshold is set by the operator of this server: leave the parameter out")
    if isinstance(threshold, bool) or not is_number(threshold):
        raise BadRequest(f"the parameter threshold is a finite number of nats; got {shown(threshold)}")
    return float(threshold)


def check_whole(name: str, array: Array, dtype: np.dtype[Any]) -> None:
    """Raise BadRequest if an input of whole numbers has other numbers, or some outside the range of the type."""
    if dtype.kind in "iu" and not holds(array, dtype):
        raise BadRequest(f"input {name!r} must be whole numbers in the range of {datatype_of(dtype)}")


def check_judged(scores: Array, guard: TensorGuard) -> None:
    """Raise BadRequest if a guard that does not flag such rows could not judge some; scores `(n,)`."""
    invalid = np.flatnonzero(~np.isfinite(scores))
    if len(invalid) and guard.on_invalid == "raise":
        raise BadRequest(
            f"{len(invalid)} of {len(scores)} rows cannot be judged: {row_list(invalid)}; they hold NaN, infinity or "
            "numbers beyond float32, or the networks return such numbers for them"
        )


def to_bytes(array: Array) -> bytes:
    """The bytes of a tensor: row after row, the lowest byte first."""
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
    """The beginning of a value of a request, for an error message."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def error_body(message: str, **more: Any) -> bytes:
    """An error as JSON."""
    return orjson.dumps({"error": message, **more})
