"""The right answers: what each guard says of each image, and whether an answer from a server says the same."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import demur.runtime

from .guards import NAMES

VERSION_LENGTH = 12
CODES = {"BOOL": "?", "INT64": "q", "FP32": "f", "FP64": "d"}
CLOSE = 1e-4
"""Relative: onnxruntime rounds otherwise in other sizes of batch; the answers to two images differ by more."""


class Answers:
    """What guards answer to images, each alone.

    Args:
        guards: that may answer.
        X: `(n, 28, 28, 1)` float32.

    Raises:
        ValueError: two images, or two guards, have the same answer: an exchanged one would not be seen.
    """

    def __init__(self, guards: Sequence[Any], X: Any) -> None:
        self.outputs = list(guards[0].default_outputs)
        self._expected = {
            guard.sha256[:VERSION_LENGTH]: [self._of(guard, X[i : i + 1]) for i in range(len(X))] for guard in guards
        }
        self._slack = self._of_slack(guards[0])
        self._formats: dict[bytes, tuple[str, struct.Struct]] = {}
        self._check_apart()

    @classmethod
    def read(cls, folder: Path) -> "Answers":
        """Those of the guards and images in a folder."""
        guards = [demur.runtime.load(folder / f"{name}.onnx", threads=1) for name in NAMES]
        return cls(guards, np.load(folder / "images.npy"))

    @property
    def versions(self) -> list[str]:
        """Of the guards."""
        return list(self._expected)

    def version_of(self, row: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """The version that gave the answer; None if it is not what that version says of the row."""
        try:
            version, values = self._read(headers, body)
        except (ValueError, KeyError, TypeError, struct.error):
            return None
        expected = self._expected.get(version, {row: ()})[row]
        if len(values) != len(expected):
            return None
        for value, right, slack in zip(values, expected, self._slack, strict=True):
            if value != right and not abs(value - right) <= slack + CLOSE * abs(right):
                return None
        return version

    def _read(self, headers: Mapping[str, str], body: bytes) -> tuple[str, Sequence[float]]:
        length = headers.get("inference-header-content-length")
        if length is None:
            answer = json.loads(body)
            self._check_names(answer)
            return answer["model_version"], [value for output in answer["outputs"] for value in output["data"]]
        head = body[: int(length)]
        if head not in self._formats:
            answer = json.loads(head)
            self._check_names(answer)
            codes = "".join(f"{np.prod(o['shape'], dtype=int)}{CODES[o['datatype']]}" for o in answer["outputs"])
            self._formats[head] = answer["model_version"], struct.Struct("<" + codes)
        version, form = self._formats[head]
        return version, form.unpack(body[int(length) :])

    def _check_names(self, answer: Any) -> None:
        if [output["name"] for output in answer["outputs"]] != self.outputs:
            raise ValueError("other outputs than were asked for")

    def _of(self, guard: Any, x: Any) -> list[float]:
        found = guard.run(guard.feed(x))
        return [float(value) for name in self.outputs for value in found[name].ravel()]

    def _of_slack(self, guard: Any) -> list[float]:
        """What each number may be off, beside what is relative: a p-value moves by steps."""
        step = 2 / guard.calibration.distributions[None].n
        slack = []
        for name in self.outputs:
            shape = guard.outputs[name].shape
            slack += [step if name == "p_value" else 1e-6] * int(np.prod(shape, dtype=int))
        return slack

    def _check_apart(self) -> None:
        values = np.array([row for rows in self._expected.values() for row in rows])
        off = np.array(self._slack)
        for i, row in enumerate(values[:-1]):
            close = np.abs(values[i + 1 :] - row) <= 2 * (off + CLOSE * np.abs(row))
            if close.all(axis=1).any():
                raise ValueError("two images have the same answer: an exchanged one would not be seen")
