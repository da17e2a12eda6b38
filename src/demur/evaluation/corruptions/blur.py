"""Blurs: what a lens, a pane of glass or a movement does to an image.

Lengths are in pixels of a 32-pixel image, and some have a part of this image's own pixels added, so that tiny images
change too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from demur.evaluation.corruptions.draws import Draws
from demur.evaluation.corruptions.images import Images, blurred, corruption, ndimage, scale
from demur.evaluation.corruptions.warping import sampled, smeared, zoomed


@corruption("defocus blur", (0.2, 0.5, 0.9, 1.3, 1.7), grey=(0.3, 0.6, 1, 1.5, 2))
def defocus_blur(x: Images, radius: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Spread each pixel over a disc: out of focus."""
    return ndimage().convolve(x, disc(0.5 + radius * scale(x))[None, :, :, None], mode="nearest")


@corruption("glass blur", (0.3, 0.5, 0.7, 0.95, 1.2), grey=(0.5, 0.8, 1.1, 1.5, 2))
def glass_blur(x: Images, reach: float, draws: Draws) -> Any:
    """Take each pixel from somewhere near: as behind frosted glass."""
    reach = 0.25 + reach * scale(x)
    down, right = (draws.uniform(*x.shape[1:3], low=-reach, high=reach) for _ in range(2))
    return blurred(sampled(x, down, right), reach / 4)


@corruption("motion blur", (2, 3, 4, 5.5, 7), grey=(3, 4, 5, 6.5, 8))
def motion_blur(x: Images, length: float, draws: Draws) -> Any:
    """Smear along a line within 45 degrees of the horizontal: a moving camera."""
    return smeared(x, draws.uniform(1, 1, low=-np.pi / 4, high=np.pi / 4), length * scale(x))


@corruption("zoom blur", (1.06, 1.11, 1.16, 1.21, 1.26))
def zoom_blur(x: Images, farthest: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Average over enlargements: a camera moving towards the scene."""
    return np.mean([zoomed(x, factor) for factor in np.linspace(1, farthest, 11)], axis=0)


@corruption("gaussian blur", (0.05, 0.25, 0.35, 0.45, 0.65), grey=(0.25, 0.45, 0.7, 1, 1.3))
def gaussian_blur(x: Images, sigma: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Spread each pixel by a normal distribution."""
    return blurred(x, 0.35 + sigma * scale(x))


def disc(radius: float) -> npt.NDArray[np.float32]:
    """A round kernel that sums to one; pixels at its edge count by how far they are within."""
    reach = int(np.ceil(radius))
    distance = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1])
    kernel = np.clip(radius + 0.5 - distance, 0, 1)
    return np.asarray(kernel / kernel.sum(), "float32")
