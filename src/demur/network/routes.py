"""The ways that rows go: to a classifier in the graph and its companion together, or to each of them apart."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends.divergence import sharpen
from demur.classifiers import BlackBoxClassifier, GraphClassifier
from demur.classifiers.answers import InMemory
from demur.classifiers.base import settle
from demur.classifiers.keras_model import known_layout
from demur.classifiers.likeness import Probe
from demur.documents import Malformed
from demur.errors import ClassifierFailed, NonFinite, NotFitted, ShapeMismatch, WrongType
from demur.network.companion import is_wrapped
from demur.network.feed import Prepare, Remake
from demur.network.graph import AnsweredGraph, DetectorGraph, Half, Network, Outputs, Views, compiled, started
from demur.network.passes import gathered, keep_apart, spacious
from demur.rows.encoder import TableEncoder, lacking
from demur.rows.layout import Columns, Field, Layout, as_json, compatible, flat, from_json, mapped
from demur.rows.rows import CHECK_ROWS, Rows, padded, padded_size
from demur.rows.texts import Text

PASSTHROUGH = "passthrough"
"""The `companion_preprocess` that leaves rows as they are."""


def is_own(preprocess: Any) -> bool:
    """Whether a `companion_preprocess` is the caller's own, which is not saved."""
    return preprocess not in (None, PASSTHROUGH) and not isinstance(preprocess, TableEncoder)


LEARN_FIRST = (
    "how columns become numbers for the companion is learned from training rows: call fit(X) first, or pass "
    "companion_preprocess"
)


class InGraph:
    """The classifier is in the graph: it and the companion take the same rows."""

    encoder: TableEncoder | None = None
    probe: Probe | None = None
    takes_missing = False
    """Whether rows that hold NaN or lack a value may be judged all the same."""

    def __init__(self, classifier: GraphClassifier) -> None:
        self.classifier, self.companion_layout = classifier, classifier.layout

    @property
    def reference_shapes(self) -> list[tuple[int, ...]]:
        """Of what is known of the classifier when a batch is drawn: nothing, unless it was computed before."""
        return []

    def graph(self, views: Views, parts: Sequence[Any]) -> DetectorGraph:
        """The detector as one Keras model."""
        return DetectorGraph(views, parts)

    def scoring(self, graph: DetectorGraph) -> Network:
        """The graph, compiled."""
        return compiled(graph, self.classifier.layout)

    def kept_apart(self, scoring: Network) -> Network:
        """`scoring` for rows that may hold NaN: the score of such a row is NaN."""
        return keep_apart(scoring)

    def reference(self, views: Views, parts: Sequence[Any]) -> Network:
        """The reference views' log-probabilities of the classifier's rows."""
        return compiled(Half(views.reference, parts), self.classifier.layout)

    def companion_rows(self, rows: Rows) -> Rows:
        """What the companion takes of rows that the classifier takes."""
        return rows

    training_rows = companion_rows

    def prepare(self, remake: Remake | None, *, is_answered: bool) -> Prepare:  # noqa: ARG002 - it is asked in the step
        """What makes the trainer's inputs of a batch of the caller's rows."""
        return lambda batch: {"x": (batch if remake is None else remake(batch)).cast().raw}

    def settings(self) -> dict[str, Any]:
        """What has been settled about the rows, as JSON can hold it."""
        layout = as_json(self.classifier.layout)
        return {"classifier": layout, "companion": layout, "classes": self.classifier.classes, "encoder": None}

    def forget(self) -> None:
        """Let go of what was kept for training."""


