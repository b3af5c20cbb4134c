import io

import pytest
from rich.console import Console

from protege.search.progress import bar, watching


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
