"""When a study ends, and how it is left."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Memory
from protege.search import Front, Search, Trial
from protege.search.cli.main import guarded
from protege.search.engines.engine import StudyTask
from protege.search.engines.events import Announce, Job
from protege.search.engines.local import SerialEngine
from protege.search.progress import complain, say
from protege.search.running.stopping import (
    CTRL_C_REASON,
    GAIN,
    GRACE_S,
    Interrupted,
    Stopping,
    StopRequest,
    exit_code,
    interruptible,
    stop_requests,
    without_gain,
)
from protege.search.storage.attributes import ABOUT, study_record
from protege.search.storage.storage import read_study
from protege.spaces import BadInput, Ends, First, Teacher
from tests.search.toys import PLAIN, WIDE, distillation, toy
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
    ("given", "refused"),
    [
        ({"trials": 0}, "trials=0: expected a whole number above 0"),
        ({"trials": 3, "minutes": -1.0}, r"minutes=-1\.0: expected a number above 0"),
        ({"trials": 3, "minutes": float("nan")}, "minutes=nan: expected a number above 0"),
        ({"trials": 3, "patience": 0}, "patience=0: expected a whole number above 0"),
    ],
)
def test_no_bound_is_below_one(given: dict[str, Any], refused: str) -> None:
    with pytest.raises(BadInput, match=refused):
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


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Pressing(SerialEngine):
    """An engine that sends this process a signal in the midst of a trial.

    Attributes:
        at: The trial.
        times: How often the signal is sent.
        number: The signal.
        doing: What the trial is at then.
        handlers: The handlers of all signals at that moment.
        is_closed: Whether the engine was closed.
    """

    at: int
    times: int = 1
    number: int = signal.SIGINT
    doing: str = "distil 1/2"
    handlers: list[Any] = field(default_factory=list, init=False)
    is_closed: bool = field(default=False, init=False)
    _now: int = field(default=-1, init=False)

    def start(self, task: StudyTask, announce: Announce) -> None:
        def heard(what: str, trial: int | None = None) -> None:
            announce(what, trial)
            if (self._now, what) == (self.at, self.doing) and not self.handlers:
                self.handlers = [signal.getsignal(number) for number in SIGNALS]
                for _ in range(self.times):
                    signal.raise_signal(self.number)

        super().start(task, heard)

    def submit(self, job: Job) -> None:
        self._now = job.number
        super().submit(job)

    def answer(self, number: int, *, goes_on: bool) -> None:
        self._now = number
        super().answer(number, goes_on=goes_on)

    def close(self) -> None:
        self.is_closed = True
        super().close()


@pytest.fixture
def python_s_own() -> Iterator[None]:
    """Python's own handler of Ctrl-C, which a shell that begins this in background takes away."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_s_own")
def test_a_run_handles_no_signal_unless_it_is_told_to(folder: Path, teacher: Teacher) -> None:
    before, engine = [signal.getsignal(number) for number in SIGNALS], Pressing(at=2)
    with pytest.raises(KeyboardInterrupt) as found:
        toy(folder, teacher=teacher, race=None).run(trials=4, engine=engine)
    assert type(found.value) is KeyboardInterrupt
    assert engine.handlers == [signal.getsignal(number) for number in SIGNALS] == before
    assert engine.is_closed
    assert len(Front.read(folder).trials) == 2
    trials = toy(folder, teacher=teacher, race=None).run(trials=4).trials
    assert [trial.number for trial in trials] == [*range(4)]
    assert len({trial.key for trial in trials}) == 4


