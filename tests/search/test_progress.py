import io

import pytest
from rich.console import Console

from protege.search.progress import Accounting, bar, complain, say, say_table, watching


def shown(*, terminal: bool) -> str:
    """What is written while a study of five trials goes from two to three."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=160, color_system=None)
    with bar("toy", 5, console) as line:
        line.done(2, 1, 0.1)
        line.doing("distil 1/2")
        line.done(3, 2, 0.4321)
    return output.getvalue()


def test_a_terminal_sees_trials_front_hypervolume_and_what_is_going_on() -> None:
    output = shown(terminal=True)
    for part in ("toy", "3/5", "front 2", "HV 0.432", "left", "distil 1/2"):
        assert part in output


def test_a_file_gets_no_bar() -> None:
    assert shown(terminal=False).strip() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_alone_sees_what_is_going_on(*, terminal: bool) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=80, color_system=None)
    with watching("heads", console) as announce:
        announce("heads by ablation 50%")
    assert ("heads by ablation 50%" in output.getvalue()) == terminal


FOREIGN = ["a[v2]", "x[/y]", "[bold]q[/bold]", "\x1b[2J\rz", "txt\u202egpj", "\x9b5mq\n[red]"]
"""Names that are markup, or that would rewrite the terminal."""


@pytest.mark.parametrize("name", FOREIGN)
def test_a_name_is_shown_as_text_while_a_study_runs(name: str) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=200, color_system=None)
    with bar(name, 5, console) as line:
        line.doing(f"distil {name}")
    with watching("heads", console) as announce:
        announce(f"timing {name}")
    shown = output.getvalue()
    plain = name.encode("unicode_escape").decode("ascii")
    for told in (plain, f"distil {plain}", f"timing {plain}"):
        assert told in shown
    assert name.isprintable() or name not in shown


@pytest.mark.parametrize("name", FOREIGN)
def test_a_table_has_names_as_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say_table([{"model": name, f"{name} ms": 1.5}])
    shown = capsys.readouterr().out
    plain = name.encode("unicode_escape").decode("ascii")
    assert shown.count(plain) == 2
    assert shown.replace("\n", "").isprintable()


def test_what_is_printed_rewrites_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("two\nlines \x1b]0;title\x07\u2066")
    complain("no \x1b[1A[v2]\r")
    output = capsys.readouterr()
    assert output.out == "two\nlines \\x1b]0;title\\x07\\u2066\n"
    assert output.err == "no \\x1b[1A[v2]\\r\n"


def test_what_neither_measures_nor_trains_nor_evaluates_is_overhead() -> None:
    spent = Accounting({"distil": 60.0, "latency": 20.0, "evaluate": 10.0, "store": 6, "other": 4})
    assert spent.total == pytest.approx(100.0)
    assert spent.overhead == pytest.approx(0.1)


def test_a_study_that_took_no_time_has_no_overhead() -> None:
    assert Accounting({}).overhead == 0
    assert str(Accounting({})) == "Time: 0 s, 0.0% of it overhead"


def test_phases_are_listed_from_the_longest_to_the_shortest_with_their_share() -> None:
    lines = str(Accounting({"store": 1.0, "distil": 3.0})).splitlines()
    assert lines[0] == "Time: 4 s, 25.0% of it overhead"
    assert [line.split() for line in lines[1:]] == [
        ["distil", "3.0", "s", "75.0%"],
        ["store", "1.0", "s", "25.0%"],
    ]