class OutOfGraph:
    """The classifier is outside the graph: it answers in NumPy, and the companion may take something else than it.

    Args:
        classifier: the classifier.
        preprocess: what makes the companion's rows of the classifier's; None for the default.
        temperature: sharpens what the classifier answers.
    """

    companion_layout: Layout

    def __init__(self, classifier: BlackBoxClassifier, preprocess: Any, temperature: float) -> None:
        self.classifier, self.preprocess, self.temperature = classifier, preprocess, temperature
        self.encoder: TableEncoder | None = None
        self.probe: Probe | None = None
        if classifier.answers is None:
            classifier.answers = InMemory()

    def resume(self, saved: dict[str, Any]) -> None:
        """Take what `settings` returned."""
        self.classifier.classes = saved["classes"]
        self.encoder = None if saved["encoder"] is None else TableEncoder(saved["encoder"])
        self.companion_layout = from_json(saved["companion"])
        made = None if self.encoder is None else (sum(column.width for column in self.encoder.columns),)
        if made is not None and made != getattr(self.companion_layout, "shape", None):
            raise Malformed(f"the encoder makes rows of shape {made}, and the companion takes others")

    def learn(self, rows: Rows, companion: Any, *, fitting: bool) -> None:
        """Learn from the first rows there are how rows become numbers, and what the companion takes.

        Args:
            rows: the first rows.
            companion: the companion, if there is one yet.
            fitting: whether the rows are training rows.

        Raises:
            NotFitted: how rows become numbers is learned from training rows, and these rows are not for training.
        """
        classifier = self.classifier
        if isinstance(self.preprocess, TableEncoder):
            self.encoder = copy.copy(self.preprocess)  # several detectors may have been given the same
        elif self.preprocess is None and self._takes_a_table(rows):
            self.encoder = TableEncoder()
        if self.encoder is not None and not self.encoder.is_fitted:
            if not fitting:
                raise NotFitted(LEARN_FIRST)
            self.encoder.fit(rows.raw)
        if not classifier.classes:  # then an answer tells; one call, so that no answer is lost if it fails
            self._answers(rows[: min(32, classifier.ask_at_once or 32)])
        self.companion_layout = _as_taken(Rows.unchecked(self._made(rows[:1])).layout, companion)
        self.probe = Probe.like(rows)

    @property
    def takes_missing(self) -> bool:
        """Whether rows that hold NaN or lack a value may be judged: the companion gets numbers in their place."""
        if self.encoder is not None:
            return self.encoder.imputes
        return is_own(self.preprocess)

    @property
    def reference_shapes(self) -> list[tuple[int, ...]]:
        """Of what is known of the classifier when a batch is drawn."""
        return [(self.classifier.classes,)]

    def graph(self, views: Views, parts: Sequence[Any]) -> DetectorGraph:
        """The detector as one Keras model, but for the classifier."""
        return AnsweredGraph(views, parts)

    def scoring(self, graph: DetectorGraph) -> Network:
        """The graph, compiled, with the classifier asked before it."""
        reference = tuple(Field(shape, "float32") for shape in self.reference_shapes)
        start = started(graph, {"x": self.companion_layout, "reference": reference})

        def run(batch: Rows, batch_size: int) -> Callable[[], Outputs]:
            n, x = len(batch), self.companion_rows(batch).cast()
            is_finite = x.are_finite()
            log_p, _ = self._answers(batch, is_finite)
            size = padded_size(n, batch_size)
            inputs = {
                "x": _finite(x, is_finite).padded(batch_size).raw,
                "reference": tuple(padded(view, size) for view in self._views(log_p)),
            }
            outputs = start(inputs)

            def fetch() -> Outputs:
                found = [np.array(ops.convert_to_numpy(output)[:n]) for output in outputs]
                found[0][~is_finite] = np.nan
                return found

            return fetch

        return run

    def kept_apart(self, scoring: Network) -> Network:
        """`scoring` itself: it takes rows that hold NaN."""
        return scoring

    def reference(self, views: Views, parts: Sequence[Any]) -> Network:  # noqa: ARG002 - a black box has one view
        """The reference view's log-probabilities of the classifier's rows."""

        def run(batch: Rows, _: int) -> Callable[[], Outputs]:
            found = self._views(self._all_answers(batch))
            return lambda: found

        return run

    def companion_rows(self, rows: Rows) -> Rows:
        """What the companion takes of rows that the classifier takes."""
        return Rows(self._made(rows), self.companion_layout)

    def _made(self, rows: Rows) -> Any:
        """The arrays that the companion takes."""
        if self.encoder is not None:
            return self.encoder.transform(rows.raw)
        if not is_own(self.preprocess):
            if rows.is_table:
                raise WrongType("a table with columns needs a companion_preprocess that makes numbers of it")
            return mapped(np.asarray, rows.raw)
        made = getattr(self.preprocess, "transform", self.preprocess)(rows.raw)
        made = made.toarray() if hasattr(made, "toarray") else made  # what scikit-learn calls a sparse matrix
        made = mapped(np.asarray, made)
        n = len(flat(made)[0])
        if n != len(rows):
            raise ShapeMismatch(f"companion_preprocess must keep the number of rows; it made {n} of {len(rows)}")
        return made

    def training_rows(self, rows: Rows) -> Rows:
        """What the companion's batches are taken from: the rows, or what is made of them, once."""
        if self.encoder is None and self.preprocess is None:
            return rows
        name = "X, as numbers for the companion,"
        if self.encoder is None:
            return self._checked(rows, name)
        # A few rows at a time, and on disk if they are large: numbers take more room than words and categories.
        parts = ([self._made(batch)] for batch in rows.batches(CHECK_ROWS))
        return Rows.of(gathered(parts, len(rows), spacious)[0], self.companion_layout, name)

    def prepare(self, remake: Remake | None, *, is_answered: bool) -> Prepare:
        """What makes the trainer's inputs of a batch: of `training_rows`, or of rows still to be asked about."""

        def answered(batch: Rows) -> dict[str, Any]:
            return {"x": Rows(batch.raw, self.companion_layout).mapped(np.asarray).cast().raw}

        def asking(batch: Rows) -> dict[str, Any]:
            batch = batch if remake is None else remake(batch)
            reference = tuple(self._views(self._all_answers(batch)))
            return {"x": self._checked(batch, "a batch of X").raw, "reference": reference}

        return answered if is_answered else asking

    def settings(self) -> dict[str, Any]:
        """What has been settled about the rows, as JSON can hold it."""
        return {
            "classifier": as_json(self.classifier.layout),
            "companion": as_json(self.companion_layout),
            "classes": self.classifier.classes,
            "encoder": None if self.encoder is None else self.encoder.settings(),
        }

    def forget(self) -> None:
        """Let go of answers that were kept for training."""
        if isinstance(self.classifier.answers, InMemory):
            self.classifier.answers = None

    def _takes_a_table(self, rows: Rows) -> bool:
        """Whether a `TableEncoder` makes the companion's rows: for tables, texts, and arrays that lack numbers."""
        layout = self.classifier.layout
        if not isinstance(layout, Field):
            return isinstance(layout, Columns | Text)
        is_row = len(layout.shape) == 1
        return is_row and (self.classifier.takes_tables or not rows.mapped(np.asarray).are_finite().all())

    def _views(self, log_p: npt.NDArray[Any]) -> Outputs:
        """The reference views, log-probabilities, of what was answered."""
        return [ops.convert_to_numpy(sharpen(ops.convert_to_tensor(log_p), self.temperature))]

    def _answers(
        self, rows: Rows, is_finite: npt.NDArray[np.bool_] | None = None
    ) -> tuple[npt.NDArray[np.float32], Exception | None]:
        """The log-probabilities of rows, and why the classifier fails on some of them.

        These have NaN: rows that lack a value or hold what is not finite. Its failure on any others is an error.

        Args:
            rows: `n` rows.
            is_finite: `(n,)`, which rows are finite numbers for the companion; None for all.
        """
        failure: Exception | None = None
        if is_finite is None or is_finite.all():
            try:
                return self.classifier.log_probabilities(rows), None
            except (ClassifierFailed, NonFinite) as error:
                failure = error
        groups = self._alike(rows, is_finite)
        if len(groups) == 1 and failure is not None and groups[0].is_whole:
            raise failure
        found: dict[int, npt.NDArray[np.float32]] = {}
        for group, (chosen, is_whole) in enumerate(groups):
            try:
                found[group] = self.classifier.log_probabilities(rows[chosen])
            except (ClassifierFailed, NonFinite) as error:
                if is_whole:
                    raise
                failure = error
        if not self.classifier.classes and failure is not None:
            raise failure
        log_p = np.full((len(rows), self.classifier.classes), np.nan, "float32")
        for group, answered in found.items():
            log_p[groups[group].rows] = answered
        return log_p, failure

    def _alike(self, rows: Rows, is_finite: npt.NDArray[np.bool_] | None) -> list["Alike"]:
        """Rows that lack the same values together: a classifier that fails on one of them fails on all."""
        n = len(rows)
        marks = [np.zeros((n, 1), bool) if is_finite is None else ~is_finite[:, None]]
        if self.takes_missing and (rows.is_table or np.ndim(rows.raw) in (1, 2)):
            marks.append(lacking(rows.raw))
        patterns, group = np.unique(np.concatenate(marks, axis=1), axis=0, return_inverse=True)
        chosen = [np.flatnonzero(group.reshape(-1) == i) for i in range(len(patterns))]
        return [Alike(part, not pattern.any()) for part, pattern in zip(chosen, patterns, strict=True)]

    def _all_answers(self, rows: Rows) -> npt.NDArray[np.float32]:
        """The log-probabilities of training rows.

        Raises:
            NonFinite: the classifier fails on rows that lack a value.
        """
        log_p, failure = self._answers(rows)
        if failure is not None:
            failed, reason = int(np.isnan(log_p).any(axis=1).sum()), str(failure.__cause__ or failure).splitlines()[0]
            raise NonFinite(
                f"{failed} of {len(rows)} rows hold NaN or lack a value, and the classifier fails on them: "
                f"{reason}. Remove these rows or, if new rows will lack values too, impute them in the classifier's "
                "own pipeline"
            ) from failure
        return log_p

    def _checked(self, rows: Rows, name: str) -> Rows:
        return Rows.of(self.companion_rows(rows).cast(), self.companion_layout, name)


