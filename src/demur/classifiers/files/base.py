"""What is asked of a file of any format."""

from typing import NamedTuple


class Asked(NamedTuple):
    """What the caller says of a file.

    Attributes:
        role: what to call the model in error messages.
        module: what makes a PyTorch module without its weights, "package.module:function".
        trust: names of types that may be made from a `.skops` file.
    """

    role: str = "classifier"
    module: str | None = None
    trust: tuple[str, ...] = ()
