import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search.records.plain import code, marked_down, plotted, printable, quoted

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
"""What a name can hold."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\x1b[31mred", "x\\x1b[31mred"),
        ("a\rb\nc", "a\\rb\\nc"),
        ("txt\u202egpj.exe", "txt\\u202egpj.exe"),
        ("\u2066hidden\u2069\u200b", "\\u2066hidden\\u2069\\u200b"),
        ("\x9b31m\x85\u2028", "\\x9b31m\\x85\\u2028"),
        ("half \ud800", "half \\ud800"),
        ("a[v2] x[/y] naïve 日本", "a[v2] x[/y] naïve 日本"),
    ],
)
def test_what_is_not_printable_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_foreign_text_is_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert not {"<", ">"} & set(plotted(text))


def test_every_name_is_one_word_of_a_shell() -> None:
    words = ["a b", "x\x1b'[1m\\n", "\u202egpj", "$(rm -rf ~)`", "it's\n", "-e", "é\udcff", "*?#"]
    line = "for w in " + " ".join(map(quoted, words)) + "; do printf '%s|' \"$w\"; done"
    assert line.isprintable()
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert said == b"".join(w.encode("utf-8", "surrogateescape") + b"|" for w in words)


@given(TEXT)
def test_a_code_span_ends_where_the_text_does(text: str) -> None:
    span = code(text)
    assert span.isprintable()
    fence = len(span) - len(span.lstrip("`"))
    inside = span[fence:-fence] if fence else span
    assert "`" * fence not in inside.replace("`" * (fence + 1), "") or not fence
    assert "|" not in span.replace("\\|", "")


def test_a_code_span_has_a_fence_that_its_text_has_not() -> None:
    assert code("plain") == "`plain`"
    assert code("a`b``c") == "```a`b``c```"
    assert code("`x") == "`` `x ``"
    assert code("<img src=x>\n# h") == "`<img src=x>\\n# h`"


@given(st.text())
def test_every_mark_of_markdown_is_escaped_and_nothing_else_is_changed(text: str) -> None:
    found = marked_down(text)
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", found) == printable(text)
    assert not set("<>&`*_$|[]()#!~\\") & set(re.sub(r"\\[!-/:-@\[-`{-~]", "", found))
