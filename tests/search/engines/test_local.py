"""Jobs side by side in processes that are killed, hang, run out of memory, or end in order."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from protege.objectives import Measurement, Memory
from protege.search import Front, LocalEngine, State
from protege.search.engines.local import LocalWorker
from protege.search.engines.pool import STARTS
from protege.search.records.results import store_trial
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.storage.storage import read_study
from protege.search.study.study import trials_of
from protege.spaces import BadInput, Teacher
from studies.benchmarks.lives import ForkServer, alive, family, fork_server
from tests import disks
from tests.search.engines import mischief
from tests.search.engines.mischief import calls
from tests.search.toys import PLAIN, coordinated, distillation, toy, worth
from tests.study_files import write_study

SILENCE_S = 5.0
"""Long enough for a process that is at work on a busy machine, and short enough to wait for."""


@dataclass(frozen=True)
class Lives:
    """Scripts of a misbehaving study, run in processes that begin in milliseconds."""

    fork_server: ForkServer
    folder: Path

    def begun(self, run: Path, **given: Any) -> tuple[int, Iterator[str]]:
        """Begin one; its process id, and what it says from then on."""
        given = {
            "teacher": str(self.folder / "teacher"),
            "data": str(self.folder / "corpus.txt"),
            "engine": {"jobs": 2, "threads": 1},
        } | given
        (run / mischief.ARGUMENTS).write_text(json.dumps(given), encoding="utf-8")
        says = self.fork_server.live(["python", mischief.__file__, str(run)])
        return int(next(says).removeprefix("child ")), says

    def run(self, run: Path, **given: Any) -> list[str]:
        """Run one to its end; what it said."""
        return [*self.begun(run, **given)[1]]


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    folder = tmp_path_factory.mktemp("lives")
    write_study(folder)
    with fork_server(folder) as found:
        yield Lives(found, folder)


@pytest.fixture(scope="module")
def keys(teacher: Teacher) -> list[str]:
    """The students of the space, the teacher first."""
    space = PLAIN.of(teacher)
    own = space.baselines[0].key()
    return [own, *(key for key in space.by_key if key != own)]


def told(run: Path) -> list[tuple[Any, ...]]:
    trials = trials_of(read_study(f"sqlite:///{run}/study.db"))
    return [(t.number, t.key, t.state, t.measurements, t.rungs) for t in trials]


def until(says: Iterator[str], word: str, times: int = 1) -> None:
    """Listen until it has said that so many times."""
    for said in says:
        times -= said == word
        if times == 0:
            return
    raise AssertionError(f"it ended, and had not said {word!r}")


def gone(pids: Any, within_s: float = 2.0) -> bool:
    """Whether they are gone, some moments from now at most."""
    end = time.monotonic() + within_s
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pids)


@pytest.fixture(scope="module")
def mauled(lives: Lives, keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a study over whose students processes come to grief."""
    run = tmp_path_factory.mktemp("mauled")
    deeds = ["", "dies once", "dies", "hangs once", "sleeps once", "takes all memory"]
    deeds += ["raises oddly", "cannot be used", "is missing something"]
    engine = {"jobs": 2, "threads": 1, "silence_s": SILENCE_S}
    said = lives.run(run, deeds=dict(zip(keys, deeds, strict=False)), engine=engine)
    assert said[-1] == "exit 0"
    return run


def test_the_trials_asked_for_are_there_each_of_another_student(mauled: Path) -> None:
    trials = Front.read(mauled).trials
    assert [trial.number for trial in trials] == [*range(9)]
    assert len({trial.key for trial in trials}) == 9


