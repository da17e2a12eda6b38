"""Common corruptions of images: noise, blurs, weather, and what cameras and programs do. Each is one function.

Lengths are in pixels of a 32-pixel image; some have a part of this image's own pixels added, so that tiny images change
too.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.evaluation.corruptions.draws import Draws, Numbers
from demur.evaluation.corruptions.images import Images, corruption
from demur.evaluation.corruptions.pixels import blurred, clouds, grey, ndimage, resized, sampled, scale, smeared, zoomed
from demur.extras import extra

ICE, WATER, MUD = (0.80, 0.90, 1.0), (0.68, 0.93, 0.93), (0.25, 0.16, 0.08)
"""Red, green and blue."""


@corruption("defocus blur", (0.2, 0.5, 0.9, 1.3, 1.7), grey=(0.3, 0.6, 1, 1.5, 2))
def defocus_blur(x: Images, radius: float, draws: Draws) -> Any:
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
def zoom_blur(x: Images, farthest: float, draws: Draws) -> Any:
    """Average over enlargements: a camera moving towards the scene."""
    return np.mean([zoomed(x, factor) for factor in np.linspace(1, farthest, 11)], axis=0)


@corruption("gaussian blur", (0.05, 0.25, 0.35, 0.45, 0.65), grey=(0.25, 0.45, 0.7, 1, 1.3))
def gaussian_blur(x: Images, sigma: float, draws: Draws) -> Any:
    """Spread each pixel by a normal distribution."""
    return blurred(x, 0.35 + sigma * scale(x))


@corruption("brightness", (0.05, 0.1, 0.15, 0.2, 0.3), large=(0.1, 0.2, 0.3, 0.4, 0.5))
def brightness(x: Images, more: float, draws: Draws) -> Any:
    """Raise each pixel's brightest channel; hue and saturation stay."""
    value = x.max(-1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter)


@corruption("contrast", (0.75, 0.5, 0.4, 0.3, 0.15), large=(0.4, 0.3, 0.2, 0.1, 0.05))
def contrast(x: Images, kept: float, draws: Draws) -> Any:
    """Pull each channel towards its mean."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + np.float32(kept) * (x - mean)


@corruption("saturate", ((0.5, 1.2), (0.2, 1.4), (2, 1.7), (3, 2.2), (4.5, 3)))
def saturate(x: Images, level: tuple[float, float], draws: Draws) -> Any:
    """Fade the colours (1, 2) or overdrive them (3 to 5). In one channel, bright tones burn out instead."""
    factor, gain = level
    if x.shape[-1] == 1:
        return x * np.float32(gain)
    value = x.max(-1, keepdims=True)
    saturation = 1 - x.min(-1, keepdims=True) / np.maximum(value, 1e-6)
    # There is no more colour than a saturation of one.
    return value - (value - x) * np.minimum(np.float32(factor), 1 / np.maximum(saturation, 1e-6))


@corruption("elastic transform", (0.5, 0.8, 1.1, 1.4, 1.8))
def elastic_transform(x: Images, reach: float, draws: Draws) -> Any:
    """Stretch and shrink parts of the image."""
    side = min(x.shape[1:3])
    bent = blurred(draws.normal(*x.shape[1:3], 2), side / 12)
    bent *= np.float32(reach * side / 32) / bent.std((1, 2), keepdims=True)
    return sampled(x, bent[..., 0], bent[..., 1])


@corruption(
    "pixelate", (0.95, 0.9, 0.85, 0.75, 0.65), grey=(0.9, 0.75, 0.65, 0.5, 0.4), large=(0.6, 0.5, 0.4, 0.3, 0.25)
)
def pixelate(x: Images, kept: float, draws: Draws) -> Any:
    """Make the image so much smaller, and large again."""
    for axis in (1, 2):
        x = coarse(x, max(4, int(x.shape[axis] * kept)), axis)
    return x


@corruption("jpeg compression", (80, 65, 58, 50, 40), grey=(25, 18, 15, 10, 7), large=(25, 18, 15, 10, 7))
def jpeg_compression(x: Images, quality: int, draws: Draws) -> Any:
    """Write the image as a JPEG and read it."""
    with extra("pillow", "evaluate"):
        from PIL import Image
    results = []
    for pixels in np.round(x.clip(0, 1) * 255).astype("uint8"):
        written = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(written, "JPEG", quality=quality)
        results.append(np.asarray(Image.open(written)).reshape(pixels.shape))
    return np.stack(results).astype("float32") / 255


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


def disc(radius: float) -> npt.NDArray[np.float32]:
    """A round kernel that sums to one; a pixel at the edge counts by the share inside."""
    reach = int(np.ceil(radius))
    distance = np.hypot(*np.ogrid[-reach : reach + 1, -reach : reach + 1])
    kernel = np.clip(radius + 0.5 - distance, 0, 1)
    return np.asarray(kernel / kernel.sum(), "float32")


def coarse(x: Images, size: int, axis: int) -> Images:
    """Average over `size` equal stretches of an axis; each pixel becomes the average of the stretch."""
    length = x.shape[axis]
    sums = np.concatenate([np.zeros_like(x.take([0], axis)), x.cumsum(axis, "float64")], axis)
    edges = np.linspace(0, length, size + 1)
    low = np.minimum(edges.astype(int), length - 1)
    share = (edges - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    at_edges = sums.take(low, axis) * (1 - share) + sums.take(low + 1, axis) * share
    means = np.diff(at_edges, axis=axis) * (size / length)
    return np.asarray(means.take(((np.arange(length) + 0.5) * size / length).astype(int), axis), "float32")


def coloured(colour: tuple[float, float, float], x: Images) -> Numbers:
    """A colour with as many channels as the images have."""
    paint = np.asarray(colour, "float32").reshape(1, 1, 1, 3)
    return paint if x.shape[-1] == 3 else grey(paint)
