"""Untrusted text as it may be shown: without control characters, and in HTML tables."""

from collections.abc import Iterable, Mapping
from html import escape

_CELL = "padding: 2px 10px; text-align: left; border-bottom: 1px solid rgba(127, 127, 127, 0.35)"
"""Style of a cell: no colour of its own, so that it fits light and dark pages."""

_TABLE = "border-collapse: collapse; font-size: 90%; color: inherit"


def printable(text: object, keep: str = "") -> str:
    r"""Escape characters that are not printable, as ``\x1b`` or ``\u202e``.

    Args:
        text: The text.
        keep: Characters that stay as they are.
    """
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def html_table(rows: Iterable[Mapping[str, object]], title: str = "") -> str:
    """Return a small HTML table, as notebooks show it; all text in it is escaped.

    Args:
        rows: The rows by column; the columns are those of the first row.
        title: A line above the table.
    """
    listed = list(rows)
    columns = list(listed[0]) if listed else []
    head = "".join(f'<th style="{_CELL}">{_html(name)}</th>' for name in columns)
    lines = [
        "".join(f'<td style="{_CELL}">{_html(row[name])}</td>' for name in columns)
        for row in listed
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    caption = f'<div style="margin: 4px 0"><b>{_html(title)}</b></div>' if title else ""
    return (
        f"{caption}"
        f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _html(text: object) -> str:
    return escape(printable(text))