class Alike(NamedTuple):
    """Rows that lack the same values."""

    rows: npt.NDArray[np.int64]
    is_whole: bool
    """Whether they lack none."""


Route: TypeAlias = InGraph | OutOfGraph


def answered(route: Route) -> Probe | None:
    """The probe of a classifier with its answers; None where it must not be asked, or fails on made-up rows."""
    probe, classifier = route.probe, route.classifier
    if probe is None or not isinstance(classifier, BlackBoxClassifier) or not classifier.is_free:
        return None
    if probe.answers is None:
        found = asked(classifier, probe)
        if found is None:
            return None
        probe.answers = found
    return probe


def asked(classifier: BlackBoxClassifier, probe: Probe) -> npt.NDArray[np.float32] | None:
    """What a classifier answers on a probe now, probabilities `(n, classes)`; None if it fails on made-up rows.

    An answer with another number of classes comes as an array without rows.
    """
    try:
        return np.asarray(np.exp(classifier.log_probabilities(Rows(probe.rows, classifier.layout))))
    except ShapeMismatch:
        return np.zeros((0, 0), "float32")
    except Exception:  # made-up rows may be rows that it does not know what to say of
        return None


def _as_taken(made: Layout, companion: Any) -> Layout:
    """The layout of what a companion takes, of what is made for it."""
    if is_wrapped(companion):
        layout, _ = settle(made, lambda x: companion(x, training=False), "companion")
        return layout
    known = known_layout(companion)
    if known is not None and compatible(known, made):
        return known
    # Numbers are floating-point ones for a companion, unless it says that it takes others.
    as_floats: Layout = mapped(lambda field: Field(field.shape, "float32"), made)
    return as_floats


def _finite(x: Rows, is_finite: npt.NDArray[np.bool_]) -> Rows:
    """The rows, with zeros in place of every row that holds NaN or infinity."""
    if is_finite.all():
        return x

    def cleaned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        array = array.copy()
        array[~is_finite] = 0
        return array

    return x.mapped(cleaned)
