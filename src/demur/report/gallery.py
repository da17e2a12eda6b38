"""The gallery of a report: what was changed, by how much, and what the guard made of it."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from demur.calibration.words import number
from demur.evaluation.result import Evaluation, Example
from demur.extras import extra

Image = npt.NDArray[np.float32]

LARGEST = 160
"""Pixels a side; larger images are made smaller, so that a page stays small."""
FEATURES = 6
"""Features of a row that are shown: those changed most."""
BLUE, WHITE, RED = (0x21, 0x66, 0xAC), (0xF7, 0xF7, 0xF7), (0xB2, 0x18, 0x2B)


class Picture(NamedTuple):
    """One image of a card."""

    caption: str
    uri: str | None
    """`data:image/png;base64,...`; None where there is no image."""
    said: str | None = None
    """The name of the class that the image was given."""
    right: bool | None = None


class Card(NamedTuple):
    """One example: four images, or the features that were changed most."""

    pictures: list[Picture]
    features: list[tuple[str, ...]]
    """Name, difference, original, changed and, where there is one, reconstruction."""
    label: str
    score: str
    flagged: bool
    title: str
    """The threat, where the heading does not name it."""
    is_colour: bool


def gallery(evaluation: Evaluation) -> list[tuple[str, str, list[Card]]]:
    """The examples of each attack, and the examples of all corruptions together: heading, knowledge and cards."""
    names = evaluation.class_names
    shown = [threat for threat in evaluation.threats if threat.examples]
    attacks = [threat for threat in shown if threat.knowledge != "corruption"]
    found = [(t.title, t.knowledge, [_card(example, names) for example in t.examples]) for t in attacks]
    corrupted = [_card(one, names, t.title) for t in shown if t.knowledge == "corruption" for one in t.examples]
    return found + ([("Corruptions", "an example of each", corrupted)] if corrupted else [])


def _card(example: Example, names: Sequence[str], title: str = "") -> Card:
    is_image = example.original.ndim == 3 and example.original.shape[-1] in {1, 3}

    def name(kind: int) -> str:
        return str(names[kind]) if 0 <= kind < len(names) else str(kind)

    given = (example.before, example.after, None, example.opinion)
    last = "opinion" if example.reconstruction is None else "reconstruction"
    blank: list[tuple[str, str | None]] = [(caption, None) for caption in ("original", "changed", "change", last)]
    return Card(
        pictures=[
            Picture(caption, uri) if kind is None else Picture(caption, uri, name(kind), kind == example.label)
            for kind, (caption, uri) in zip(given, _drawn(example) if is_image else blank, strict=True)
        ],
        features=[] if is_image else _features(example),
        label=name(example.label),
        score=number(example.score),
        flagged=example.flagged,
        title=title,
        is_colour=is_image and example.original.shape[-1] == 3,
    )


def _drawn(example: Example) -> list[tuple[str, str | None]]:
    """Captions and images of the four pictures."""
    low, high = value_range(example.original, example.changed)
    difference = example.changed - example.original
    largest = float(np.abs(difference).max())
    factor = (high - low) / largest if largest else 0.0
    times = f"{factor:.0f}" if factor >= 10 else f"{factor:.2g}"
    enlargement = f"change \N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{times}" if largest else "no change"
    last = example.reconstruction
    return [
        ("original", png(_bytes(example.original, low, high))),
        ("changed", png(_bytes(example.changed, low, high))),
        (enlargement, png(enlarged(difference))),
        ("opinion", None) if last is None else ("reconstruction", png(_bytes(last, low, high))),
    ]


def value_range(*images: Image) -> tuple[float, float]:
    """The values of black and white: 0 and 1, or 0 and 255, where the images look like it; else least and largest."""
    every = np.concatenate([image.ravel() for image in images])
    low, high = float(every.min()), float(every.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and 16 < high <= 255:
        return 0.0, 255.0
    return low, high if high > low else low + 1.0


def enlarged(difference: Image) -> npt.NDArray[np.uint8]:
    """A signed difference, scaled until the largest magnitude fills the range.

    One channel: blue is less, red is more, white is no change. Three: grey is no change.
    """
    scaled = difference / max(float(np.abs(difference).max()), 1e-30)
    if scaled.shape[-1] == 3:
        return _bytes(scaled, -1, 1)
    white, end = np.array(WHITE), np.where(scaled < 0, BLUE, RED)
    return np.asarray((white + np.abs(scaled) * (end - white)).round(), "uint8")


def png(pixels: npt.NDArray[np.uint8]) -> str:
    """An image as a `data:` address."""
    with extra("pillow", "report"):
        from PIL import Image as pillow  # noqa: N813
    image = pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _bytes(image: Image, low: float, high: float) -> npt.NDArray[np.uint8]:
    shares = np.nan_to_num((image.astype("float64") - low) / (high - low))
    return (255 * np.clip(shares, 0, 1)).round().astype("uint8")


def _features(example: Example) -> list[tuple[str, ...]]:
    columns = [example.changed - example.original, example.original, example.changed]
    columns += [] if example.reconstruction is None else [example.reconstruction]
    most = np.argsort(-np.abs(columns[0]), axis=None, kind="stable")[:FEATURES]
    places = [tuple(map(int, np.unravel_index(flat, columns[0].shape))) for flat in most]
    return [(", ".join(map(str, at)), *(number(float(column[at])) for column in columns)) for at in places]
