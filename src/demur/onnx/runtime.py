"""An exported guard, run by onnxruntime: the same `score`, `predict` and `correct`. No Keras; NumPy and one wheel.

Examples:
    >>> guard = demur.runtime.load("guard.onnx")
    >>> guard.correct(X_new)["data"]["corrected"].dtype
    dtype('int64')
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from demur.calibration.thresholds import Threshold
from demur.checks import check_whole, explained
from demur.errors import InvalidSetting, NonFinite, NotADetector, ShapeMismatch
from demur.guards.description import ON_DEMAND, OPINION, REFERENCE, SHARPENED, THRESHOLD, Description, read
from demur.guards.facts import facts
from demur.guards.results import Scored
from demur.guards.tensors import TensorGuard, told
from demur.onnx.outside import NEEDED, as_reference, asked, check_model, companion_rows
from demur.onnx.session import DTYPES, onnxruntime_module
from demur.progress import progress
from demur.rows.arrays import as_array, row_list
from demur.rows.layout import Field, Layout, shapes_of
from demur.rows.rows import Rows
from demur.rows.sources import as_source
from demur.summary import Summary

__all__ = ["ExportedGuard", "load"]
__dir__ = __all__.copy


@explained
def load(
    path: str | Path,
    *,
    threads: int | None = None,
    providers: Sequence[Any] | None = None,
    model: Any = None,
    companion_preprocess: Any = None,
) -> "ExportedGuard":
    """Load a guard that `detector.export` has written.

    Examples:
        >>> guard = load("guard.onnx", threads=1)
        >>> guard.detector, guard.input_shape
        ('AdversarialAE', (8, 8, 1))

    Args:
        path: the file.
        threads: how many threads a call may use; None for one a core.
        providers: of onnxruntime, of which the first available one is used; None for the CPU.
        model: the classifier, where it is outside of the file (`takes_reference`): an estimator with `predict_proba`,
            or a function from a batch of rows to what the classifier answers. The guard then asks it; without it,
            `score`, `predict` and `correct` take `reference=`.
        companion_preprocess: the `companion_preprocess` of the detector, if it had one. Without it, the guard takes
            rows that are ready for the companion.

    Raises:
        DetectorNotFound: there is no such file.
        NotADetector: it is not a guard.
        CorruptDetector: it is not the file that was written.
        MissingExtra: onnxruntime is not installed.
        InvalidSetting, WrongType: the guard cannot use `model` or `companion_preprocess`.
    """
    return ExportedGuard(
        path, threads=threads, providers=providers, model=model, companion_preprocess=companion_preprocess
    )


class ExportedGuard(TensorGuard):
    """A detector in one ONNX file, see `load`. Several threads may use the same guard.

    Examples:
        >>> guard = ExportedGuard("guard.onnx")
        >>> np.allclose(guard.score(X_new), detector.score(X_new), atol=1e-4)
        True
        >>> guard.correct(X_new)["data"]["corrected"].shape
        (40,)
    """

    _inside = frozenset(
        "check_trained checked compared decided default_outputs description feed "  # noqa: SIM905
        "has_looked inputs metadata outputs run scored takes_missing".split()
    )
    _elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("fit", "infer_threshold", "save", "export"),
        "an exported guard stays as it is; load the detector that was exported, with demur.load_detector(folder)",
    )

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
        model: Any = None,
        companion_preprocess: Any = None,
    ) -> None:
        self.path = Path(path)
        contents = read(self.path)
        self._session = _session(contents, self.path, threads, providers)
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        super().__init__(Description.of(self.metadata, self.path.name))
        self.sha256 = hashlib.sha256(contents).hexdigest()
        self.name = self.path.stem
        self.inputs = {entry.name: _field(entry) for entry in self._session.get_inputs()}
        self.outputs = {entry.name: _field(entry) for entry in self._session.get_outputs()}
        self.default_outputs = tuple(name for name in self.outputs if name not in ON_DEMAND)
        self._model, self._preprocess = model, companion_preprocess
        outside = self._description.outside
        if outside is not None:
            self._companion_rows = companion_rows(outside, companion_preprocess)
        elif companion_preprocess is not None:
            raise InvalidSetting("companion_preprocess is for a guard whose classifier is outside: leave it out")
        if model is not None:
            self._check_outside("model")
            check_model(model)

    # What it is ---------------------------------------------------------------------------------------------------

    precision = told("precision")

    @property
    def layout(self) -> Layout:
        """What one row is."""
        layout: Any = self._description.row_layout(preprocessed=self._preprocess is not None)
        return layout  # type: ignore[no-any-return]

    @property
    def takes_reference(self) -> bool:
        """Whether the classifier is outside of the file, which takes the answer of the classifier as `reference`."""
        return self._description.outside is not None

    @property
    def compared(self) -> tuple[str, str]:
        """The outputs that were compared: the sharpened probabilities of the classifier, and the opinion's."""
        return (SHARPENED if self.takes_reference else REFERENCE), OPINION

    @property
    def input_shape(self) -> Any:
        """The shape of one row, without the batch: a tuple, or a tuple or dict of them."""
        return shapes_of(self.layout)

    @property
    def threshold(self) -> Threshold:
        """Scores strictly above it are flagged; in nats. An array `(classes,)` where each class has its own."""
        threshold: Any = self._description.threshold
        return threshold  # type: ignore[no-any-return]

    @threshold.setter
    def threshold(self, value: Any) -> None:  # noqa: ARG002 - it is refused
        raise AttributeError(
            "an exported guard keeps its threshold: call predict(X, threshold=...) to use another once"
        )

    def summary(self) -> Summary:
        """What the guard is and promises, in some lines: a string, which a notebook shows as HTML."""
        return Summary(f"{self.path.name}: an exported {self.detector}", facts(self._description))

    def __repr__(self) -> str:
        threshold = np.array2string(np.asarray(self.threshold), precision=4)
        return f"<Guard {self.path.name}: {self.detector}, inputs {self.input_shape}, threshold {threshold}>"

    # Answering ----------------------------------------------------------------------------------------------------

    def run(
        self,
        feed: Mapping[str, npt.NDArray[Any]],
        outputs: Sequence[str] | None = None,
        threshold: float | npt.NDArray[Any] | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once: see `TensorGuard.run`; `feed` makes arrays of rows."""
        names = self.default_outputs if outputs is None else tuple(outputs)
        given = dict(feed)
        if threshold is not None:
            given[THRESHOLD] = np.broadcast_to(np.asarray(threshold, "float32"), np.shape(self.threshold))
        return dict(zip(names, self._session.run(names, given), strict=True))

    def scored(
        self,
        X: Any,
        *,
        reference: Any = None,
        batch_size: int = 256,
        probabilities: bool = False,
        flag_invalid: bool = False,
        verbose: bool = False,
    ) -> Scored:
        """See `demur.guards.base.Guard.scored`."""
        check_whole("batch_size", batch_size, 1)
        source = as_source(X, self.layout, finite=not flag_invalid)
        if reference is not None:
            reference = as_array(reference, "reference")
            n = None if source.rows is None else len(source.rows)
            if reference.shape[:1] != (n,):
                given = "of X, as arrays or a table" if n is None else f"of {n} rows"
                raise ShapeMismatch(f"reference must hold an answer for each {given}; got shape {reference.shape}")
        names = ["instance_score", *(self.compared if probabilities else ("no_defense", "defense"))]
        parts, start = [], 0
        for batch in progress(source.draw(batch_size), source.count(batch_size), verbose):
            answers = None if reference is None else reference[start : start + len(batch)]
            parts.append(self.run(self.feed(batch.raw, answers), names))
            start += len(batch)
        one = len(parts) == 1
        score, y, y_opinion = (parts[0][name] if one else np.concatenate([p[name] for p in parts]) for name in names)
        invalid = np.flatnonzero(~np.isfinite(score)).astype("int64")
        if len(invalid) and not flag_invalid:
            raise NonFinite(
                f"the score of {len(invalid)} of {len(score)} rows is not finite: {row_list(invalid)}; the classifier "
                "or the companion returns NaN or infinity for them"
            )
        return Scored(score, y, y_opinion, invalid)

    def feed(self, X: Any, reference: Any = None) -> dict[str, npt.NDArray[Any]]:
        """Rows of `layout`, and `reference` (see `score`), as inputs of the graph by name, encoded and cast.

        Raises:
            InvalidSetting: `reference` is missing, or given where the classifier is in the file.
            ShapeMismatch, NonFinite, NotADistribution: `reference` does not hold answers for these rows.
        """
        outside, rows = self._description.outside, Rows(X, self.layout)
        if outside is None:
            if reference is not None:
                self._check_outside("reference")
            return dict(zip(self._description.inputs, rows.cast().arrays, strict=True))
        if reference is None and self._model is None:
            raise InvalidSetting(NEEDED)
        made = Rows.of(self._companion_rows(rows.raw), outside.companion, finite=False).cast()
        finite = self.on_invalid == "raise"
        answers = (
            asked(self._model, rows, made.are_finite(), self.classes, outside.answer, finite=finite)
            if reference is None
            else as_reference(reference, len(made), self.classes, outside.answer, finite=finite)
        )
        return {**dict(zip(self._description.inputs, made.arrays, strict=True)), REFERENCE: answers}

    def checked(self, feed: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """See `TensorGuard.checked`."""
        outside = self._description.outside
        if outside is None:
            return feed
        answers, finite = feed[REFERENCE], self.on_invalid == "raise"
        return {**feed, REFERENCE: as_reference(answers, len(answers), self.classes, outside.answer, finite=finite)}

    def _check_outside(self, name: str) -> None:
        if not self.takes_reference:
            raise InvalidSetting(f"{name} is for a guard whose classifier is outside; this file holds it: leave it out")


def _session(contents: bytes, path: Path, threads: int | None, providers: Sequence[Any] | None) -> Any:
    onnxruntime = onnxruntime_module()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        check_whole("threads", threads, 1)
        options.intra_op_num_threads = threads
    known = onnxruntime.get_available_providers()
    names = [entry if isinstance(entry, str) else entry[0] for entry in providers or ()]
    wrong = [name for name in names if name not in known]
    if wrong:  # onnxruntime would take the CPU instead, with a warning
        raise InvalidSetting(f"this onnxruntime has the providers {', '.join(known)}; got {wrong[0]!r}")
    try:
        return onnxruntime.InferenceSession(contents, options, providers=providers or ["CPUExecutionProvider"])
    except ValueError as error:
        raise InvalidSetting(f"providers: {error}") from error
    except Exception as error:  # onnxruntime's errors have no common base
        raise NotADetector(f"onnxruntime cannot load {path}: {str(error).splitlines()[0]}") from error


def _field(entry: Any) -> Field:
    shape = tuple(size if isinstance(size, int) else None for size in entry.shape[1:])
    return Field(shape, DTYPES.get(entry.type))
