"""A digest of what an object has learned: the same in every process and for every layout in memory, no pickle needed.

An object is walked as `pickle` would: what makes it, its state, its items. Arrays count by their values, dicts and sets
without their order, functions by their code. What says how to compute and not what (`n_jobs`) is left out.
"""

import hashlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

NOT_LEARNED = frozenset(
    {"n_jobs", "nthread", "thread_count", "verbose", "memory", "_sklearn_version", "_stop_words_id"}
)
"""Attributes that change nothing in what a model answers."""
PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, slice, type(Ellipsis))
LOCKS = ("lock", "RLock", "Lock")


def digest_of_state(value: Any) -> str | None:
    """The SHA-256 of what an object has learned; None where it holds what cannot be read, such as a handle."""
    try:
        return _Walk().digest(value).hex()
    except Exception:  # whatever an object of somebody else's raises when it is asked for its state
        return None


class _Walk:
    """One walk through an object and all that it refers to."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, bytes]] = {}
        """By identity: the object, kept alive, and its digest, which is empty while the object is being walked."""

    def digest(self, value: Any) -> bytes:
        if isinstance(value, PLAIN) and not isinstance(value, np.generic):
            return _hash(type(value).__name__.encode(), repr(value).encode())
        known = self.known.get(id(value))
        if known is None:
            self.known[id(value)] = (value, b"")
            known = (value, _hash(*self.parts(value)))
            self.known[id(value)] = known
        return known[1]

    def parts(self, value: Any) -> Iterator[bytes]:
        """What tells an object from others."""
        if isinstance(value, np.ndarray | np.generic):
            yield from self.array(value)
        elif isinstance(value, dict):
            yield b"dict"
            yield from sorted(self.digest(key) + self.digest(item) for key, item in value.items())
        elif isinstance(value, set | frozenset):
            yield b"set"
            yield from sorted(map(self.digest, value))
        elif isinstance(value, list | tuple):
            yield type(value).__name__.encode()
            yield from map(self.digest, value)
        elif isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield b"function" + value.__qualname__.encode()
            yield from map(self.digest, (value.__code__, value.__defaults__, value.__kwdefaults__, cells))
        elif isinstance(value, types.CodeType):
            yield b"code" + value.co_code
            yield from map(self.digest, (value.co_consts, value.co_names))
        elif isinstance(value, type | types.BuiltinFunctionType | np.ufunc):
            yield b"named" + getattr(value, "__qualname__", value.__name__).encode()
        else:
            yield from self.object(value)

    def array(self, value: Any) -> Iterator[bytes]:
        array = np.asarray(value)
        if isinstance(value, np.ma.MaskedArray):
            yield self.digest(np.ma.getmaskarray(value))
            array = np.where(np.ma.getmaskarray(value), np.zeros((), array.dtype), np.ma.getdata(value))
        yield f"array{array.dtype.str}{array.shape}".encode()
        if array.dtype.names:  # field by field: what lies between the fields is not initialised
            yield from (self.digest(np.ascontiguousarray(array[name])) for name in array.dtype.names)
        elif array.dtype.kind == "O":
            yield from map(self.digest, array.ravel().tolist())
        else:
            yield np.ascontiguousarray(array).tobytes()

    def object(self, value: Any) -> Iterator[bytes]:
        """An object of a class: by what its library tells of it, or else as `pickle` takes it apart."""
        yield type(value).__qualname__.encode()
        if type(value).__name__ in LOCKS:
            return
        found = _told(value)
        if found is not None:
            yield self.digest(found)
            return
        reduced = value.__reduce_ex__(2)
        if isinstance(reduced, str):
            yield reduced.encode()
            return
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            state = {name: part for name, part in state.items() if name not in NOT_LEARNED}
        made_of = (make, arguments, state, list(items or ()), dict(pairs or ()))
        yield from map(self.digest, made_of)


def _told(value: Any) -> Any:  # noqa: PLR0911 - one return for each library that has its own way
    """What a library's own function tells of an object where pickling tells more than it has learned, or less."""
    if hasattr(value, "best_estimator_"):  # a search: how it went, and how long it took, is not learned
        return value.best_estimator_
    if hasattr(value, "get_booster"):  # XGBoost
        return bytes(value.get_booster().save_raw("ubj"))
    if hasattr(value, "save_raw"):
        return bytes(value.save_raw("ubj"))
    if hasattr(value, "booster_"):  # LightGBM
        return value.booster_.model_to_string()
    if hasattr(value, "model_to_string"):
        return value.model_to_string()
    if hasattr(value, "get_tree_stats"):  # scikit-learn's search trees, which count how often they were asked
        return [np.asarray(array) for array in value.get_arrays()]
    if hasattr(value, "tocsr") and hasattr(value, "indptr"):  # SciPy's sparse arrays, which sort themselves when used
        value = value.tocsr(copy=True)
        value.sum_duplicates()
        return [value.shape, value.data, value.indices, value.indptr]
    if hasattr(value, "get_weights"):  # Keras
        return value.get_weights()
    if hasattr(value, "state_dict"):  # PyTorch
        return dict(value.state_dict())
    if hasattr(value, "detach"):
        from demur.classifiers.torch_module import bits

        return bits(value)
    return None


def _hash(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
