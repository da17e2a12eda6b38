"""What an object says of itself: a text for a terminal, and the same as HTML for a notebook."""

import html
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

WIDTH = 80
"""Columns of a terminal that everybody has."""
FIXED = "\N{NO-BREAK SPACE}"
LABEL = 'style="text-align:left;vertical-align:top;white-space:nowrap;font-weight:600;padding:2px 16px 2px 0"'
TEXT = 'style="text-align:left;vertical-align:top;padding:2px 0"'
NUMBER = 'style="text-align:right;padding:2px 0 2px 16px;font-variant-numeric:tabular-nums"'


class Summary(str):
    """A text that a prompt shows as printed text and a notebook shows as HTML.

    Examples:
        >>> Summary("a guard", {"threshold": "0.3 nats"}, ["It flags little."])
        a guard
          threshold  0.3 nats
        - It flags little.
        >>> "0.3 nats" in Summary("a guard", {"threshold": "0.3 nats"})
        True
    """

    html: str

    def __new__(
        cls,
        title: str,
        facts: Mapping[str, str] | None = None,
        sentences: Iterable[str] = (),
        table: Sequence[Sequence[str]] = (),
    ) -> Self:
        """Write the text and the HTML.

        Args:
            title: one line.
            facts: texts by their labels.
            sentences: shown as a list.
            table: the heads of its columns, and its rows; the first column is text, the others are numbers.
        """
        facts, sentences = facts or {}, list(sentences)
        lines = title.splitlines() if "\n" in title else _wrapped(title, "", "  ")  # of some lines where it is a copy
        width = max(map(len, facts), default=0)
        for label, text in facts.items():
            lines += _wrapped(text, f"  {label:<{width}}  ", " " * (width + 4))
        for sentence in sentences:
            lines += _wrapped(sentence, "- ", "  ")
        made = super().__new__(cls, "\n".join([*lines, *_table(table)]))
        made.html = _html(title, facts, sentences, table)
        return made

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html


class Readable:
    """What prints as its summary, in a terminal and in a notebook, and whose `dir` shows what users need."""

    _inside: ClassVar[Collection[str]] = ()
    """Names without an underscore that are not for users."""
    _elsewhere: ClassVar[Mapping[str, str]] = {}
    """Names that other libraries have, and what does the same here."""

    def __dir__(self) -> list[str]:
        """The names that users need."""
        return sorted(name for name in super().__dir__() if not name.startswith("_") and name not in self._inside)

    if not TYPE_CHECKING:  # for which every attribute would be there

        def __getattr__(self, name: str) -> Any:
            if name in self._elsewhere:
                said = self._elsewhere[name]
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}: {said}")
            return super().__getattribute__(name)  # raises the error that led here

    def summary(self) -> Summary:
        """What there is to know, in some lines: a string, which a notebook shows as HTML."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary().html


def _wrapped(text: str, first: str, others: str) -> list[str]:
    whole = re.sub(r"(?<=\d) (?=%|[kMG]?B\b|nats\b)", FIXED, text)  # no line ends between a number and its unit
    lines = textwrap.wrap(whole, WIDTH, initial_indent=first, subsequent_indent=others)
    return [line.replace(FIXED, " ") for line in lines] or [first.rstrip()]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be; names that are too long are cut."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths))
    cut = [row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "\N{HORIZONTAL ELLIPSIS}" for row in rows]
    lines = [
        "  ".join(
            [f"{name:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for name, row in zip(cut, rows, strict=True)
    ]
    return ["", *(f"  {line}".rstrip() for line in lines)]


def _html(title: str, facts: Mapping[str, str], sentences: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """The same with its own alignment, and with the colours of the page around it."""
    parts = [f"<p><strong>{html.escape(title)}</strong></p>"]
    if facts:
        parts.append(_html_table(facts.items(), LABEL, TEXT))
    if sentences:
        parts.append(f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in sentences)}</ul>")
    if table:
        parts.append(_html_table(table, TEXT, NUMBER))
    return f'<div style="max-width:52rem">{"".join(parts)}</div>'


def _html_table(rows: Iterable[Sequence[str]], first: str, others: str) -> str:
    """A table whose first column has one style, and whose other columns have another."""
    cells = [[(first if i == 0 else others, html.escape(cell)) for i, cell in enumerate(row)] for row in rows]
    lines = ("".join(f"<td {style}>{text}</td>" for style, text in row) for row in cells)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
