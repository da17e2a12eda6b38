"""The one graph of a detector, `x -> [score, reference, opinion]`, and its compiled call."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from demur import backends
from demur.backends.divergence import Tensor, length, uncertainty
from demur.backends.forks import computing
from demur.checks import is_number
from demur.errors import InvalidSetting
from demur.rows.layout import Layout, flat
from demur.rows.rows import Rows


class Opinion(NamedTuple):
    """What a companion says of a batch."""

    log_probabilities: list[Tensor]
    """Of each view, `(n, classes of the view)`; the prediction comes first."""
    reconstruction: Any = None
    """`x'`, where the companion makes one."""


class Views(NamedTuple):
    """The two halves of a detector's graph and how they are compared."""

    reference: Callable[[Tensor], list[Tensor]]
    """`x -> log-probabilities of each view`, from a classifier in the graph. Never trained."""
    opinion: Callable[[Tensor, bool], Opinion]
    """`x, training -> Opinion`, through the companion."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """What training minimises: `log reference, log opinion -> (n,)`, in nats."""
    divergence: Callable[[Tensor, Tensor], Tensor]
    """The divergence of the score: `log reference, log opinion -> (n,)`, in nats."""
    weights: Sequence[float]
    """Of each view, in the score and in the loss."""
    w_uncertainty: Any = None
    """Of the reference's own uncertainty, in the score: a number or a variable; None to leave it out."""

    def losses(self, reference: list[Tensor], opinion: list[Tensor]) -> Tensor:
        """Return the weighted sum over the views of what training minimises: `(n,)`, in nats."""
        return self._over_views(self.loss, reference, opinion)

    def score(self, reference: list[Tensor], opinion: list[Tensor]) -> Tensor:
        """Return the length of divergence and weighted uncertainty of the reference: `(n,)`, in nats.

        That is `sqrt(D^2 + (w u)^2)`: close to the larger of the two, and without its ties where one is constant.
        """
        divergence = self._over_views(self.divergence, reference, opinion)
        if self.w_uncertainty is None:
            return divergence
        return length(divergence, self.w_uncertainty * uncertainty(reference[0]))

    def _over_views(self, compare: Any, reference: list[Tensor], opinion: list[Tensor]) -> Tensor:
        terms = zip(self.weights, reference, opinion, strict=True)
        return functools.reduce(ops.add, [weight * compare(r, o) for weight, r, o in terms])


class Balance(keras.layers.Layer):  # type: ignore[misc]
    """A weight that is not trained but set, once the companion is."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", autocast=False, trainable=False, name="balance")
        self.weight = self.add_weight(shape=(), initializer="zeros", name="weight")
        self.built = True


class DetectorGraph(keras.Model):  # type: ignore[misc]
    """`x -> [score (n,), reference probabilities (n, classes), opinion probabilities (n, classes)]`.

    Args:
        views: the halves and how they are compared.
        parts: every Keras layer that `views` uses, so that saving and exporting find their weights.
    """

    def __init__(self, views: Views, parts: Sequence[Any]) -> None:
        super().__init__(dtype="float32", autocast=False, name="detector")
        self.views = views
        self.parts = list(parts)

    def call(self, x: Any) -> list[Tensor]:
        """Score a batch; the companion is in inference mode."""
        return self.judged(x, self.views.reference(x))

    def judged(self, x: Any, reference: list[Tensor]) -> list[Tensor]:
        """Score a batch whose reference, log-probabilities of each view, is known."""
        return self.explained(x, reference)[0]

    def explained(self, x: Any, reference: list[Tensor]) -> tuple[list[Tensor], Any]:
        """Score a batch as `judged` does; also return the companion's reconstruction, None if it makes none."""
        (score, *views), reconstruction = self.compared(x, reference)
        for part in [] if reconstruction is None else flat(reconstruction):
            # The classifier may hide what is wrong with its input: TensorFlow's fused ReLU turns NaN into 0.
            finite = ops.isfinite(ops.cast(part, "float32"))
            score = ops.where(ops.all(finite, axis=list(range(1, len(part.shape)))), score, np.nan)
        return [score, *views], reconstruction

    def compared(self, x: Any, reference: list[Tensor]) -> tuple[list[Tensor], Any]:
        """Score a batch as `explained` does, without looking for NaN in the reconstruction."""
        opinion, reconstruction = self.views.opinion(x, False)
        score = self.views.score(reference, opinion)
        return [score, ops.exp(reference[0]), ops.exp(opinion[0])], reconstruction


