"""How numbers and names stand in a text: shares, counts, plurals, lists."""

import math
from collections.abc import Iterable, Sequence

from demur.calibration.metrics import Estimate

NONE = "\N{EN DASH}"
"""Stands for a figure that is missing."""
INFINITE = 1e30
"""Larger numbers stand for infinity, which the file of an evaluation cannot hold."""
AT_SEVERITY = " at severity "
"""Between the name of a corruption and its severity."""


def percentage(share: float) -> str:
    """A share in per cent, to a decimal place: ">99.9" if it is not quite 1, and "<0.1" if it is not quite 0."""
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
    """A part of a number of things: "none of 12 inputs", "3 of 12 inputs", "all 12 inputs", "the only input"."""
    if k == n:
        return f"the only {noun}" if n == 1 else f"all {count(n, noun)}"
    return f"{f'{k:,}' if k else 'none'} of {count(n, noun)}"


def listed(words: Sequence[str], most: int = 3, noun: str = "other") -> str:
    """Words as a sentence lists them, and how many more there are: "a, b and 2 others"."""
    shown = list(words[:most])
    more = len(words) - len(shown)
    if more:
        shown.append(count(more, noun))
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def grouped(omissions: Iterable[tuple[str, str]], most: int = 3) -> str:
    """Names of what was left out, by reason, in one line; a corruption of several severities counts once.

    Examples:
        >>> grouped([("energy", "no logits"), ("fog at severity 1", "no time"), ("fog at severity 2", "no time")])
        'energy (no logits); fog (no time)'

    Args:
        omissions: names with reasons.
        most: so many names are written out for each reason; the others are counted.
    """
    names: dict[str, dict[str, None]] = {}
    for name, reason in omissions:
        names.setdefault(reason, {})[name.partition(AT_SEVERITY)[0]] = None
    return "; ".join(f"{listed(list(some), most)} ({reason})" for reason, some in names.items())


def in_short(note: str, most: int = 3) -> str:
    """A note without the full stop; a list at the end is cut as `grouped` cuts it.

    Examples:
        >>> in_short("Time was up before these: fog at severity 1; fog at severity 2; snow; frost; zoom blur; PGD.")
        'time was up before these: fog, snow, frost and 2 others'
    """
    head, colon, tail = note.strip().rstrip(".").rpartition(": ")
    names = list(dict.fromkeys(name.partition(AT_SEVERITY)[0] for name in tail.split("; " if "; " in tail else ", ")))
    text = f"{head}{colon}{listed(names, most) if colon and len(names) > most + 1 else tail}"
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def number(value: float | None, digits: int = 3) -> str:
    """A number to some digits, without an exponent where it can be read without one; infinity as its sign."""
    if value is None:
        return NONE
    size = abs(value)
    text = "\N{INFINITY}" if size > INFINITE else f"{size:.{digits}g}"
    if "e" in text and 1e-4 <= size < 1e6:
        text = f"{size:,.0f}"
    return f"{'' if value >= 0 or math.isnan(value) else chr(0x2212)}{text}"


def size(n_bytes: float) -> str:
    """A number of bytes: "812 B", "3.4 kB", "1.2 MB", "0.9 GB"."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"