def test_what_kills_every_process_has_no_room_or_raises_fails_alone(
    mauled: Path, keys: list[str]
) -> None:
    failed = {t.key: t.reason for t in Front.read(mauled).trials if t.state is State.FAILED}
    assert failed.keys() == {keys[2], *keys[5:9]}
    assert failed[keys[2]] == (
        "5 processes died over it: its process was ended by SIGKILL, as the system does when "
        "memory runs out"
    )
    assert failed[keys[5]] == "MemoryError: "
    assert failed[keys[6]] == "OddError: its message cannot be read: ValueError"
    assert failed[keys[7]] == "BadInput: no such thing; give another"
    assert failed[keys[8]] == "ModuleNotFoundError: no such module"
    assert calls(mauled).count(keys[2]) == 5
    assert calls(mauled).count(keys[5]) == 1


@pytest.mark.parametrize("student", [1, 3, 4])
def test_a_trial_whose_process_died_or_hung_is_retried_under_its_number(
    mauled: Path, keys: list[str], student: int
) -> None:
    assert calls(mauled).count(keys[student]) >= 2
    stored = read_study(f"sqlite:///{mauled}/study.db").trials
    (reasons,) = [t.user_attrs["died"] for t in stored if t.user_attrs["key"] == keys[student]]
    hung = f"its worker gave no sign of life for {SILENCE_S:g} s"
    assert reasons == [hung if student > 1 else reasons[0]]


