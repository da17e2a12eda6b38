"""The last flagged inputs, to be looked at: few, small, and drawn beside serving."""

import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.guards.tensors import Array, TensorGuard

LARGEST_ROW = 16 << 20
"""Bytes of the largest input that is kept."""
LONGEST_SIDE = 320
"""Most pixels of a side of a kept picture: of a larger one, rows and columns are left out."""
FEATURES = 64
"""Most numbers that are shown of an input that is not a picture."""
SAMPLES = 64
"""Inputs that were not flagged, from which the range of values is known."""
RECONSTRUCTIONS = 4
"""Most reconstructions a second."""


@dataclass
class Entry:
    """A flagged input."""

    id: int
    time: float
    said: dict[str, Any]
    row: dict[str, Array] | None
    """The input, until its reconstruction is there."""
    pictures: dict[str, bytes] = field(default_factory=dict)
    """`input` and `reconstruction`, as PNG."""
    values: list[float | None] | None = None


class Recent:
    """Keeps the last flagged inputs of one model.

    `offer` is called beside serving and only copies a few rows; `work` does the rest, on another thread.
    """

    def __init__(self, guard: TensorGuard, keep: int, clock: Callable[[], float]) -> None:
        self._guard, self._keep, self._clock = guard, keep, clock
        self._offered: deque[tuple[float, dict[str, Array], dict[str, Any]]] = deque(maxlen=max(keep, 1))
        # Twice as many as are listed: a page asks for the pictures of a list that is a moment old.
        self._kept: deque[Entry] = deque(maxlen=2 * max(keep, 1))
        self._ranges: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._sample: Array | None = None
        self._next, self._earliest = 1, 0.0
        self._lock = threading.Lock()

    def offer(self, feed: Mapping[str, Array], outputs: Mapping[str, Array], flagged: Array) -> None:
        """Copy some of the flagged inputs, and one input that was not flagged; `flagged` is `(n,)`."""
        with self._lock:
            room = self._keep - len(self._offered)
            shown = image_input(self._guard, feed)
            if self._sample is None and shown is not None and not flagged.all():
                row = np.asarray(feed[shown])[int(np.argmin(flagged))]
                self._sample = row.copy() if row.nbytes <= LARGEST_ROW else None
            # Where more are flagged than can be kept, the others would be gone before anyone saw them.
            for i in np.flatnonzero(flagged)[-room:].tolist() if room > 0 else []:
                row = {name: np.asarray(array)[i].copy() for name, array in feed.items()}
                if sum(array.nbytes for array in row.values()) <= LARGEST_ROW:
                    self._offered.append((self._clock(), row, {name: one[i] for name, one in outputs.items()}))

    def work(self) -> None:
        """Make pictures of what was offered, and at most one reconstruction."""
        with self._lock:
            offered, sample = list(self._offered), self._sample
            self._offered.clear()
            self._sample = None
        if sample is not None and np.isfinite(sample).all():
            self._ranges.append((float(sample.min()), float(sample.max())))
        for when, row, outputs in offered:
            entry = Entry(self._next, when, _said(outputs), row)
            self._next += 1
            shown = image_input(self._guard, {name: array[None] for name, array in row.items()})
            if shown is None:
                entry.values = _values(row)
            else:
                entry.pictures["input"] = png(pixels(row[shown], *self.range()))
            if shown is None or len(row) > 1 or "reconstruction" not in self._guard.outputs:
                entry.row = None
            with self._lock:
                self._kept.append(entry)
                for old in list(self._kept)[: -self._keep]:
                    old.row = None
        self._reconstruct()

    def _reconstruct(self) -> None:
        now = self._clock()
        with self._lock:
            waiting = [entry for entry in self._kept if entry.row is not None]
        if not waiting or 0 < self._earliest - now <= 1 / RECONSTRUCTIONS:  # more if the clock was set back
            return
        self._earliest = now + 1 / RECONSTRUCTIONS
        entry = waiting[-1]  # the newest first: with many, the oldest are gone soon
        row, entry.row = entry.row or {}, None
        feed = {name: array[None] for name, array in row.items()}
        made = self._guard.run(feed, outputs=("reconstruction",))["reconstruction"][0]
        entry.pictures["reconstruction"] = png(pixels(np.asarray(made), *self.range()))

    def range(self) -> tuple[float, float]:
        """The lowest and highest value of images: a usual range that holds those seen, 0 to 1 before any."""
        seen = list(self._ranges)
        if not seen:
            is_whole = any(np.dtype(one.dtype or "float32").kind in "iu" for one in self._guard.inputs.values())
            return (0.0, 255.0) if is_whole else (0.0, 1.0)
        low, high = min(low for low, _ in seen), max(high for _, high in seen)
        for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
            if usual[0] - 1e-3 <= low and high <= usual[1] + 1e-3 and (usual[1] < 255 or high > 1.5):
                return usual
        return low, max(high, low + 1e-6)

    @property
    def has_seen(self) -> bool:
        """Whether the range comes from inputs seen."""
        return bool(self._ranges)

    def waits(self) -> bool:
        """Whether there is something to do soon."""
        with self._lock:
            return bool(self._offered) or any(entry.row is not None for entry in self._kept)

    def entries(self) -> list[dict[str, Any]]:
        """What is kept, the newest first, for JSON."""
        with self._lock:
            kept = list(self._kept)[-self._keep :] if self._keep else []
        return [
            {"id": one.id, "time": one.time, "pictures": sorted(one.pictures), "values": one.values} | one.said
            for one in reversed(kept)
        ]

    def picture(self, number: int, which: str) -> bytes | None:
        """A PNG file: the `input` or the `reconstruction` of an entry, if there is one."""
        with self._lock:
            return next((one.pictures.get(which) for one in self._kept if one.id == number), None)


