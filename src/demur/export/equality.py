"""Whether a file answers as the detector does."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends import mapped_deep
from demur.backends.divergence import sharpen
from demur.errors import ExportDiffers
from demur.export.network import in_float32, layers_of, row_inputs
from demur.guards.decision import correction, decide
from demur.guards.description import OPINION, REFERENCE
from demur.guards.results import Scored
from demur.network.live import LiveGuard
from demur.onnx.runtime import ExportedGuard
from demur.rows.layout import Field, Layout, mapped
from demur.rows.rows import Rows

TOLERANCE = 1e-5
"""How far scores and probabilities may be from the detector's; relative, for scores above 1."""
SIZES = (1, 7)
"""Numbers of rows that are compared at once."""


def made_up_rows(layout: Layout) -> Rows:
    """Random rows of a layout, from 0 to 1."""
    rng = np.random.default_rng(0)

    def some(field: Field) -> npt.NDArray[Any]:
        shape = [max(SIZES), *(4 if size is None else size for size in field.shape)]
        dtype = np.dtype(field.dtype or "float32")
        return rng.random(shape).astype(dtype) if dtype.kind == "f" else rng.integers(0, 2, shape).astype(dtype)

    return Rows(mapped(some, layout), layout)


class Asked(NamedTuple):
    """The same rows, and answers of the classifier, as inputs of a file and of the detector's graph."""

    feed: dict[str, npt.NDArray[Any]]
    """The inputs of the file."""
    inputs: Any
    """The inputs of the detector's graph."""


def asked(detector: LiveGuard, guard: ExportedGuard, rows: Rows | None) -> Asked:
    """Make the inputs of a file and of the detector's graph, of made-up rows and answers where `rows` is None."""
    layout, classifier = detector.companion_layout, detector.classifier
    if rows is None and (classifier.in_graph or not guard.takes_reference):
        rows = made_up_rows(guard.layout)
    if rows is None:
        x = made_up_rows(layout)
        p = np.random.default_rng(1).dirichlet(np.ones(classifier.classes), max(SIZES)).clip(1e-6)
        log_p = np.log(p / p.sum(axis=1, keepdims=True)).astype("float32")
    elif classifier.in_graph:
        return Asked(guard.feed(rows.raw), Rows(rows.raw, classifier.layout).cast().raw)
    else:
        x = detector.route.companion_rows(rows).cast()
        log_p = classifier.log_probabilities(rows)
    answer = log_p if classifier.is_logits else np.exp(log_p)
    if rows is None:
        feed = {**dict(zip(row_inputs(layout), x.arrays, strict=True)), REFERENCE: answer}
    else:
        given = rows if guard.layout == classifier.layout else x
        feed = guard.feed(given.raw, answer if guard.takes_reference else None)
    reference = sharpen(ops.convert_to_tensor(log_p), detector.temperature)
    return Asked(feed, {"x": x.raw, "reference": [ops.convert_to_numpy(reference)]})


def check_same(detector: LiveGuard, guard: ExportedGuard, rows: Rows | None) -> float:
    """Compare a file with the detector, at two batch sizes, in float32; on made-up rows where `rows` is None.

    Returns:
        The largest difference of a score or a probability; relative, for scores above 1.

    Raises:
        ExportDiffers: the difference is above `TOLERANCE`, or the file decides otherwise.
    """
    largest = 0.0
    given = asked(detector, guard, rows)
    n = len(next(iter(given.feed.values())))
    with in_float32(layers_of(detector)) as is_mixed:
        for size in sorted({min(size, n) for size in SIZES}):
            some = Asked(*mapped_deep(lambda array: array[:size], tuple(given)))  # noqa: B023
            if detector.classifier.in_graph and not is_mixed:
                expected = live_scores(detector, some.inputs)
            else:  # the graph is not compiled for such inputs
                outputs = detector.graph(mapped_deep(ops.convert_to_tensor, some.inputs), training=False)
                expected = tuple(ops.convert_to_numpy(output) for output in outputs)
            found = guard.run(some.feed, tuple(guard.outputs))
            for name, live in zip(("instance_score", *guard.compared), expected, strict=True):
                off = np.abs(found[name] - live) / np.maximum(1.0, np.abs(live))
                largest = max(largest, float(off.max()))
                if not off.max() <= TOLERANCE:
                    raise ExportDiffers(
                        f"the file's {name} is {off.max():.3g} from the detector's in a batch of {size}, and at most "
                        f"{TOLERANCE:g} is rounding: nothing was written. Another operation set (opset=) may help; "
                        "please report which layers the networks have"
                    )
            check_decisions(guard, found)
    return largest


def scored_of(found: dict[str, npt.NDArray[Any]], reference: str = REFERENCE) -> Scored:
    """The scores and classes in outputs of a guard, of which `reference` holds the classifier's probabilities."""
    score = found["instance_score"]
    y, y_opinion = (found[name].argmax(axis=1) for name in (reference, OPINION))
    return Scored(score, y, y_opinion, np.flatnonzero(~np.isfinite(score)))


def check_decisions(guard: ExportedGuard, found: dict[str, npt.NDArray[Any]]) -> None:
    """Raise ExportDiffers unless the file makes the same decisions of its scores as the detector would."""
    scored = scored_of(found, guard.compared[0])
    decided = decide(scored, guard.threshold, guard.calibration, None, 0.05)
    expected: dict[str, Any] = {**correction(scored, decided, all_predictions=True)}
    for name, values in expected.items():
        if not np.array_equal(found[name], values):
            raise ExportDiffers(f"the file's {name} is not what its scores make it: nothing was written; please report")
    if not np.allclose(found["probabilities"].sum(axis=1), 1.0, atol=1e-3):
        raise ExportDiffers("the file's probabilities do not sum to 1: nothing was written; please report")


def live_scores(detector: LiveGuard, rows: Rows) -> tuple[npt.NDArray[Any], ...]:
    """The scores of rows, and the probabilities of the classifier and of the opinion."""
    return detector.score(rows, return_predictions=True)
