"""Images, as files hold them, as arrays."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from demur.extras import extra
from demur.rows.layout import Shape, fits

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""What Pillow calls so many channels."""


def decoded(
    contents: bytes, shape: Shape, channels_first: bool, faults: dict[int, str], number: int
) -> npt.NDArray[Any] | None:
    """An encoded image (PNG, JPEG, WebP, ...) as uint8 numbers of a shape; never resized. None, and a fault, if none.

    Args:
        contents: of the file.
        shape: `(height, width, channels)`, `(channels, height, width)` or `(height, width)`.
        channels_first: which.
        faults: where to say, by `number`, what is wrong with it.
        number: of the image.

    Raises:
        MissingExtra: Pillow is not installed.
    """
    with extra("pillow", "batch"):
        from PIL import Image
    channels = 1 if len(shape) == 2 else shape[0 if channels_first else -1]
    try:
        with Image.open(io.BytesIO(contents)) as image:
            pixels = np.asarray(image.convert(MODES.get(channels or 3, "RGB")))
    except Exception as error:  # Pillow's decoders raise what they like, even SyntaxError
        faults[number] = f"it is no image that can be read: {type(error).__name__}"
        return None
    if len(shape) == 3:
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        pixels = np.moveaxis(pixels, -1, 0) if channels_first else pixels
    if not fits(pixels.shape, shape):
        faults[number] = f"its shape is {pixels.shape}; the classifier takes {shape}"
        return None
    return pixels
