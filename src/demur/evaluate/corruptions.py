"""Corruptions of images in [0, 1], at five severities."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.data import check_rows
from demur.errors import InvalidSetting, MissingExtra

Images = npt.NDArray[np.float32]


def corrupt(X: npt.NDArray[Any], *, name: str, severity: int, seed: int = 0) -> Images:
    """Corrupt images.

    Args:
        X: `(n, height, width, channels)`, in [0, 1].
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the noise.

    Returns:
        The corrupted images, float32 in [0, 1].

    Raises:
        InvalidSetting: no corruption of that name, or another severity.
        WrongType, ShapeMismatch, EmptyInput, NonFinite: these are no images.
        MissingExtra: SciPy is not installed and the blur needs it.
    """
    if name not in CORRUPTIONS:
        raise InvalidSetting(f"a corruption is one of {', '.join(CORRUPTIONS)}; got {name!r}")
    if severity not in range(1, 6):
        raise InvalidSetting(f"severity is a whole number from 1 to 5; got {severity!r}")
    images = check_rows(X, (None, None, None)).astype("float32")
    changed: Images = CORRUPTIONS[name](images, severity / 5, np.random.default_rng(seed))
    return np.asarray(changed.clip(0, 1), "float32")


def _gaussian_noise(x: Images, strength: float, rng: np.random.Generator) -> Any:
    return x + rng.normal(0, 0.5 * strength, x.shape)


def _impulse_noise(x: Images, strength: float, rng: np.random.Generator) -> Any:
    struck = rng.random(x.shape) < 0.4 * strength
    return np.where(struck, rng.integers(0, 2, x.shape), x)


def _blur(x: Images, strength: float, rng: np.random.Generator) -> Any:  # noqa: ARG001 - one signature for all
    try:
        from scipy.ndimage import gaussian_filter
    except ImportError as error:
        raise MissingExtra("scipy", "demo") from error
    # In units of the image, so that 8 and 28 pixels a side are blurred alike.
    sigma = 0.15 * strength * min(x.shape[1:3])
    return gaussian_filter(x, (0, sigma, sigma, 0))


def _contrast(x: Images, strength: float, rng: np.random.Generator) -> Any:  # noqa: ARG001 - one signature for all
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + (1 - 0.9 * strength) * (x - mean)


CORRUPTIONS: dict[str, Callable[[Images, float, np.random.Generator], Any]] = {
    "gaussian noise": _gaussian_noise,
    "impulse noise": _impulse_noise,
    "blur": _blur,
    "contrast": _contrast,
}
