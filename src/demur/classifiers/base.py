"""What demur asks of a classifier, inside the graph or outside of it."""

import abc
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends import current, probe
from demur.backends.divergence import PROBABILITY_FLOOR, Tensor, log_probabilities, log_softmax
from demur.classifiers.answers import Answers
from demur.classifiers.outputs import CLASSIFIER, ENOUGH, check_outputs, unwrapped
from demur.errors import ClassifierFailed, DemurError, NoGraph, NonFinite, ShapeMismatch, WrongType
from demur.rows.arrays import as_numpy
from demur.rows.classes import Said, classes_said_by
from demur.rows.layout import Columns, Field, Layout, compatible, describe_layout, mapped
from demur.rows.row_sketch import row_keys
from demur.rows.rows import Rows
from demur.rows.texts import Text, as_given


class Classifier:
    """One classifier of one source. A source of your own subclasses `BlackBoxClassifier` or `GraphClassifier`.

    Examples:
        >>> issubclass(source_of(classifier), Classifier)
        True
        >>> source_of(classifier).in_graph, source_of(forest).in_graph
        (True, False)

    Attributes:
        model: what the user passed.
        layout: what one row is, and what it is cast to.
        classes: how many there are; one sigmoid output counts as two.
        is_logits: whether its outputs are read as logits.
        ends_visibly: whether they are logits because demur has looked under a softmax or sigmoid at the model's end, so
            that nothing is left to be checked.
        feature_shapes: of the hidden layers that were asked for.
    """

    kind: ClassVar[str] = "a classifier"
    """What messages call a classifier of this source."""
    in_graph: ClassVar[bool]
    """Whether gradients go through it, on the backend in use."""
    native: ClassVar[str] = ""
    """The backend of Keras on which such a classifier would be in the graph."""
    takes_tables: ClassVar[bool] = False
    """Whether the classifier takes tables, so that the companion gets standardised columns."""

    is_free: bool = False
    """Whether the classifier may be asked about a few extra rows, to tell whether it is still the same."""

    model: Any
    layout: Layout
    classes: int
    is_logits: bool
    ends_visibly: bool = False
    role: str
    feature_shapes: list[tuple[int | None, ...]]

    @classmethod
    @abc.abstractmethod
    def accepts(cls, model: Any) -> bool:
        """Whether `model` is of this kind. Imports nothing: what is not imported cannot have made the model."""

    @classmethod
    def known_layout(cls, model: Any) -> Layout | None:  # noqa: ARG003 - most models do not know
        """What rows the model takes, if it knows; otherwise the first rows tell."""
        return None

    @classmethod
    def resolved(cls, model: Any) -> Any:
        """The model itself, where what the user passed only names it (a path, say)."""
        return model

    @property
    def title(self) -> str:
        """What to call the model."""
        return str(getattr(self.model, "name", None) or type(self.model).__name__)

    @classmethod
    def fingerprint_of(cls, model: Any) -> str | None:  # noqa: ARG003 - a function tells nothing of its own
        """A SHA-256 of what a model has learned; None if that cannot be told."""
        return None

    @classmethod
    def said_by(cls, model: Any) -> Said | None:
        """What a model says its classes are called; None if it does not."""
        return classes_said_by(model)

    def said(self) -> Said | None:
        """What the model says its classes are called; None if it does not."""
        return self.said_by(self.model)

    def fingerprint(self) -> str | None:
        """A SHA-256 of what the model has learned; None if that cannot be told."""
        return self.fingerprint_of(self.model)

    def tracked(self) -> list[Any]:
        """Keras layers that hold its weights, for compiling."""
        return []