class AnsweredGraph(DetectorGraph):
    """The graph of a detector whose classifier is outside of it.

    `{"x": companion's rows, "reference": log-probabilities of each view} -> [score, reference, opinion]`.
    """

    def call(self, x: Any) -> list[Tensor]:
        """Score a batch; the companion is in inference mode."""
        return self.judged(x["x"], list(x["reference"]))


class Half(keras.layers.Layer):  # type: ignore[misc]
    """A part of a graph, with the Keras layers it uses."""

    def __init__(self, function: Callable[[Any], list[Any]], parts: Sequence[Any]) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.function, self.parts = function, list(parts)

    def call(self, x: Any) -> list[Any]:
        """Apply the function."""
        return self.function(x)


Outputs: TypeAlias = list[npt.NDArray[Any]]
Network: TypeAlias = Callable[[Rows, int], Callable[[], Outputs]]
"""A compiled network: a batch and the batch size in; out comes a function that waits for the outputs.

The batch is as it came from the caller: the network casts it, and fills it up, by itself.
"""


def compiled(network: Any, layout: Layout) -> Network:
    """Compile a Keras network for inference.

    One traced call, without `predict`'s data pipeline, which costs 40 ms a call on TensorFlow. The call starts the
    work; where the device works on its own, the caller can do something else before fetching the outputs. Calls share
    no state, so several threads may use the same one. XLA is left off for TensorFlow on a CPU, where it halves the
    speed.

    Args:
        network: a Keras layer or model.
        layout: of its rows.
    """
    start = started(network, layout)

    def run(batch: Rows, batch_size: int) -> Callable[[], Outputs]:
        n = len(batch)
        outputs = start(batch.padded(batch_size).cast().raw)
        return lambda: [ops.convert_to_numpy(output)[:n] for output in outputs]

    return run


def started(network: Any, layout: Any) -> Callable[[Any], list[Tensor]]:
    """Compile a Keras network: what comes out takes a batch, cast already, and starts the work.

    Args:
        network: a Keras layer or model.
        layout: of the batch, a structure of fields that may be nested.

    Raises:
        ForkedProcess: the process was forked from one that computes; what comes out raises it, too.
    """
    computing()
    run = backends.current().compiled(functools.partial(_flat_call, network), network, layout)

    def start(x: Any) -> list[Tensor]:
        computing()
        return run(x)

    return start


def _flat_call(network: Any, x: Any) -> list[Tensor]:
    outputs = network(x, training=False)
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


BALANCED: Literal["balanced"] = "balanced"


def balanced_or_weight(w_uncertainty: Any, score_type: str) -> float | Literal["balanced"]:
    """The weight of the classifier's own uncertainty in the score; None stands for the divergence's default.

    Raises:
        InvalidSetting: it is neither a weight, nor "balanced", nor None.
    """
    if w_uncertainty is None:
        return BALANCED if score_type == "jeffreys" else 0.0
    if isinstance(w_uncertainty, str) and w_uncertainty == BALANCED:
        return BALANCED
    if not (is_number(w_uncertainty) and float(w_uncertainty) >= 0):
        raise InvalidSetting(
            f"w_uncertainty is a finite number not below 0, {BALANCED!r} or None; got {w_uncertainty!r}"
        )
    return float(w_uncertainty)