def _said(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The score of an input, and its classes."""
    score = float(outputs["instance_score"])
    p_value = outputs.get("p_value")
    return {
        "score": score if np.isfinite(score) else None,
        "p_value": None if p_value is None else float(p_value),
        "classifier": int(outputs["no_defense"]),
        "corrected": int(outputs["corrected"]),
    }


def _values(row: Mapping[str, Array]) -> list[float | None] | None:
    """The numbers of an input, where they are few."""
    if any(array.dtype.kind not in "fiub" for array in row.values()):
        return None
    numbers = np.concatenate([array.ravel().astype("float64") for array in row.values()])
    return None if len(numbers) > FEATURES else [None if not np.isfinite(n) else n for n in numbers.tolist()]


def image_shape(shape: tuple[int | None, ...]) -> tuple[str, int | None, int | None, int] | None:
    """How rows of this shape are pictures ("hw", "hwc" or "chw"), height, width, channels; None where they are not."""
    found: tuple[str, int | None, int | None, int] | None = None
    if len(shape) == 2:
        found = ("hw", shape[0], shape[1], 1)
    elif len(shape) == 3 and shape[2] in (1, 3):
        found = ("hwc", shape[0], shape[1], shape[2])
    elif len(shape) == 3 and shape[0] in (1, 3):
        found = ("chw", shape[1], shape[2], shape[0])
    # A few numbers a row are a series rather than a picture.
    return None if found is None or any(side is not None and side < 4 for side in found[1:3]) else found


def image_input(guard: TensorGuard, feed: Mapping[str, Array]) -> str | None:
    """The name of the first input whose rows are pictures."""
    for name in guard.inputs:
        rows = np.asarray(feed[name]) if name in feed else np.empty(0)
        if rows.dtype.kind in "fiu" and image_shape(rows.shape[1:]) is not None:
            return str(name)
    return None


def pixels(array: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """A picture, from a row: `(h, w)` or `(h, w, 3)`, with `low` black and `high` white, and not too large."""
    found = image_shape(array.shape)
    kind = "hw" if found is None else found[0]
    picture = np.moveaxis(array, 0, -1) if kind == "chw" else array
    step = max(1, -(-max(picture.shape[:2]) // LONGEST_SIDE))
    picture = np.nan_to_num(picture[::step, ::step].astype("float64"), nan=low, posinf=high, neginf=low)
    picture = np.clip((picture - low) / (high - low), 0, 1) * 255
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    return np.asarray(np.rint(picture), "uint8")


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """A picture, `(h, w)` or `(h, w, 3)`, as a PNG file."""
    height, width = picture.shape[:2]
    lines = picture.reshape(height, -1)
    data = np.concatenate([np.zeros((height, 1), "uint8"), lines], axis=1).tobytes()  # 0: each line as it is

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if picture.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(data, 6)) + part(b"IEND", b"")
