"""Noise: what a sensor adds to an image."""

from typing import Any

import numpy as np

from demur.evaluation.corruptions.draws import Draws
from demur.evaluation.corruptions.images import Images, corruption


@corruption(
    "gaussian noise",
    (0.04, 0.06, 0.08, 0.09, 0.10),
    grey=(0.06, 0.1, 0.15, 0.21, 0.28),
    large=(0.08, 0.12, 0.18, 0.26, 0.38),
)
def gaussian_noise(x: Images, deviation: float, draws: Draws) -> Any:
    """Add noise: as in low light."""
    return x + np.float32(deviation) * draws.normal(*x.shape[1:])


@corruption("shot noise", (500, 250, 100, 75, 50), grey=(60, 25, 12, 5, 3), large=(60, 25, 12, 5, 3))
def shot_noise(x: Images, photons: float, draws: Draws) -> Any:
    """Count photons, so many where the image is white."""
    return draws.poisson(x.clip(0, 1) * np.float32(photons)) / np.float32(photons)


@corruption(
    "impulse noise",
    (0.01, 0.02, 0.03, 0.05, 0.07),
    grey=(0.02, 0.04, 0.07, 0.11, 0.16),
    large=(0.03, 0.06, 0.09, 0.17, 0.27),
)
def impulse_noise(x: Images, share: float, draws: Draws) -> Any:
    """Set a share of the values to black or white: salt and pepper, as of bit errors."""
    drawn = draws.uniform(*x.shape[1:])
    return np.where(drawn < share / 2, 0, np.where(drawn > 1 - share / 2, 1, x))


@corruption(
    "speckle noise", (0.06, 0.1, 0.12, 0.16, 0.2), grey=(0.15, 0.2, 0.35, 0.45, 0.6), large=(0.15, 0.2, 0.35, 0.45, 0.6)
)
def speckle_noise(x: Images, deviation: float, draws: Draws) -> Any:
    """Add noise in proportion to the image."""
    return x + x * np.float32(deviation) * draws.normal(*x.shape[1:])