def test_ctrl_c_once_finishes_what_runs(
    folder: Path, teacher: Teacher, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell began this in background
    search = toy(folder, teacher=teacher, race=None)
    front = search.run(trials=4, engine=Pressing(at=2), stop_requests=stop_requests)
    assert [trial.number for trial in front.trials] == [0, 1, 2]
    assert front.about["ended"] == CTRL_C_REASON
    assert "finishing the running trials, then stopping; Ctrl-C again stops now" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_leaves_now(folder: Path, teacher: Teacher) -> None:
    engine = Pressing(at=2, times=2)
    with pytest.raises(Interrupted):
        toy(folder, teacher=teacher, race=None).run(
            trials=4, engine=engine, stop_requests=stop_requests
        )
    assert engine.is_closed
    assert len(Front.read(folder).trials) == 2
    trials = toy(folder, teacher=teacher).run(trials=4).trials
    assert [trial.number for trial in trials] == [*range(4)]
    assert len({trial.key for trial in trials}) == 4


def test_ctrl_c_while_the_first_are_looked_at_trains_none_of_them(
    folder: Path, teacher: Teacher
) -> None:
    search = toy(folder, teacher=teacher, space=WIDE, distillation=distillation(steps=9))
    engine = Pressing(at=3, doing="evaluate")
    front = search.run(trials=12, engine=engine, stop_requests=stop_requests)
    assert [trial.number for trial in front.trials] == [0]
    asked = [t for t in read_study(f"sqlite:///{folder}/study.db").trials if "key" in t.user_attrs]
    assert len(asked) == 4


@contextmanager
def pressed() -> Iterator[StopRequest]:
    """Handle signals, one of which comes at once."""
    with stop_requests() as leave:
        signal.raise_signal(signal.SIGINT)
        yield leave


def test_before_the_first_trial_there_is_nothing_to_return(folder: Path, teacher: Teacher) -> None:
    with pytest.raises(Interrupted):
        toy(folder, teacher=teacher).run(trials=3, stop_requests=pressed)
    assert study_record(read_study(f"sqlite:///{folder}/study.db"), ABOUT)["ended"]


def test_in_another_thread_signals_are_left_as_they_are(folder: Path, teacher: Teacher) -> None:
    found: list[Trial] = []
    search = toy(folder, teacher=teacher, objectives=[Memory()], space=PLAIN)
    thread = threading.Thread(
        target=lambda: found.extend(search.run(trials=2, stop_requests=stop_requests).trials)
    )
    thread.start()
    thread.join()
    assert len(found) == 2


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 3), (signal.SIGHUP, 1)])
def test_what_a_scheduler_sends_finishes_what_runs(
    folder: Path, teacher: Teacher, number: signal.Signals, times: int
) -> None:
    engine, patient = Pressing(at=2, times=times, number=number), partial(stop_requests, 600.0)
    search = toy(folder, teacher=teacher, race=None)
    front = search.run(trials=4, engine=engine, stop_requests=patient)
    assert [trial.number for trial in front.trials] == [0, 1, 2]
    assert front.about["ended"] == f"interrupted by {number.name}"
    assert not [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


def at_work(
    *numbers: int,
    seconds: float = 0.0,
    error: BaseException | None = None,
    grace_s: float = GRACE_S,
) -> None:
    """Be sent these signals in the midst of a trial that takes so long, or ends in an error."""
    with stop_requests(grace_s):
        for number in numbers:
            signal.raise_signal(number)
        time.sleep(seconds)
        if error is not None:
            raise error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_trial_that_takes_too_long_after_it_is_left(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as found:
        at_work(number, seconds=60, grace_s=0.1)
    assert exit_code(found.value) == 128 + number
    assert signal.getsignal(number) is before


def test_ctrl_c_after_sigterm_leaves_now() -> None:
    with pytest.raises(Interrupted) as found:
        at_work(signal.SIGTERM, signal.SIGINT)
    assert exit_code(found.value) == 143


def test_sigterm_after_ctrl_c_does_not_wait_for_ever() -> None:
    with pytest.raises(Interrupted) as found:
        at_work(signal.SIGINT, signal.SIGTERM, seconds=60, grace_s=0.1)
    assert exit_code(found.value) == 130


def test_a_library_that_raises_an_interruption_of_its_own_hides_no_signal() -> None:
    with pytest.raises(Interrupted, match="SIGHUP"):
        at_work(signal.SIGHUP, error=KeyboardInterrupt())


@pytest.fixture(params=[signal.SIGHUP, signal.SIGTERM])
def ignored(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that this process ignores, as under ``nohup``."""
    before = signal.signal(request.param, signal.SIG_IGN)
    yield request.param
    signal.signal(request.param, before)


def test_what_is_ignored_stays_ignored(ignored: signal.Signals) -> None:
    with stop_requests() as leave, interruptible():
        signal.raise_signal(ignored)
        assert leave.number is None
    assert signal.getsignal(ignored) == signal.SIG_IGN


def test_a_study_that_was_started_in_the_background_heeds_its_signals() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as leave:
            signal.raise_signal(signal.SIGINT)
        assert leave.number == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert guarded(lambda: signal.raise_signal(signal.SIGTERM)) == 143
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_outside_of_a_study_ends_a_command_in_order(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def command() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # a second one does not interrupt the end
            done.append("cleaned up")

    before = signal.getsignal(number)
    assert guarded(command) == code
    assert done == ["cleaned up"]
    assert capsys.readouterr().err.startswith("protege: stopped. Finished trials are saved")
    assert signal.getsignal(number) is before


def test_a_terminal_that_is_closed_ends_a_study_in_order() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        code = 1
        try:
            with stop_requests() as leave:
                os.write(1, b"ready")
                while leave.number is None:
                    time.sleep(0.01)
                for _ in range(3):
                    complain("there is nobody to read it")
                    say("nor this")
                    sys.stdout.flush()
            code = leave.number
        finally:
            os._exit(code)
    assert os.read(terminal, 5) == b"ready"
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == signal.SIGHUP


def test_a_block_that_is_left_by_an_error_gives_the_signal_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), stop_requests():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_the_command_line_a_signal_ends_with_a_report_and_its_own_code(
    tmp_path: Path, number: signal.Signals
) -> None:
    study = write_study(tmp_path, steps=40)
    # as a shell script that starts it in the background does
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    command += [
        sys.executable,
        "-m",
        "protege.search.cli.main",
        "run",
        str(study),
        "--trials",
        "30",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not has_finished_one(tmp_path / "run"):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "Finished trials are saved; run the same command to resume" in errors
    assert 1 <= len(Front.read(tmp_path / "run").trials) < 30
    if number == signal.SIGINT:  # a busy machine may not finish a trial in the grace of the other
        assert f"Ended: {CTRL_C_REASON}." in output
        assert (tmp_path / "run" / "report" / "index.html").is_file()


def has_finished_one(run: Path) -> bool:
    return any(run.glob("artifacts/trial-*"))
