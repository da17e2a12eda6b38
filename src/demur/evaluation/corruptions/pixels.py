"""What image corruptions have in common: colours, lengths, blurs, and pixels moved."""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.evaluation.corruptions.draws import Draws, Numbers
from demur.evaluation.corruptions.images import Images
from demur.extras import extra


def scale(x: Images) -> float:
    """How many pixels of these images are as long as one pixel of a 32-pixel image."""
    return float(min(x.shape[1:3]) / 32)


def grey(x: Images) -> Images:
    """Luminance: `(n, height, width, 1)`."""
    if x.shape[-1] == 1:
        return x
    return np.asarray(0.299 * x[..., :1] + 0.587 * x[..., 1:2] + 0.114 * x[..., 2:], "float32")


def ndimage() -> Any:
    """SciPy's image filters."""
    with extra("scipy", "evaluate"):
        import scipy.ndimage
    return scipy.ndimage


def blurred(x: npt.NDArray[Any], sigma: float) -> Any:
    """Gaussian blur of rows and columns; `sigma` in pixels."""
    return ndimage().gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def along(x: Numbers, positions: npt.NDArray[np.floating], axis: int) -> Numbers:
    """Values at fractional positions along one axis, the same for every row; beyond the edge, the value at the edge."""
    last = x.shape[axis] - 1
    low = np.floor(positions).clip(0, last).astype(int)
    share = np.asarray((positions - low).clip(0, 1), "float32").reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    near, far = np.take(x, low, axis), np.take(x, np.minimum(low + 1, last), axis)
    return np.asarray(near + share * (far - near))


def resized(x: Numbers, height: int, width: int) -> Numbers:
    """Images of another size, corner on corner."""
    x = along(x, np.linspace(0, x.shape[1] - 1, height), 1)
    return along(x, np.linspace(0, x.shape[2] - 1, width), 2)


def zoomed(x: Numbers, factor: float) -> Numbers:
    """Images enlarged about their centre and cropped."""
    for axis in (1, 2):
        centre = (x.shape[axis] - 1) / 2
        x = along(x, centre + (np.arange(x.shape[axis]) - centre) / factor, axis)
    return x


def sampled(x: Numbers, down: Numbers, right: Numbers) -> Numbers:
    """Images as seen from so many pixels lower and to the right, `(n, height, width)` or what broadcasts to that."""
    n, height, width, _ = x.shape
    y = (np.arange(height, dtype="float32")[:, None] + down).clip(0, height - 1)
    z = (np.arange(width, dtype="float32") + right).clip(0, width - 1)
    top, left = np.floor(y).astype(int), np.floor(z).astype(int)
    bottom, end = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    y_share, z_share = (y - top)[..., None], (z - left)[..., None]
    row = np.arange(n)[:, None, None]
    upper = x[row, top, left] * (1 - z_share) + x[row, top, end] * z_share
    lower = x[row, bottom, left] * (1 - z_share) + x[row, bottom, end] * z_share
    return np.asarray(upper * (1 - y_share) + lower * y_share)


def smeared(x: Numbers, angle: Numbers, length: float) -> Numbers:
    """Images smeared evenly along lines of a length in pixels, at angles `(n, 1, 1)` in radians from the horizontal."""
    steps = 1 + 2 * int(np.ceil(length / 2))
    total = np.zeros_like(x)
    for step in np.linspace(-length / 2, length / 2, steps, dtype="float32"):
        total += sampled(x, step * np.sin(angle), step * np.cos(angle))
    return np.asarray(total / np.float32(steps))


def clouds(draws: Draws, decay: float, height: int, width: int) -> Numbers:
    """Fractal noise in [0, 1], `(n, height, width, 1)`: each octave twice as fine and `decay` times as faint."""
    total = np.zeros((draws.rows, height, width, 1), "float32")
    cells, strength = 2, 1.0
    while cells <= min(height, width) // 2:
        total += np.float32(strength) * resized(draws.uniform(cells + 1, cells + 1, 1), height, width)
        cells, strength = 2 * cells, strength / decay
    total -= total.min((1, 2), keepdims=True)
    return np.asarray(total / total.max((1, 2), keepdims=True))
