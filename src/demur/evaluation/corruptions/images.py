"""Corruptions of images in [0, 1]: the registry, and `corrupt`, which applies one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from demur.errors import InvalidSetting, ShapeMismatch
from demur.evaluation.corruptions.draws import Draws, check_asked
from demur.extensions import Registry
from demur.rows.rows import check_array

Images: TypeAlias = npt.NDArray[np.float32]
"""`(n, height, width, channels)`, in [0, 1]."""

Change: TypeAlias = Callable[[Images, Any, Draws], Any]
"""`images, level (a number or several), draws -> changed images`, which may go a little beyond [0, 1]."""

SMALLEST = 8
"""Fewest pixels a side."""
LARGE = 64
"""Pixels a side from which images in colour count as large."""
PIXELS_TOGETHER = 2**19
"""Pixels changed at once, so that a large data set takes little memory."""


class Corruption(NamedTuple):
    """One corruption and its five levels."""

    change: Change
    levels: Sequence[Any]
    """Of small images in colour."""
    grey: Sequence[Any]
    """Of images in one channel."""
    large: Sequence[Any]
    """Of large images in colour."""

    def level(self, shape: tuple[int, ...], severity: int) -> Any:
        """The level for images of a shape `(height, width, channels)`."""
        height, width, channels = shape
        in_colour = self.large if min(height, width) >= LARGE else self.levels
        return (self.grey if channels == 1 else in_colour)[severity - 1]


CORRUPTIONS: Registry[Corruption] = Registry(
    "demur.corruptions", "demur.evaluation.corruptions", definition=lambda corruption: corruption.change
)
"""Image corruptions by name: the nineteen of Hendrycks and Dietterich (2019, arXiv:1903.12261), and your own."""


def corruption(
    name: str, levels: Sequence[Any], grey: Sequence[Any] | None = None, large: Sequence[Any] | None = None
) -> Callable[[Change], Change]:
    """Add a function to `CORRUPTIONS`.

    Args:
        name: in plain words.
        levels: what the function takes at severities 1 to 5.
        grey: the same for images in one channel, such as digits, which need more than photographs; `levels` by default.
        large: the same for large images in colour, which need more than small images; `levels` by default.
    """

    def add(change: Change) -> Change:
        CORRUPTIONS[name] = Corruption(change, levels, grey or levels, large or levels)
        return change

    return add


def corrupt(X: npt.NDArray[Any], *, name: str, severity: int, seed: int = 0, start: int = 0) -> Images:
    """Corrupt images, each independently of the others.

    The corruptions of CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich, 2019, arXiv:1903.12261), written anew, so
    that figures are close to published figures, not the same. Small images in colour get the noise, light and
    compression of CIFAR-10-C, large images those of ImageNet-C. Lengths are in proportion to the image, so that images
    of 8 and of 224 pixels a side are blurred alike; snow, frost and spatter are drawn from noise, not from photographs.

    Examples:
        >>> noisy = corrupt(X_new, name="gaussian noise", severity=3, seed=0)
        >>> noisy.shape, float(noisy.min()) >= 0, float(noisy.max()) <= 1
        ((40, 8, 8, 1), True, True)

    Args:
        X: `(n, height, width, channels)`, in [0, 1], at least 8 pixels a side, 1 or 3 channels.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of what is random.
        start: number of the first image: parts of a data set are corrupted as the whole data set is.

    Returns:
        The corrupted images, float32 in [0, 1].

    Raises:
        InvalidSetting: no corruption of that name, another severity, or pixels outside [0, 1].
        WrongType, ShapeMismatch, EmptyInput, NonFinite: X holds no such images.
        MissingExtra: the corruption needs SciPy or Pillow, which is not installed.
    """
    name = check_asked(name, CORRUPTIONS, severity, seed, start)
    images = _checked(X)
    found = CORRUPTIONS[name]
    level = found.level(images.shape[1:], severity)
    results, size = [], max(1, PIXELS_TOGETHER // int(np.prod(images.shape[1:])))
    for batch in (images[i : i + size] for i in range(0, len(images), size)):
        draws = Draws(name, seed, start, len(batch))
        results.append(np.clip(found.change(batch.astype("float32"), level, draws), 0, 1).astype("float32"))
        start += len(batch)
    return np.concatenate(results)


def _checked(X: Any) -> npt.NDArray[Any]:
    images = check_array(X, (None, None, None))
    height, width, channels = images.shape[1:]
    if channels not in (1, 3):
        raise ShapeMismatch(
            f"images must have 1 or 3 channels, the last axis; got {images.shape}: put their axes in that order"
        )
    if min(height, width) < SMALLEST:
        raise ShapeMismatch(f"images must have at least {SMALLEST} pixels a side; got {images.shape}")
    low, high = float(images.min()), float(images.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise InvalidSetting(f"images must be in [0, 1]; got values from {low:g} to {high:g}: rescale them")
    return images
