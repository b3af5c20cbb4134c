import io
import time
from dataclasses import dataclass

import pytest
from rich.console import Console

from protege.search.progress import (
    POLL_S,
    PhaseTimes,
    StudyProgress,
    bar,
    complain,
    say,
    say_table,
    watching,
)


@dataclass
class Clock:
    """A clock that goes forward when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)


def printed(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def lines(shown: Console, count: int) -> list[str]:
    """The lines on a console, as soon as there are so many."""
    until = time.monotonic() + 20
    while printed(shown).count("\n") < count and time.monotonic() < until:
        time.sleep(0.01)
    return printed(shown).splitlines()


def go_on(line: StudyProgress, clock: Clock) -> None:
    """Go from two trials of five to three."""
    line.done(2, 1, 0.1)
    clock.now += 20
    line.doing("distil 1/2")
    line.done(3, 2, 0.4321)


def test_a_terminal_sees_trials_front_hypervolume_and_what_is_going_on() -> None:
    shown, clock = console(terminal=True), Clock()
    with bar("toy", 5, shown, clock) as line:
        go_on(line, clock)
    for part in ("toy", "3/5", "front 2", "HV 0.432", "about 40 s left", "distil 1/2"):
        assert part in printed(shown)


def test_a_file_gets_a_line_every_thirty_seconds() -> None:
    shown, clock = console(terminal=False), Clock()
    with bar("toy", 5, shown, clock) as line:
        clock.now = 31
        assert lines(shown, 1) == ["toy: 0/5 trials, starting"]
        go_on(line, clock)
        time.sleep(3 * POLL_S)  # in which the clock stands still
        clock.now = 62
        last = lines(shown, 2)[1:]
        clock.now = 80
    assert last == ["toy: 3/5 trials, front 2, HV 0.432, about 62 s left, distil 1/2"]
    assert len(lines(shown, 2)) == 2


def test_a_study_whose_trials_are_all_done_has_no_time_left() -> None:
    clock = Clock()
    with bar("toy", 5, console(terminal=False), clock) as line:
        for trials in (2, 5):
            line.done(trials, 1, 0.1)
            clock.now += 20
        assert line.left() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_at_once_what_is_going_on_and_a_file_later(*, terminal: bool) -> None:
    shown, clock = console(terminal=terminal), Clock()
    with watching("heads", shown, clock) as announce:
        announce("ranking heads by ablation 50%")
        assert terminal or printed(shown) == ""
        clock.now = 31
        assert terminal or lines(shown, 1) == ["ranking heads by ablation 50%"]
    assert "ranking heads by ablation 50%" in printed(shown)


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
    spent = PhaseTimes({"distil": 60.0, "latency": 20.0, "evaluate": 10.0, "store": 6, "other": 4})
    assert spent.total == pytest.approx(100.0)
    assert spent.overhead == pytest.approx(0.1)


def test_a_study_that_took_no_time_has_no_overhead() -> None:
    assert PhaseTimes({}).overhead == 0
    assert str(PhaseTimes({})) == "Time: 0 s, 0.0% of it overhead"


def test_phases_are_listed_from_the_longest_to_the_shortest_with_their_share() -> None:
    lines = str(PhaseTimes({"store": 1.0, "distil": 3.0})).splitlines()
    assert lines[0] == "Time: 4 s, 25.0% of it overhead"
    assert [line.split() for line in lines[1:]] == [
        ["distil", "3.0", "s", "75.0%"],
        ["store", "1.0", "s", "25.0%"],
    ]
