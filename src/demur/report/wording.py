"""How numbers stand in a text: shares, counts, plurals."""

from collections.abc import Sequence

from demur.metrics import Estimate

NONE = "\N{EN DASH}"
"""Stands where there is no figure."""


def percentage(share: float) -> str:
    """A share in per cent, to a decimal place: what is not all is never 100.0, and what is not nothing never 0.0."""
    text = f"{100 * share:.1f}"
    if text == "100.0" and share < 1:
        return ">99.9"
    return "<0.1" if text == "0.0" and share > 0 else text


def percent(share: float) -> str:
    """A share in a sentence: "5 %", "99.6 %"."""
    return f"{percentage(share).removesuffix('.0')} %"


def interval(estimate: Estimate) -> str:
    """The bounds of a share: "3 to 8.1 %"."""
    return f"{percentage(estimate.low).removesuffix('.0')} to {percent(estimate.high)}"


def count(n: int, noun: str) -> str:
    """A number of things: "no inputs", "1 input", "1,200 inputs"."""
    return f"{n or 'no'} {noun}s" if n == 0 else f"{n:,} {noun}{'' if n == 1 else 's'}"


def among(k: int, n: int, noun: str) -> str:
    """Some of a number of things: "none of 12 inputs", "3 of 12 inputs", "all 12 inputs", "the only input"."""
    if k == n:
        return f"the only {noun}" if n == 1 else f"all {count(n, noun)}"
    return f"{f'{k:,}' if k else 'none'} of {count(n, noun)}"


def be(k: int) -> str:
    """The verb of `among`: one or none "is", several "are"."""
    return "is" if k <= 1 else "are"


def listed(words: Sequence[str], most: int = 3, noun: str = "other") -> str:
    """Words as a sentence lists them, and how many more there are: "a, b and 2 others"."""
    shown = list(words[:most])
    more = len(words) - len(shown)
    if more:
        shown.append(count(more, noun))
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def number(value: float | None) -> str:
    """A number to three digits, without an exponent where it can be read without one."""
    if value is None:
        return NONE
    text = "beyond all others" if abs(value) > 1e30 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")
