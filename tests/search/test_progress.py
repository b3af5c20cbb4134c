import io
import time
from dataclasses import dataclass

import pytest
from rich.console import Console

from protege.search.display.live import POLL_S, REDRAW_S
from protege.search.display.output import Level, Output, showing
from protege.search.display.study import StudyProgress
from protege.search.progress import (
    PhaseTimes,
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


BAR = "\u2501" * 14 + "\u2500" * 10
"""Three of five trials."""


def go_on(line: StudyProgress, clock: Clock) -> None:
    """Go from two trials of five to three."""
    line.done(2, 1, 0.1)
    line.run(2, "4x24-h6-f40")
    clock.now += 20
    line.doing("distil 2/2", 2)
    line.ended(2, "4x24-h6-f40-t2: on the front")
    line.done(3, 2, 0.4321)
    line.run(3, "3x24-h6-f40")
    line.doing("distil 1/2", 3)


def test_a_terminal_sees_trials_front_hypervolume_and_the_running_trial() -> None:
    shown, clock = console(terminal=True), Clock()
    with bar("toy", 5, shown, clock) as line:
        go_on(line, clock)
        rows = [row.plain for row in line.rows(120)]
    assert rows[0] == f"toy {BAR}  3/5  about 40 s left  0:20  front 2  HV 0.432"
    assert rows[1:] == ["  trial 3  3x24-h6-f40  distil 1/2  0:00"]
    assert "toy: 4x24-h6-f40-t2: on the front" in printed(shown)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
def test_what_is_left_out_of_a_narrow_terminal_is_not_the_phase(width: int) -> None:
    line, clock = StudyProgress("minilm-cpu", 26, clock=Clock()), Clock()
    line.clock = line.pace.clock = clock
    line.done(0, 0, 0.0)
    line.run(14, "12+12x1024-h16-f4096")
    clock.now = 3000.0
    line.doing("weight reconstruction", 14)
    head, row = (row.plain for row in line.rows(width))
    assert len(head) <= width
    assert "0/26" in head
    assert "trial 14" in row
    assert "weight reconstruction" in row or width < 40
    assert len(row) <= width or width < 50


def test_a_file_gets_a_line_every_thirty_seconds() -> None:
    shown, clock = console(terminal=False), Clock()
    with bar("toy", 5, shown, clock) as line:
        clock.now = 31
        assert lines(shown, 1) == ["toy: 0/5 trials, 0:31; starting"]
        go_on(line, clock)
        time.sleep(3 * POLL_S)  # in which the clock stands still
        clock.now = 62
        last = lines(shown, 3)[1:]
        clock.now = 80
    figures = "front 2, HV 0.432, 1:02, about 29 s left"
    assert last == [
        "toy: 4x24-h6-f40-t2: on the front",
        f"toy: 3/5 trials, {figures}; trial 3 3x24-h6-f40: distil 1/2",
    ]
    assert len(lines(shown, 3)) == 3


def test_a_phase_of_the_study_is_shown_while_no_trial_runs() -> None:
    line = StudyProgress("toy", 5, clock=Clock())
    line.doing("measuring importance 45%, about 2 min left")
    assert line.rows(80)[1].plain == "  measuring importance 45%, about 2 min left"
    line.run(0, "4x24")
    line.wait(0)
    assert line.rows(80)[1].plain == "  measuring importance 45%, about 2 min left"


def test_verbose_shows_each_phase_once_and_each_rung() -> None:
    shown = console(terminal=False)
    with showing(Output(Level.VERBOSE)), bar("toy", 5, shown, Clock()) as line:
        line.doing("measuring importance 3%")
        line.doing("measuring importance 90%")
        line.run(0, "4x24")
        line.doing("other", 0)
        for step in range(3):
            line.doing(f"distil {step}/2", 0)
        line.rung(0, 2, {"retention": 0.98765})
    assert printed(shown).splitlines() == [
        "toy: measuring importance",
        "toy: trial 0 4x24: distil",
        "toy: trial 0 4x24: rung at step 2, retention 0.9877",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_shows_no_progress(*, terminal: bool) -> None:
    shown, clock = console(terminal=terminal), Clock()
    with showing(Output(Level.QUIET)):
        with bar("toy", 5, shown, clock) as line:
            go_on(line, clock)
            line.tell("a note")
        with watching("heads", shown, clock) as announce:
            announce("ranking heads")
    assert printed(shown) == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_sees_at_once_what_is_going_on_and_a_file_later(*, terminal: bool) -> None:
    shown, clock = console(terminal=terminal), Clock()
    with watching("heads", shown, clock) as announce:
        announce("ranking heads by ablation 50%")
        assert terminal or printed(shown) == ""
        time.sleep(2 * REDRAW_S)
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
        line.run(0, name)
        line.doing(f"distil {name}", 0)
        line.ended(1, f"ended {name}")
        time.sleep(2 * REDRAW_S)
    with watching("heads", console) as announce:
        announce(f"timing {name}")
        time.sleep(2 * REDRAW_S)
    shown = output.getvalue()
    plain = name.encode("unicode_escape").decode("ascii")
    for told in (plain, f"distil {plain}", f"ended {plain}", f"timing {plain}"):
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
