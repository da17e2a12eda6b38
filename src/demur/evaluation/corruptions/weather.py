"""Weather: snow, frost, fog and spatter, all made of noise. Lengths are in pixels of a 32-pixel image."""

from typing import Any

import numpy as np

from demur.evaluation.corruptions.draws import Draws, Numbers
from demur.evaluation.corruptions.images import Images, blurred, corruption, grey, scale
from demur.evaluation.corruptions.warping import clouds, resized, smeared

ICE, WATER, MUD = (0.80, 0.90, 1.0), (0.68, 0.93, 0.93), (0.25, 0.16, 0.08)
"""Red, green and blue."""


@corruption("snow", ((0.01, 0.03), (0.02, 0.06), (0.035, 0.1), (0.05, 0.13), (0.07, 0.17)))
def snow(x: Images, level: tuple[float, float], draws: Draws) -> Any:
    """Whiten the image and let streaks of snow fall over it."""
    share, whitening = level
    height, width = (round(side / max(1, scale(x))) for side in x.shape[1:3])
    falling = draws.uniform(1, 1, low=np.pi / 4, high=3 * np.pi / 4)
    flakes = np.asarray(draws.uniform(height, width, 1) < share, "float32")
    flakes = smeared(resized(flakes, *x.shape[1:3]), falling, 4 * scale(x))
    pale = np.maximum(x, 1.5 * grey(x) + 0.5)
    return x + np.float32(whitening) * (pale - x) + 2.5 * flakes


@corruption("frost", ((1, 0.2), (0.95, 0.3), (0.9, 0.4), (0.85, 0.45), (0.75, 0.5)))
def frost(x: Images, level: tuple[float, float], draws: Draws) -> Any:
    """Dim the image and lay veins of ice over it."""
    kept, ice = level
    veins = 1 - 2 * np.abs(clouds(draws, 1.3, *x.shape[1:3]) - 0.5)
    return kept * x + ice * veins**2 * coloured(ICE, x)


@corruption("fog", ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)))
def fog(x: Images, level: tuple[float, float], draws: Draws) -> Any:
    """Mix in clouds."""
    thickness, decay = level
    brightest = x.max((1, 2, 3), keepdims=True)
    foggy = x + thickness * clouds(draws, decay, *x.shape[1:3])
    return foggy * brightest / (brightest + thickness)


@corruption("spatter", ((0.08, WATER), (0.14, WATER), (0.2, WATER), (0.2, MUD), (0.3, MUD)))
def spatter(x: Images, level: tuple[float, tuple[float, float, float]], draws: Draws) -> Any:
    """Splash a share of the image: with drops of water that brighten it, or with mud that hides it."""
    share, colour = level
    drops = blurred(draws.normal(*x.shape[1:3], 1), 1.2 * scale(x))
    edge = np.quantile(drops, 1 - share, axis=(1, 2), keepdims=True)
    cover = np.clip((drops - edge) / drops.std((1, 2), keepdims=True) * 4, 0, 1)
    if colour == MUD:
        return x + cover * (coloured(MUD, x) - x)
    return x + 0.6 * cover * coloured(WATER, x)


def coloured(colour: tuple[float, float, float], x: Images) -> Numbers:
    """A colour with as many channels as the images have."""
    paint = np.asarray(colour, "float32").reshape(1, 1, 1, 3)
    return paint if x.shape[-1] == 3 else grey(paint)
