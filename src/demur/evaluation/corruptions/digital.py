"""What cameras and programs do to an image: light, colour, bending, size and compression."""

import io
from typing import Any

import numpy as np

from demur.evaluation.corruptions.draws import Draws
from demur.evaluation.corruptions.images import Images, blurred, corruption
from demur.evaluation.corruptions.warping import sampled
from demur.extras import extra


@corruption("brightness", (0.05, 0.1, 0.15, 0.2, 0.3), large=(0.1, 0.2, 0.3, 0.4, 0.5))
def brightness(x: Images, more: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Raise each pixel's brightest channel; hue and saturation stay."""
    value = x.max(-1, keepdims=True)
    brighter = np.minimum(value + np.float32(more), 1)
    return np.where(value > 0, x * (brighter / np.maximum(value, 1e-6)), brighter)


@corruption("contrast", (0.75, 0.5, 0.4, 0.3, 0.15), large=(0.4, 0.3, 0.2, 0.1, 0.05))
def contrast(x: Images, kept: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Pull each channel towards its mean."""
    mean = x.mean((1, 2), keepdims=True)
    return mean + np.float32(kept) * (x - mean)


@corruption("saturate", ((0.5, 1.2), (0.2, 1.4), (2, 1.7), (3, 2.2), (4.5, 3)))
def saturate(x: Images, level: tuple[float, float], draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Fade the colours (1, 2) or overdrive them (3 to 5). One channel has none: its bright tones burn out instead."""
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
def pixelate(x: Images, kept: float, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Make the image so much smaller, and large again."""
    for axis in (1, 2):
        x = coarse(x, max(4, int(x.shape[axis] * kept)), axis)
    return x


@corruption("jpeg compression", (80, 65, 58, 50, 40), grey=(25, 18, 15, 10, 7), large=(25, 18, 15, 10, 7))
def jpeg_compression(x: Images, quality: int, draws: Draws) -> Any:  # noqa: ARG001 - one signature for all
    """Write the image as a JPEG and read it."""
    with extra("pillow", "evaluate"):
        from PIL import Image
    results = []
    for pixels in np.round(x.clip(0, 1) * 255).astype("uint8"):
        written = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(written, "JPEG", quality=quality)
        results.append(np.asarray(Image.open(written)).reshape(pixels.shape))
    return np.stack(results).astype("float32") / 255


def coarse(x: Images, size: int, axis: int) -> Images:
    """Average over `size` equal stretches of an axis, and repeat each average over its stretch."""
    length = x.shape[axis]
    sums = np.concatenate([np.zeros_like(x.take([0], axis)), x.cumsum(axis, "float64")], axis)
    edges = np.linspace(0, length, size + 1)
    low = np.minimum(edges.astype(int), length - 1)
    share = (edges - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    at_edges = sums.take(low, axis) * (1 - share) + sums.take(low + 1, axis) * share
    means = np.diff(at_edges, axis=axis) * (size / length)
    return np.asarray(means.take(((np.arange(length) + 0.5) * size / length).astype(int), axis), "float32")
