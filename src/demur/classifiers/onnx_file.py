"""An ONNX file, or a session of onnxruntime, as a classifier."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from demur.classifiers.base import BlackBoxClassifier
from demur.errors import ShapeMismatch
from demur.onnx.session import DTYPES, onnxruntime_module
from demur.rows.classes import Name, Said
from demur.rows.layout import Field, Layout
from demur.rows.rows import Rows, padded


class OnnxClassifier(BlackBoxClassifier):
    """Runs an ONNX model with onnxruntime: the output that is `(n, classes)`, or the probabilities beside the labels.

    A model whose batch has a fixed size is run on batches of that size, the last one filled up.
    """

    kind = "an ONNX model"
    keys: tuple[Name, ...] | None = None
    """Of the map that it answers with, if it does: its classes."""

    @classmethod
    def accepts(cls, model: Any) -> bool:
        ort = sys.modules.get("onnxruntime")
        is_session = ort is not None and isinstance(model, ort.InferenceSession)
        return is_session or (isinstance(model, str | Path) and str(model).endswith(".onnx"))

    @classmethod
    def resolved(cls, model: Any) -> Any:
        if not isinstance(model, str | Path):
            return model
        if not Path(model).is_file():
            raise FileNotFoundError(f"there is no file {model}")
        onnxruntime = onnxruntime_module()
        return onnxruntime.InferenceSession(str(model), providers=onnxruntime.get_available_providers())

    @classmethod
    def known_layout(cls, model: Any) -> Layout:
        inputs = {entry.name: _field(entry) for entry in model.get_inputs()}
        return inputs if len(inputs) > 1 else next(iter(inputs.values()))

    @property
    def title(self) -> str:
        path = getattr(self.model, "_model_path", None)
        return Path(path).name if path else "onnx"

    def settled(self, layout: Layout) -> Layout:  # noqa: ARG002 - the file tells
        return self.known_layout(self.model)

    def known_classes(self) -> int | None:
        shape = self.output.shape
        size = shape[1] if len(shape) == 2 else None
        return max(2, size) if isinstance(size, int) else None

    @property
    def output(self) -> Any:
        """The output that holds the probabilities.

        Raises:
            ShapeMismatch: several may.
        """
        outputs = self.model.get_outputs()
        named = [entry for entry in outputs if "prob" in entry.name.lower()]
        found = named or [entry for entry in outputs if len(entry.shape or ()) == 2] or outputs
        if len(outputs) > 1 and len(found) != 1:
            raise ShapeMismatch(
                f"the {self.role} has outputs {', '.join(entry.name for entry in outputs)}, and none that is clearly "
                "the probabilities; pass a function that returns them, or cut the others off"
            )
        return found[0]

    def said(self) -> Said | None:
        return None if self.keys is None else (self.keys, False)

    def ask(self, rows: Any) -> Any:
        inputs = self.model.get_inputs()
        name, size = self.output.name, inputs[0].shape[0] if inputs[0].shape else None
        X = Rows(rows, self.layout)
        parts = X.batches(size) if isinstance(size, int) else [X]
        return np.concatenate([self._run(part, name, size if isinstance(size, int) else None) for part in parts])

    def _run(self, rows: Rows, name: str, size: int | None) -> Any:
        n = len(rows)
        if size is not None and n < size:
            rows = rows.mapped(lambda x: padded(x, size))
        cast = rows.cast().mapped(np.ascontiguousarray).raw
        inputs = cast if isinstance(cast, dict) else {self.model.get_inputs()[0].name: cast}
        (output,) = self.model.run([name], inputs)
        if isinstance(output, list):  # a map from class to probability for each row, as scikit-learn's converter likes
            self.keys = tuple(sorted(output[0]))
            output = np.asarray([[row[key] for key in self.keys] for row in output])
        return output[:n]

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:
        path = model if isinstance(model, str | Path) else getattr(model, "_model_path", None)
        data = getattr(model, "_model_bytes", None)
        if path:
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return hashlib.sha256(data).hexdigest() if data else None


def _field(entry: Any) -> Field:
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape[1:])
    if entry.type not in DTYPES:
        raise ShapeMismatch(f"the ONNX model's input {entry.name} is a {entry.type}, which no array of numbers is")
    return Field(shape, DTYPES[entry.type])
