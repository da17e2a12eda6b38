"""Whether gradients reach a companion that learns through the classifier: checked once, before training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from demur.backends import current
from demur.backends.divergence import Tensor
from demur.errors import NoGradients
from demur.rows.layout import UNKNOWN_SIZE, Field, Layout, describe_layout, flat, mapped

ROWS = 16
"""Rows that are looked at."""
INSTEAD = "use ModelDistillation(model=...), which needs no gradients through the classifier"


def is_floating(field: Field) -> bool:
    """Whether an array holds floating-point numbers, as the classifier takes it."""
    return (field.dtype or "float32").startswith(("float", "bfloat"))


def check_takes_floats(layout: Layout, name: str) -> None:
    """Raise NoGradients where all that the classifier takes are whole numbers: pixels as bytes, or tokens.

    Args:
        layout: of the classifier's rows.
        name: what the companion is called.
    """
    fields = flat(layout)
    if not any(is_floating(field) for field in fields):
        types = ", ".join(dict.fromkeys(str(field.dtype) for field in fields))
        raise NoGradients(
            f"the classifier takes whole numbers ({types}), {describe_layout(layout)}, and no gradient goes through "
            f"them to the {name}: {INSTEAD}"
        )


def check_gradient_path(read: Callable[[Any], list[Tensor]], x: Any, redrawn: Any, layout: Layout, name: str) -> None:
    """Raise NoGradients unless the classifier's answers change smoothly with its inputs.

    Where a classifier rounds its input, takes its argmax, detaches it or leaves the framework, JAX trains with
    gradients of zero and says nothing, and the others fail with messages of their own. A gradient that differs from
    zero anywhere is enough: at the companion's output, at the rows themselves, or between the two.

    Args:
        read: a batch of the classifier's rows to log-probabilities `(n, classes)` of each view.
        x: a few rows, as tensors in the layout's structure.
        redrawn: what the untrained companion makes of them.
        layout: of the classifier's rows.
        name: what the companion is called.
    """
    reason = ""
    for share in (1.0, 0.0, 0.5):
        start = [share * ops.cast(r, "float32") + (1 - share) * ops.cast(f, "float32") for r, f in _pairs(redrawn, x)]
        for place, field in enumerate(flat(layout)):
            if is_floating(field):
                try:
                    if _changes(read, start, place, layout):
                        return
                except Exception as error:  # whatever the framework says where it cannot differentiate
                    said = str(error).strip() or "no reason"
                    reason = f" ({type(error).__name__}: {said.splitlines()[0][:120]})"
    raise NoGradients(
        f"no gradient goes through the classifier to the {name}, which would learn nothing: the classifier rounds its "
        f"input, takes an argmax, detaches it, or computes outside of {current().name}{reason}. Leave that "
        f"out, or {INSTEAD}"
    )


def made_up(layout: Layout) -> Any:
    """A few random rows: for a stream, from which no batch shall be drawn just for this check."""
    rng = np.random.default_rng(0)

    def of(field: Field) -> npt.NDArray[Any]:
        shape = [ROWS, *(UNKNOWN_SIZE if size is None else size for size in field.shape)]
        values = rng.normal(0.5, 0.5, shape) if is_floating(field) else np.zeros(shape)
        return values.astype(field.dtype or "float32")

    return mapped(of, layout)


def _pairs(first: Any, second: Any) -> list[tuple[Any, Any]]:
    return list(zip(flat(first), flat(second), strict=True))


def _changes(read: Callable[[Any], list[Tensor]], start: list[Tensor], place: int, layout: Layout) -> bool:
    """Whether the log-probabilities have a gradient by one of the arrays."""

    def total(changed: Tensor) -> Tensor:
        arrays = [changed if i == place else part for i, part in enumerate(start)]
        views = read(_structured(arrays, layout))
        # Their plain sum may be constant, as logits that are centred make it.
        return sum(ops.sum(view * ops.cast(1 + ops.arange(view.shape[-1]), view.dtype)) for view in views)

    with current().stateless():
        gradient = current().input_gradient(total, start[place])
    if gradient is None:
        return False
    found = np.asarray(ops.convert_to_numpy(gradient), "float32")
    return bool((np.isfinite(found) & (found != 0)).any())


def _structured(arrays: list[Any], layout: Layout) -> Any:
    if isinstance(layout, dict):
        return dict(zip(layout, arrays, strict=True))
    return tuple(arrays) if isinstance(layout, tuple) else arrays[0]