@pytest.fixture(scope="module")
def whole(lives: Lives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a study with two jobs in step, from beginning to end."""
    run = tmp_path_factory.mktemp("whole")
    assert lives.run(run, trains=True, engine=IN_STEP)[-1] == "exit 0"
    return run


IN_STEP = {"jobs": 2, "threads": 1, "synchronous": True}


def test_one_seed_gives_one_study_in_step_though_it_was_killed_half_way(
    lives: Lives, whole: Path, tmp_path: Path
) -> None:
    study, says = lives.begun(tmp_path, trains=True, engine=IN_STEP)
    until(says, "store", times=2 * 3)
    os.kill(study, signal.SIGKILL)
    assert [*says][-1:] != ["exit 0"]
    assert lives.run(tmp_path, trains=True, engine=IN_STEP)[-1] == "exit 0"
    assert told(tmp_path) == told(whole)


def test_a_clock_that_jumps_changes_nothing(lives: Lives, whole: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"trains": True, "engine": IN_STEP}
    assert lives.run(tmp_path, loads="has a clock that jumps", **given)[-1] == "exit 0"
    assert calls(tmp_path).count("loaded") == 2  # nobody was taken for silent
    assert told(tmp_path) == told(whole)


def test_when_the_study_is_killed_none_of_its_processes_is_left(
    lives: Lives, keys: list[str], tmp_path: Path
) -> None:
    study, says = lives.begun(tmp_path, deeds=dict.fromkeys(keys[2:4], "hangs"))
    until(says, "store", times=2)
    while len(set(calls(tmp_path)) & {*keys[2:4]}) < 2:
        time.sleep(0.05)
    members = family(study)
    assert sorted(members.values()) == ["study", "worker", "worker"]
    os.kill(study, signal.SIGKILL)
    assert gone(members)
    before = told(tmp_path)
    assert lives.run(tmp_path)[-1] == "exit 0"
    assert [one for one in told(tmp_path) if one in before] == before
    assert [number for number, *_ in told(tmp_path)] == [*range(9)]
    assert len({key for _, key, *_ in told(tmp_path)}) == 9


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_no_process_behind(
    lives: Lives, keys: list[str], tmp_path: Path, times: int
) -> None:
    study, says = lives.begun(tmp_path, deeds=dict.fromkeys(keys, "rests"))
    until(says, "store", times=2)
    members = family(study)
    asked = time.monotonic()
    os.kill(study, signal.SIGINT)
    until(says, "protege: finishing the running trials, then stopping; Ctrl-C again stops now")
    if times == 2:
        os.kill(study, signal.SIGINT)
    said = [*says]
    assert said[-1] == f"exit {130 if times == 2 else 0}"
    assert gone(members)
    assert 1 <= len(told(tmp_path)) < 9
    assert time.monotonic() - asked < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("deed", ["rests", "sleeps"])
def test_what_a_scheduler_sends_to_all_leaves_no_process_behind(
    lives: Lives, keys: list[str], tmp_path: Path, number: signal.Signals, deed: str
) -> None:
    grace_s = 600.0 if deed == "rests" else 0.5
    study, says = lives.begun(tmp_path, deeds=dict.fromkeys(keys[2:], deed), grace_s=grace_s)
    until(says, "store", times=2)
    while deed == "sleeps" and not {*calls(tmp_path)} & {*keys[2:]}:
        time.sleep(0.05)
    members = family(study)
    for member in sorted(members, key=lambda pid: pid == study):  # its workers first
        os.kill(member, number)
    said = [*says]
    assert said[-1] == f"exit {0 if deed == 'rests' else 128 + number}"
    assert gone(members)
    assert 1 <= len(told(tmp_path)) < 9
    assert not any(
        "died" in t.user_attrs for t in read_study(f"sqlite:///{tmp_path}/study.db").trials
    )


def test_what_no_student_can_use_ends_the_study_with_that_line(
    lives: Lives, keys: list[str], tmp_path: Path
) -> None:
    said = lives.run(tmp_path, deeds={keys[0]: "cannot be used"})
    assert said[-2:] == ["protege: error: no such thing; give another", "exit 2"]


def processes(engine: LocalEngine) -> dict[int, set[int]]:
    """The numbers of the jobs that each process holds at a rung."""
    found = {}
    for worker in engine._pool.workers:
        assert isinstance(worker.transport, LocalWorker)
        assert worker.transport.process is not None
        found[worker.transport.process.pid] = worker.halted
    return found


@dataclass
class Deadly(LocalEngine):
    """An engine whose first process to be told how a student goes on is killed just before.

    Attributes:
        storage: Where the study is.
        killed: The process.
        looked_at: The trials with figures at the first rung then.
    """

    storage: str = ""
    killed: list[int] = field(default_factory=list, init=False)
    looked_at: list[int] = field(default_factory=list, init=False)

    def answer(self, number: int, *, goes_on: bool) -> None:
        if number > 0 and not self.killed:  # the first is the teacher, by itself
            stored = read_study(self.storage).trials
            self.looked_at = [one.number for one in stored if "rung:0" in one.user_attrs]
            self.killed = [pid for pid, held in processes(self).items() if number in held]
            os.kill(self.killed[0], signal.SIGKILL)
        super().answer(number, goes_on=goes_on)


@pytest.mark.slow
def test_what_a_killed_process_held_is_begun_again(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, distillation=distillation(steps=9))
    engine = Deadly(2, threads=1, storage=str(search.place))
    with coordinated(search, engine=engine) as coordinator:
        coordinator.prescored = 4
        trials = [*coordinator.go_on(Stopping(7), StopRequest())]
    assert sorted(trial.number for trial in trials) == [*range(7)]
    assert State.FAILED not in {trial.state for trial in trials}
    assert coordinator.ended == "7 trials are done"
    # and not whoever a job is free for while another is looked at
    assert engine.looked_at == [0, 1, 2, 3]


@pytest.mark.slow
def test_two_jobs_tell_of_different_students(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, space=PLAIN, objectives=[Memory()])
    trials = search.run(trials=4, engine=LocalEngine(2, threads=1)).trials
    assert [trial.number for trial in trials] == [*range(4)]
    assert {trial.state for trial in trials} == {State.COMPLETE}
    assert len({trial.key for trial in trials}) == 4


def test_a_recorded_trial_is_told_though_whoever_was_to_tell_it_died(
    folder: Path, teacher: Teacher
) -> None:
    given: dict[str, Any] = {"teacher": teacher, "space": PLAIN, "objectives": [Memory()]}
    with coordinated(toy(folder, **given)) as coordinator:
        first, second = coordinator.study.ask(), coordinator.study.ask()
    found = worth(*first)
    found = replace(found, measurements={"memory_mb": Measurement(4711.0)})
    store_trial(folder, found)
    store_trial(folder, replace(worth(*second), state=State.FAILED, key="of another student"))
    trials = toy(folder, **given).run(trials=3).trials
    assert trials[0] == found
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3


def test_a_teacher_that_failed_is_tried_again(folder: Path, teacher: Teacher) -> None:
    given: dict[str, Any] = {"teacher": teacher, "space": PLAIN, "objectives": [Memory()]}
    with coordinated(toy(folder, **given)) as coordinator:
        own = worth(*coordinator.study.ask())
    store_trial(folder, replace(own, state=State.FAILED, measurements={}))
    trials = toy(folder, **given).run(trials=2).trials
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2


def test_what_cannot_be_sent_to_another_process_is_refused(folder: Path, teacher: Teacher) -> None:
    search = toy(folder, teacher=teacher, space=PLAIN, objectives=[Memory()])
    object.__setattr__(search.objectives[0], "held", Lock())
    with pytest.raises(BadInput, match=r"cannot be sent to another process .*; define it without"):
        search.run(trials=2, engine=LocalEngine(2))


def test_two_jobs_compute_what_the_teacher_answers_once(lives: Lives, tmp_path: Path) -> None:
    assert lives.run(tmp_path, trains=True, trials=1)[-1] == "exit 0"
    shutil.rmtree(next(tmp_path.rglob("cache")))
    (tmp_path / "forwards").unlink()
    study, says = lives.begun(tmp_path, trains=True, trials=3)
    assert [*says][-1] == "exit 0"
    read = [line.split() for line in (tmp_path / "forwards").read_text().splitlines()]
    # by the study, before its workers begin
    assert {pid for pid, _ in read} == {str(study)}


def test_processes_that_cannot_start_end_the_study(lives: Lives, tmp_path: Path) -> None:
    said = lives.run(tmp_path, loads="is missing something")
    assert said[-1] == "exit 2"
    assert said[-2].startswith(
        "protege: error: no worker could start: its process ended with exit code 1: "
        "ModuleNotFoundError: no such module; see "
    )
    assert said[-2].endswith(".log")


def test_processes_that_are_killed_while_they_start_are_started_again(
    lives: Lives, tmp_path: Path
) -> None:
    assert lives.run(tmp_path, loads="dies once", trials=3)[-1] == "exit 0"
    assert len(told(tmp_path)) == 3
    stored = read_study(f"sqlite:///{tmp_path}/study.db").trials
    assert not any("died" in trial.user_attrs for trial in stored)


def test_processes_that_are_always_killed_while_they_start_end_the_study(
    lives: Lives, tmp_path: Path
) -> None:
    said = lives.run(tmp_path, loads="dies")
    assert said[-1] == "exit 2"
    assert said[-2].startswith("protege: error: no worker could start: ")
    assert len(calls(tmp_path)) in {STARTS, STARTS + 1}  # another one may be on its way


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of eight megabytes."""
    with disks.small_disk(8) as made:
        yield made


@pytest.mark.parametrize("free_kb", [260, 700])
def test_a_full_disk_ends_a_study_of_two_jobs_that_goes_on_once_there_is_room(
    lives: Lives, small_disk: Path, free_kb: int
) -> None:
    ballast, run = small_disk / "ballast", small_disk / "run"
    run.mkdir()
    ballast.write_bytes(bytes(8 * 2**20 - free_kb * 1024))
    said = lives.run(run, trains=True)
    assert said[-1] == "exit 2"
    assert "no space left on the device; make room, then run the same line again" in said[-2]
    before = told(run) if (run / "study.db").exists() else []
    ballast.unlink()
    assert lives.run(run, trains=True)[-1] == "exit 0"
    assert [one for one in told(run) if one in before] == before
    assert [number for number, *_ in told(run)] == [*range(9)]
    assert State.FAILED not in {state for _, _, state, *_ in told(run)}
    assert not list(run.rglob(".*"))