class GraphClassifier(keras.layers.Layer, Classifier):  # type: ignore[misc]
    """A classifier inside the graph: `x -> [log-probabilities, feature map, ...]`, differentiable, never trained.

    A subclass gives `outputs`; its `__init__` calls `settle` and sets the attributes of `Classifier`.

    Examples:
        >>> isinstance(detector.classifier, GraphClassifier)
        True
        >>> [output.shape[1] for output in detector.classifier(X_new[:2])]
        [10]
    """

    in_graph = True

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a layout past Keras, which would put a dict into one of its own kind."""
        if name == "layout":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @abc.abstractmethod
    def outputs(self, x: Any, training: bool = False) -> list[Tensor]:
        """What the model returns for a batch, followed by the feature maps that were asked for."""

    def call(self, x: Any, training: bool = False) -> list[Tensor]:
        """Return the log-probabilities `(n, classes)`, float32, and the feature maps that were asked for."""
        output, *features = self.outputs(x, training)
        return [in_log_space(output, self.is_logits), *features]

    def probe(self) -> Any:
        """One row of zeros that the model accepts."""
        return probe(self.layout)

    def check_outputs(self, output: Any) -> None:
        """Raise NotADistribution unless the model returned probabilities, or logits, as the settings say."""
        if not self.ends_visibly:
            check_outputs(output, self.role, are_logits=self.is_logits)


class BlackBoxClassifier(Classifier):
    """A classifier outside the graph: rows in, probabilities out, in NumPy. A subclass gives `accepts` and `ask`.

    Examples:
        >>> source = source_of(forest)
        >>> issubclass(source, BlackBoxClassifier), source.accepts(forest)
        (True, True)

    Args:
        model: what the user passed.
        layout: of the rows. They come to `ask` as they are, neither cast nor copied.
        from_logits: whether it returns logits.
        role: what to call it in error messages.
    """

    in_graph = False
    is_free = True
    kind: ClassVar[str] = "a black box"
    retries: int = 0
    timeout: float | None = None
    ask_at_once: int | None = None
    """Rows asked for together; None: as many as come."""

    def __init__(
        self,
        model: Any,
        *,
        layout: Layout,
        from_logits: bool = False,
        hidden: Sequence[int | str] = (),
        role: str = CLASSIFIER,
        channels_last: bool = False,  # noqa: ARG002 - rows come as they are
    ) -> None:
        if hidden:
            raise NoGraph(f"the hidden layers of {self.kind} cannot be reached")
        self.model, self.role, self.is_logits, self.feature_shapes = model, role, from_logits, []
        self.layout = self.settled(layout)
        self.answers: Answers | None = None
        self._logits_checked = False
        self.classes = self.known_classes() or 0

    @abc.abstractmethod
    def ask(self, rows: Any) -> Any:
        """Return the model's probabilities (or logits) of rows: `(n, classes)`; or `(n,)`, `(n, 1)` of the second."""

    def known_classes(self) -> int | None:
        """How many classes there are, if the model tells; otherwise its first answer does."""
        return None

    def settled(self, layout: Layout) -> Layout:
        """The layout of the rows that the model is asked about: as they come, unless the model wants a type."""
        return layout if isinstance(layout, Columns | Text) else mapped(lambda field: Field(field.shape, None), layout)

    def log_probabilities(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Log-probabilities of rows, float32 `(n, classes)`; the model is asked about new rows only.

        Raises:
            ClassifierFailed: it raised, or did not answer in time. What it answered before is kept.
            ShapeMismatch, NotADistribution: the answer is no probabilities of these rows.
        """
        if self.answers is None:
            return self._answered(rows)
        keys = row_keys(rows)
        known = self.answers.get(keys)
        wanted = [i for i, key in enumerate(keys) if key not in known]
        first = list({keys[i]: i for i in reversed(wanted)}.values())[::-1]
        first.sort()
        size = self.ask_at_once or max(1, len(first))
        for start in range(0, len(first), size):
            chosen = np.asarray(first[start : start + size])
            found = self._answered(rows if len(chosen) == len(keys) else rows[chosen])
            new = {keys[i]: log_p for i, log_p in zip(chosen, found, strict=True)}
            self.answers.put(new)
            known |= new
        self._learn_classes(len(next(iter(known.values()))))
        return np.asarray(np.stack([known[key] for key in keys]))

    def _answered(self, rows: Rows) -> npt.NDArray[np.float32]:
        if self.ask_at_once is None or len(rows) <= self.ask_at_once:
            return self._asked(rows)
        return np.concatenate([self._asked(batch) for batch in rows.batches(self.ask_at_once)])

    def _asked(self, rows: Rows) -> npt.NDArray[np.float32]:
        try:
            given = as_given(rows.raw, self.layout) if isinstance(self.layout, Text) else rows.raw
            output = as_numpy(unwrapped(self.ask(given)))
        except (KeyboardInterrupt, DemurError):
            raise
        except Exception as error:
            raise ClassifierFailed(
                f"the {self.role}, {self.kind}, raised {type(error).__name__} on {len(rows)} rows: {error}. "
                "What it answered before is kept: the same call goes on from there"
            ) from error
        if output.ndim == 1:
            output = output[:, None]
        if output.ndim != 2 or len(output) != len(rows) or output.dtype.kind not in "fiub":
            raise ShapeMismatch(
                f"the {self.role} must return probabilities (n, classes) of {len(rows)} rows; "
                f"got {output.dtype} of shape {output.shape}{_hint(rows, output)}"
            )
        output = output.astype("float64")
        if not np.isfinite(output).all():
            raise NonFinite(f"the {self.role} returned NaN or infinity for some of {len(rows)} rows")
        self._learn_classes(max(2, output.shape[1]))
        if not (self.ends_visibly or self._logits_checked):
            check_outputs(output, self.role, are_logits=self.is_logits)
            self._logits_checked = self.is_logits and len(output) >= ENOUGH
        if self.is_logits:
            return log_softmax_of(output)
        output = np.concatenate([1 - output, output], axis=1) if output.shape[1] == 1 else output
        return log_softmax_of(np.log(np.clip(output, PROBABILITY_FLOOR, 1.0)))

    def _learn_classes(self, found: int) -> None:
        if self.classes and found != self.classes:
            raise ShapeMismatch(f"the {self.role} has {self.classes} classes; an answer has {found}")
        self.classes = found


def _hint(rows: Rows, output: npt.NDArray[Any]) -> str:
    """What may be wrong if there is an answer for each column of a table and not for each row."""
    if not rows.is_table or output.shape[:1] != (rows.raw.shape[1],):
        return ""
    first = str(rows.raw.columns[0])
    return f", as many as there are columns: a classifier of texts takes one column, such as X[{first!r}]"


def log_softmax_of(logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Log-probabilities of logits, in NumPy; one column counts as the second of two classes."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), "float32")


def in_log_space(output: Tensor, is_logits: bool) -> Tensor:
    """Log-probabilities `(n, classes)`, float32, of what a model returned; one output counts as two classes."""
    output = ops.cast(output, "float32")
    if len(output.shape) == 1:
        output = ops.expand_dims(output, -1)
    if output.shape[-1] == 1:
        output = ops.concatenate([ops.zeros_like(output) if is_logits else 1.0 - output, output], axis=-1)
    return log_softmax(output) if is_logits else log_probabilities(output)


def agreed(known: Layout | None, given: Layout | None, role: str) -> Layout:
    """The layout that a model knows of itself, or else the one given; they must not contradict each other."""
    if known is None:
        if given is None:
            raise ShapeMismatch(f"the {role} does not know the shape of its input: pass input_shape=")
        return given
    if given is not None and not compatible(known, given):
        raise ShapeMismatch(
            f"the {role} must take inputs of shape {describe_layout(given)}; it takes {describe_layout(known)}"
        )
    return known


def settle(layout: Layout, run: Any, role: str, floating: str = "float32") -> tuple[Layout, Any]:
    """Find out what types of numbers a model takes: `(layout, what it returned for one row of zeros)`.

    Whole numbers are given as floating-point ones, as images are; where the model does not take these, as whole ones,
    as tokens are.

    Args:
        layout: the rows' own.
        run: `a batch of tensors -> output`.
        role: what to call the model in error messages.
        floating: the type that the model computes with.

    Raises:
        WrongType: it is a table with columns, or the model takes rows of no type.
    """
    check_arrays(layout, role)
    whole = current().whole
    as_floats = mapped(lambda field: Field(field.shape, floating), layout)
    as_whole = mapped(
        lambda field: Field(
            field.shape, whole if field.dtype is None or np.dtype(field.dtype).kind in "iub" else floating
        ),
        layout,
    )
    failure: Exception | None = None
    for candidate in [as_floats] + ([as_whole] if as_whole != as_floats else []):
        try:
            return candidate, run(probe(candidate))
        except DemurError:  # what it returned is wrong, and not what it was given
            raise
        except Exception as error:  # whatever it is that the user's model does not like
            failure = failure or error
    raise ShapeMismatch(
        f"the {role} does not take inputs of shape {describe_layout(layout)}: {type(failure).__name__}: "
        f"{str(failure).strip().splitlines()[0] if str(failure).strip() else ''}"
    ) from failure


def digest_of(arrays: Iterable[Any]) -> str:
    """The SHA-256 of arrays: their shapes, types and values, in order."""
    digest = hashlib.sha256()
    for found in arrays:
        array = np.asarray(found)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_arrays(layout: Layout, role: str) -> None:
    """Raise WrongType if rows are a table with columns or texts, which a network does not take."""
    if isinstance(layout, Columns):
        raise WrongType(f"the {role} takes arrays, not a table with columns: X.to_numpy()")
    if isinstance(layout, Text):
        raise WrongType(
            f"the {role} takes arrays, not texts: pass a function from texts to probabilities in its place, such as "
            "lambda texts: model.predict(tokenize(texts))"
        )
