"""Foreign text made safe to show: names, paths and messages that a study or a device brought along.

Such text may hold escape codes that rewrite the terminal, line breaks that forge a line, controls
that turn the direction of what follows, or the markup of the place it is shown in.
"""

import re
import shlex
from html import escape


def printable(text: object, keep: str = "") -> str:
    r"""Write out each character that is not printable as an escape, such as ``\x1b`` or ``\u202e``.

    Args:
        text: What is to be shown.
        keep: Characters that stay as they are, such as a line break of our own.
    """
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in str(text))


def plotted(text: object, keep: str = "") -> str:
    """Return text that Plotly and HTML show as it is; see `printable`."""
    return escape(printable(text, keep), quote=False)


def quoted(word: object) -> str:
    r"""Quote a word for a shell; as ``$'\033'`` where it has characters that are not printable."""
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    # octal of the bytes: a hexadecimal escape would take the digits that follow it as its own
    return "$'" + "".join(c if c.isprintable() else _octal(c) for c in plain) + "'"


def code(text: object) -> str:
    """Return text as a code span of Markdown; it is safe in the cell of a table too."""
    shown = printable(text).replace("|", "\\|")
    if not shown:
        return "(empty)"
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    # a space is taken off both ends of a span, so that text may begin or end with a backtick
    pad = " " if shown.strip(" ") and (set("` ") & {shown[0], shown[-1]}) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _octal(character: str) -> str:
    # file names carry bytes that are no UTF-8 as these surrogates
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
