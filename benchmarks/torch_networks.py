"""The networks of networks.py in PyTorch, on channels-first tensors, and demur's ready autoencoders by hand."""

import functools
import itertools
from collections.abc import Callable

import torch
from torch import nn


class Same(nn.Sequential):
    """A convolution of kernel 2 that keeps the sides, as Keras pads it: at the bottom and at the right."""

    def __init__(self, taken: int, made: int) -> None:
        super().__init__(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(taken, made, 2))


class Unit(nn.Module):
    """Two convolutions with batch normalisation and what goes round them (He et al., 2016, arXiv:1512.03385)."""

    def __init__(self, taken: int, made: int) -> None:
        super().__init__()
        stride = made // taken
        self.one, self.two = (
            nn.Conv2d(taken, made, 3, stride, 1, bias=False),
            nn.Conv2d(made, made, 3, 1, 1, bias=False),
        )
        self.norm_one, self.norm_two = nn.BatchNorm2d(made), nn.BatchNorm2d(made)
        self.round = nn.Conv2d(taken, made, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both ways."""
        y = self.norm_two(self.two(torch.relu(self.norm_one(self.one(x)))))
        return torch.relu(y + self.round(x))


def mlp() -> nn.Module:
    """A classifier of rows of 30 features, to logits."""
    return dense(30, 128, 128, 5)


def cnn28() -> nn.Module:
    """A small CNN for 1x28x28, to logits."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 49, 10),
    )  # fmt: skip


def resnet20() -> nn.Module:
    """ResNet-20 for 3x32x32, to logits."""
    stages = [(16, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *(Unit(taken, made) for taken, made in stages),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def published(channels: int, side: int, filters: tuple[int, ...]) -> nn.Module:
    """The published autoencoder: strided convolutions, a dense code, transposed convolutions."""
    low, turned = side // 2 ** len(filters), filters[::-1]
    steps = zip((channels, *filters), filters, strict=False)
    back = zip(turned, (*turned[1:], channels), strict=True)
    down = [layer for a, b in steps for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
    up = [layer for a, b in back for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())][:-1]
    return nn.Sequential(*down, *through_a_code(filters[-1], low), *up)


def ready(channels: int, side: int, filters: tuple[int, ...]) -> nn.Module:
    """What `demur.nets.autoencoder` builds for images, by hand: it grows by sub-pixel convolution."""
    low, turned = side // 2 ** len(filters), filters[::-1]
    steps = zip((channels, *filters), filters, strict=False)
    back = zip((turned[0], *turned), turned, strict=False)
    down = [layer for a, b in steps for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
    up = [layer for a, b in back for layer in (Same(a, 4 * b), nn.ReLU(), nn.PixelShuffle(2))]
    return nn.Sequential(*down, *through_a_code(filters[-1], low), *up, nn.Conv2d(turned[-1], channels, 3, padding=1))


def through_a_code(filters: int, side: int, code: int = 40) -> list[nn.Module]:
    """Feature maps through a dense code and back."""
    size = filters * side * side
    return [
        nn.Flatten(),
        nn.Linear(size, code),
        nn.Linear(code, size),
        nn.ReLU(),
        nn.Unflatten(1, (filters, side, side)),
    ]


def dense(*sizes: int) -> nn.Module:
    """Dense layers with ReLU between them."""
    return nn.Sequential(*[layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())][:-1])


Make = Callable[[], nn.Module]
NETWORKS: dict[str, tuple[tuple[int, ...], Make, Make, Make]] = {
    "MLP, 30 features": (
        (30,),
        mlp,
        functools.partial(dense, 30, 128, 16, 128, 30),
        functools.partial(dense, 30, 120, 60, 18, 60, 120, 30),
    ),
    "CNN, 1x28x28": (
        (1, 28, 28),
        cnn28,
        functools.partial(published, 1, 28, (32, 64)),
        functools.partial(ready, 1, 28, (32, 64)),
    ),
    "ResNet-20, 3x32x32": (
        (3, 32, 32),
        resnet20,
        functools.partial(published, 3, 32, (32, 64, 256)),
        functools.partial(ready, 3, 32, (32, 64, 256)),
    ),
}
"""The shape of a row, a classifier, an autoencoder, and by hand the autoencoder that demur makes by itself."""
