"""Candidates race: beaten at a rung by enough others, one is trained no further."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from protege.objectives import Measurement, Memory, Stopwatch
from protege.search import Front, Search, State, Trial
from protege.search.running.judging import Judge
from protege.search.running.racing import Race
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.storage.storage import read_study
from protege.search.study.study import StoredStudy
from protege.spaces import Teacher
from tests.search import toys
from tests.search.conftest import emptied
from tests.search.toys import WIDE, coordinated, distillation, opened, toy

HARD = Race(eta=4.0, min_records=1)
"""Who is beaten by a quarter of the others stops."""
STEPS = [0, 1, 3, 9]
"""The rungs of nine steps."""


def made(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    """A search whose candidates race hard."""
    given: dict[str, Any] = {"distillation": distillation(steps=9), "race": HARD}
    return toy(folder, teacher=teacher, space=WIDE, **(given | changes))


def raced(folder: Path, teacher: Teacher, trials: int = 10, **changes: Any) -> Front:
    """A study whose candidates have raced hard."""
    return made(folder, teacher, **changes).run(trials=trials)


def told(folder: Path) -> list[FrozenTrial]:
    """The trials as Optuna's storage has them."""
    return read_study(f"sqlite:///{folder}/study.db").trials


def stopped(front: Front) -> list[Trial]:
    return [trial for trial in front.trials if trial.state is State.STOPPED]


def at_rungs(trial: FrozenTrial) -> dict[int, list[float]]:
    """A trial's values at its rungs, as they are stored."""
    names = [name for name in trial.user_attrs if name.startswith("rung:")]
    return {int(name.removeprefix("rung:")): trial.user_attrs[name] for name in names}


@pytest.fixture(scope="module")
def run(teacher: Teacher) -> Iterator[tuple[Front, Path]]:
    """A study that has raced, and its folder; tests leave it as it is."""
    with emptied() as folder:
        yield raced(folder, teacher), folder


def test_some_are_stopped_and_some_get_to_the_end(run: tuple[Front, Path]) -> None:
    front, _ = run
    states = {trial.state for trial in front.trials}
    assert states == {State.COMPLETE, State.STOPPED}
    for trial in front.trials:
        reached = list(trial.rungs)
        assert reached == STEPS[: len(reached)]
        assert (reached == STEPS) == (trial.state is State.COMPLETE)
        assert trial.measurements["retention"].value == max(trial.curve.values())
    for trial in stopped(front):
        assert trial.stopped_at == max(trial.rungs) < 9
        assert trial.training is not None
        assert trial.training.steps == len(trial.training.losses) == trial.stopped_at
        assert trial.reason.startswith(f"outranked at step {trial.stopped_at}, with retention 0.")


def test_one_that_is_stopped_is_told_with_its_last_values_and_marked(
    run: tuple[Front, Path],
) -> None:
    front, folder = run
    optuna_trials = told(folder)
    for trial in front.trials:
        stored = optuna_trials[trial.number]
        is_stopped, values = trial.state is State.STOPPED, front.objectives.values(trial)
        assert stored.state is (TrialState.PRUNED if is_stopped else TrialState.COMPLETE)
        assert stored.values == (None if is_stopped else values)
        assert stored.user_attrs.get("stopped_with") == (values if is_stopped else None)
        assert stored.user_attrs.get("stopped_at") == trial.stopped_at
        assert stored.user_attrs["state"] == str(trial.state)


def test_figures_at_rungs_are_in_the_storage(run: tuple[Front, Path]) -> None:
    front, folder = run
    for trial in front.trials:
        stored = at_rungs(told(folder)[trial.number])
        judged = [step for step in trial.rungs if step < 9]  # at the last nothing is decided
        assert list(stored) == judged
        memory = trial.measurements["memory_mb"].value
        best = accumulate(trial.curve.values(), max)  # what would be published there
        assert stored == {step: [memory, value] for step, value in zip(judged, best, strict=False)}


def test_one_that_is_stopped_is_on_no_front_and_keeps_no_weights(run: tuple[Front, Path]) -> None:
    front, folder = run
    numbers = {trial.number for trial in stopped(front)}
    assert numbers.isdisjoint(trial.number for trial in front.members)
    kept = {path.name for path in (folder / "artifacts").iterdir()}
    assert kept == {f"trial-{trial.number:05d}" for trial in front.members}


def test_the_teacher_and_the_naive_half_are_never_stopped(run: tuple[Front, Path]) -> None:
    front, _ = run
    assert front.trials[1].key == front.about["naive"]
    assert [trial.state for trial in front.trials[:2]] == [State.COMPLETE] * 2


def test_without_a_race_all_are_trained_to_the_end(folder: Path, teacher: Teacher) -> None:
    front = raced(folder, teacher, 4, race=None)
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    assert all(list(trial.rungs) == STEPS for trial in front.trials)
    assert not any(at_rungs(trial) for trial in told(folder))
    trained = [trial.training for trial in front.trials if trial is not front.teacher]
    assert {one and (one.steps, len(one.losses)) for one in trained} == {(9, 9)}


def test_where_nothing_is_trained_nobody_races(folder: Path, teacher: Teacher) -> None:
    front = toy(folder, teacher=teacher, objectives=[Memory()]).run(trials=6)
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    assert not any(at_rungs(trial) for trial in told(folder))


