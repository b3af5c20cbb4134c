"""Escape untrusted text for display: names, paths and messages from studies and devices.

Such text may hold terminal escape codes, line breaks, bidirectional controls, or markup.
"""

import re
import shlex
from html import escape

from protege.spaces.plain_text import printable

__all__ = ["code", "plotted", "printable", "quoted"]


def plotted(text: object, keep: str = "") -> str:
    """Escape text for Plotly and HTML; see `printable`."""
    return escape(printable(text, keep), quote=False)


def quoted(word: object) -> str:
    r"""Quote a word for a shell, as ``$'\033'`` if it has characters that are not printable."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    # octal: a hexadecimal escape would swallow digits that follow it
    return "$'" + "".join(c if c.isprintable() else _octal(c) for c in plain) + "'"


def code(text: object, *, in_table: bool = True) -> str:
    """Return text as a Markdown code span, by default one that is safe in a table cell."""
    shown = printable(text).replace("|", "\\|") if in_table else printable(text)
    if not shown:
        return "(empty)"
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    # Markdown strips one space at each end of a span
    pad = " " if shown.strip(" ") and (set("` ") & {shown[0], shown[-1]}) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def marked_down(text: object) -> str:
    r"""Return text for Markdown that is shown as it is, also in a table and where HTML is allowed.

    Every punctuation mark gets a backslash, as CommonMark allows. Line breaks become ``\n``.
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable(text))


def _octal(character: str) -> str:
    # file names encode bytes that are not UTF-8 as these surrogates
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
