"""When a study ends, and how it is left."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Memory
from protege.search import Front, Search, Trial
from protege.search.coordinator import Coordinator
from protege.search.engines import Done
from protege.search.engines.worker import Worker
from protege.search.evaluating import Evaluation
from protege.search.stopping import ASKED_TO_LEAVE, GAIN, Stopping, leaving, without_gain
from protege.search.study import Ledger, read_study
from protege.spaces import Architecture, BadInput, Ends, First, Teacher
from tests.search.toys import NARROW, PLAIN, WIDE, retention, toy
from tests.study_files import write_study

volumes = st.lists(st.floats(0, 1), max_size=12)


@given(volumes)
def test_gain_is_counted_from_the_best_before(found: list[float]) -> None:
    best, last = 0.0, 0
    for number, volume in enumerate(found, 1):
        if volume / (1 + GAIN) > best and volume > best:
            best, last = volume, number
    # between the two ways to compute it a rounding error may lie
    near = any(abs(a - b * (1 + GAIN)) < 1e-12 for a in found for b in found if b)
    assert near or without_gain(found) == len(found) - last


def test_small_gains_count_once_they_add_up() -> None:
    creeping = [0.5 * (1 + 0.4 * GAIN) ** step for step in range(7)]
    assert [without_gain(creeping[:count]) for count in range(1, 8)] == [0, 1, 2, 0, 1, 2, 0]


@given(volumes, st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 10), st.floats(0, 900))
def test_whatever_comes_first_ends_it(
    found: list[float], trials: int, patience: int, minutes: float, seconds: float
) -> None:
    stopping = Stopping(trials, minutes, patience)
    over = bool(found) and seconds >= 60 * minutes
    ends = len(found) >= trials or over or without_gain(found) >= patience
    assert bool(stopping.reason(found, seconds)) == ends


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"trials": 0}, "trials=0"),
        ({"trials": 3, "minutes": -1.0}, r"minutes=-1\.0"),
        ({"trials": 3, "minutes": float("nan")}, "minutes=nan"),
        ({"trials": 3, "patience": 0}, "patience=0"),
    ],
)
def test_no_bound_is_below_one(given: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"{named}: expected a number above 0"):
        Stopping(**given)


def plain(folder: Path, teacher: Teacher) -> Search:
    """A search of 61 students that trains none."""
    space = replace(WIDE, layer_policy=Ends(), width_policy=First(), healing="none")
    return toy(folder, teacher=teacher, space=space, objectives=[Memory()])


def test_a_study_ends_when_there_is_nothing_to_gain(folder: Path, teacher: Teacher) -> None:
    # the smallest student comes third, and nothing needs less memory
    front = plain(folder, teacher).run(trials=30, patience=4)
    assert len(front.trials) == 3 + 4
    assert front.about["ended"] == "the last 4 trials gained no hypervolume"
    again = plain(folder, teacher).run(trials=30, patience=4)
    assert again.trials == front.trials


def test_a_study_ends_when_its_time_is_over(folder: Path, teacher: Teacher) -> None:
    front = plain(folder, teacher).run(trials=5, minutes=1e-9)
    assert len(front.trials) == 1
    assert front.about["ended"] == "1e-09 minutes are over"
    assert len(plain(folder, teacher).run(trials=5, minutes=60).trials) == 5


def test_a_study_of_a_small_space_ends_when_all_of_it_was_tried(
    folder: Path, teacher: Teacher
) -> None:
    front = toy(folder, teacher=teacher, space=NARROW).run(trials=30)
    assert len(front.trials) == 9
    assert front.about["ended"] == "all 9 students of the space were tried"


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int, times: int = 1) -> None:
    """Press Ctrl-C so many times when that trial is under way."""
    done = Worker._done

    def pressed(self: Worker, evaluation: Evaluation) -> Done:
        if evaluation.number == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return done(self, evaluation)

    monkeypatch.setattr(Worker, "_done", pressed)


def test_ctrl_c_once_finishes_what_runs(
    folder: Path,
    teacher: Teacher,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupting(monkeypatch, at=4)
    front = toy(folder, teacher=teacher).run(trials=8)
    assert [trial.number for trial in front.trials] == [0, 1, 2, 3, 4]
    assert front.about["ended"] == ASKED_TO_LEAVE
    assert "protege: leaving when this trial is finished; Ctrl-C again leaves now" in (
        capsys.readouterr().err
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_twice_leaves_now(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupting(patch, at=4, times=2)
        with pytest.raises(KeyboardInterrupt):
            toy(folder, teacher=teacher).run(trials=8)
    assert len(Front.read(folder).trials) == 4
    trials = toy(folder, teacher=teacher).run(trials=8).trials
    assert [trial.number for trial in trials] == [*range(8)]
    assert len({trial.key for trial in trials}) == 8


def test_ctrl_c_while_the_first_are_looked_at_trains_none_of_them(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives = [Memory(), retention(steps=9)]
    ask = Ledger.ask

    def pressed(self: Ledger) -> tuple[int, Architecture]:
        found = ask(self)
        if found[0] == 3:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Ledger, "ask", pressed)
    front = toy(folder, teacher=teacher, space=WIDE, objectives=objectives).run(trials=12)
    assert [trial.number for trial in front.trials] == [0]
    asked = [t for t in read_study(f"sqlite:///{folder}/study.db").trials if "key" in t.user_attrs]
    assert len(asked) == 4


def test_before_the_first_trial_there_is_nothing_to_return(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Coordinator.go_on

    def pressed(self: Coordinator, stopping: Any, leave: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return go_on(self, stopping, leave)

    monkeypatch.setattr(Coordinator, "go_on", pressed)
    with pytest.raises(KeyboardInterrupt):
        toy(folder, teacher=teacher).run(trials=3)


def test_in_another_thread_signals_are_left_as_they_are(folder: Path, teacher: Teacher) -> None:
    found: list[Trial] = []
    search = toy(folder, teacher=teacher, objectives=[Memory()], space=PLAIN)
    thread = threading.Thread(target=lambda: found.extend(search.run(trials=2).trials))
    thread.start()
    thread.join()
    assert len(found) == 2


def test_a_block_that_is_left_by_an_error_gives_the_signal_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), leaving():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_at_the_command_line_ctrl_c_ends_with_a_report_and_its_own_code(tmp_path: Path) -> None:
    study = write_study(tmp_path, steps=40)
    command = [sys.executable, "-m", "protege.search.cli", "run", str(study), "--trials", "30"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not has_finished_one(tmp_path / "run"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"It ended because {ASKED_TO_LEAVE}." in output
    assert "every finished trial is kept, the same line goes on" in errors
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    assert 1 <= len(Front.read(tmp_path / "run").trials) < 30


def has_finished_one(run: Path) -> bool:
    return any(run.glob("artifacts/trial-*"))