def test_who_gets_to_the_end_is_worth_what_it_is_worth_without_a_race(
    run: tuple[Front, Path], folder: Path, teacher: Teacher
) -> None:
    front, _ = run
    plain = {trial.key: trial for trial in raced(folder, teacher, 4, race=None).trials}
    both = [t for t in front.trials if t.key in plain and t.state is State.COMPLETE]
    assert len(both) >= 2
    for trial in both:
        assert trial.measurements == plain[trial.key].measurements


def test_a_study_that_goes_on_keeps_what_was_reached(folder: Path, teacher: Teacher) -> None:
    first = raced(folder, teacher, 4)
    before = [at_rungs(trial) for trial in told(folder)]
    again = raced(folder, teacher, 6)
    assert again.trials[:4] == first.trials
    assert [at_rungs(trial) for trial in told(folder)][:4] == before[:4]
    assert Front.read(folder).trials == again.trials


def test_one_study_in_two_runs_stops_whom_it_stops_in_one(
    run: tuple[Front, Path], folder: Path, teacher: Teacher
) -> None:
    whole, _ = run
    assert len(made(folder, teacher).run(trials=10, minutes=1e-6).trials) < 10
    parts = raced(folder, teacher).trials
    assert [t.state for t in parts] == [t.state for t in whole.trials]
    assert [t.rungs for t in parts] == [t.rungs for t in whole.trials]


def test_figures_are_stored_before_anyone_is_judged_by_them(folder: Path, teacher: Teacher) -> None:
    """A process that dies on its way leaves the rungs it was at; the trial is done again."""
    search = made(folder, teacher)
    search.run(trials=2)

    def interrupt(what: str) -> None:
        if what == "distil 2/9":
            raise KeyboardInterrupt

    with coordinated(search, interrupt) as coordinator, pytest.raises(KeyboardInterrupt):
        next(coordinator.go_on(Stopping(3), StopRequest()))
    left = told(folder)[2]
    assert left.state is TrialState.RUNNING
    assert list(at_rungs(left)) == [0, 1]
    done = raced(folder, teacher, 3).trials[2]
    assert done.number == 2
    assert [at_rungs(left)[step][1] for step in (0, 1)] == [
        done.curve[0],
        max(done.curve[0], done.curve[1]),
    ]


@dataclass
class Figures:
    """A study of two objectives, one candidate of which is under way at a time."""

    study: StoredStudy
    done: Trial | None = None

    def judge(self, race: Race, *, never_stops: bool = False) -> Judge:
        """The judge of the next candidate; the one before has been told of."""
        if self.done is not None:
            self.study.tell(self.done)
        number, architecture = self.study.ask()
        self.done = toys.worth(number, architecture)
        return Judge(race, self.study, number, Stopwatch(), never_stops=never_stops)


def worth(values: Sequence[float]) -> dict[str, Measurement]:
    """Of `OBJECTIVES`: less size, more quality."""
    return {
        name: Measurement(value) for name, value in zip(("size", "quality"), values, strict=True)
    }


def goes_on(judge: Judge, step: int, measurements: dict[str, Measurement]) -> bool:
    """What becomes of a candidate that comes to a rung and is judged at once."""
    judge.reached(step, measurements)
    return judge.goes_on(step, measurements)


@pytest.fixture
def figures(storage: str) -> Figures:
    return Figures(opened(storage))


ALL = Race(eta=2.0, min_records=2)


def test_more_is_better_where_the_objective_says_so(figures: Figures) -> None:
    for quality in (5.0, 6.0):
        assert goes_on(figures.judge(ALL), 10, worth((1.0, quality)))
    assert not goes_on(figures.judge(ALL), 10, worth((1.0, 4.0)))
    assert goes_on(figures.judge(ALL), 10, worth((1.0, 7.0)))
    # larger, but better than anyone
    assert goes_on(figures.judge(ALL), 10, worth((9.0, 8.0)))


def test_candidates_are_compared_at_equal_steps_only(figures: Figures) -> None:
    for quality in (5.0, 6.0, 7.0):
        goes_on(figures.judge(ALL), 10, worth((1.0, quality)))
    last = figures.judge(ALL)
    assert goes_on(last, 20, worth((2.0, 1.0)))
    assert not goes_on(last, 10, worth((2.0, 1.0)))


def test_a_candidate_is_not_compared_with_itself(figures: Figures) -> None:
    only = figures.judge(Race(eta=2.0, min_records=1))
    assert goes_on(only, 10, worth((1.0, 5.0)))
    # done again after a process died, and worth less this time
    assert goes_on(only, 10, worth((1.0, 4.0)))


def test_baselines_go_on_and_are_compared_with_all_the_same(figures: Figures) -> None:
    for quality in (5.0, 6.0, 7.0):
        goes_on(figures.judge(ALL), 10, worth((1.0, quality)))
    assert goes_on(figures.judge(ALL, never_stops=True), 10, worth((2.0, 1.0)))
    assert len(figures.study.others_at_rung(figures.judge(ALL).number, 10)) == 4


def test_the_time_that_judging_takes_is_booked(figures: Figures) -> None:
    judge = figures.judge(ALL)
    goes_on(judge, 10, worth((1.0, 5.0)))
    assert judge.stopwatch.seconds["race"] > 0
