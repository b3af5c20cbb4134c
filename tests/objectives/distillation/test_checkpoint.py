"""A student whose process is killed goes on from the last rung it was at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protege.objectives import Candidate, Retention, Rung, Stopwatch
from protege.objectives.distillation import checkpoint
from protege.objectives.distillation.training import Training
from protege.spaces import Cache, Teacher
from tests.search.toys import retention
from tests.tiny import CASES

NINE = retention(steps=9)
"""Rungs after 0, 1, 3 and 9 steps."""


QUICK = {"bert-sentences-dense", "bert-tokens", "llama-causal-tied"}
every_lesson = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if name in QUICK else pytest.mark.slow, id=name)
        for name, case in CASES.items()
    ],
    indirect=True,
)
one_lesson = pytest.mark.parametrize(
    "case", [pytest.param(CASES["bert-sentences"], id="bert-sentences")], indirect=True
)


class Killed(BaseException):
    """The process is killed."""


@pytest.fixture(autouse=True)
def every_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 0.0)


@pytest.fixture
def again(teacher: Teacher, tmp_path: Path) -> Callable[[], Candidate]:
    """The same candidate, as another process makes it."""
    return lambda: Candidate(
        teacher,
        teacher.architecture.scaled(layers=0.5),
        Cache(tmp_path / "cache"),
        stopwatch=Stopwatch(),
        checkpoint=tmp_path / "trial.safetensors",
    )


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are made."""
    made: list[int] = []
    learn = Training._learn

    def noted(self: Training, *given: object) -> None:
        learn(self, *given)  # type: ignore[arg-type]
        made.append(len(self.losses))

    monkeypatch.setattr(Training, "_learn", noted)
    return made


def climbed(candidate: Candidate, until: int, objective: Retention = NINE) -> list[Rung]:
    """The rungs up to a step, where the process is killed."""
    found = []
    for rung in objective.rungs(candidate):
        found.append(rung)
        if rung.step == until:
            break
    return found


@every_lesson
@pytest.mark.parametrize("until", [1, 3])
def test_only_what_is_left_is_trained_and_all_is_as_it_would_have_been(
    again: Callable[[], Candidate], tmp_path: Path, steps: list[int], until: int
) -> None:
    climbed(again(), until)
    steps.clear()
    resumed = again()
    found = list(NINE.rungs(resumed))
    assert steps == [*range(until + 1, 10)]
    (tmp_path / "trial.safetensors").unlink()
    whole = again()
    assert found == list(NINE.rungs(whole))
    mine, theirs = (one.student.module.state_dict() for one in (resumed, whole))
    assert all(bool((mine[name] == theirs[name]).all()) for name in theirs)


@every_lesson
@pytest.mark.parametrize("race", [True, False])
def test_between_rungs_it_is_stored_too(
    again: Callable[[], Candidate],
    tmp_path: Path,
    steps: list[int],
    monkeypatch: pytest.MonkeyPatch,
    *,
    race: bool,
) -> None:
    def found(candidate: Candidate) -> list[Rung]:
        if race:
            return list(NINE.rungs(candidate))
        return [Rung(9, NINE.measure(candidate), is_last=True)]

    whole = found(again())
    (tmp_path / "trial.safetensors").unlink()
    check = Training.check

    def killed(self: Training, step: int, *given: object) -> None:
        if step == 7:
            raise Killed
        check(self, step, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Training, "check", killed)
        with pytest.raises(Killed):
            found(again())
    steps.clear()
    assert found(again()) == whole
    assert steps == [7, 8, 9]


@one_lesson
def test_a_student_that_has_passed_its_rungs_is_not_judged_there_again(
    again: Callable[[], Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    climbed(again(), 3)
    judged: list[int] = []
    judge = Retention.judge

    def noted(self: Retention, *given: object, **named: object) -> object:
        judged.append(1)
        return judge(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Retention, "judge", noted)
    assert [rung.step for rung in NINE.rungs(again())] == [0, 1, 3, 9]
    assert len(judged) == 1


@one_lesson
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "gone"])
def test_a_file_that_is_not_whole_is_not_read(
    again: Callable[[], Candidate], tmp_path: Path, steps: list[int], harm: str
) -> None:
    climbed(again(), 3)
    path = tmp_path / "trial.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    kept = {"cut": content[: len(content) // 2], "flipped": content}
    path.write_bytes(kept.get(harm, b""))
    if harm == "gone":
        path.unlink()
    steps.clear()
    assert [rung.step for rung in NINE.rungs(again())] == [0, 1, 3, 9]
    assert steps == [*range(1, 10)]


@one_lesson
def test_another_training_does_not_go_on_from_it(
    again: Callable[[], Candidate], steps: list[int]
) -> None:
    climbed(again(), 3)
    steps.clear()
    longer = retention(steps=18)
    assert [rung.step for rung in longer.rungs(again())] == [0, 2, 6, 18]
    assert steps == [*range(1, 19)]


@one_lesson
def test_what_is_soon_retrained_is_not_written(
    again: Callable[[], Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 60.0)
    climbed(again(), 3)
    assert not (tmp_path / "trial.safetensors").exists()


@one_lesson
def test_waiting_for_its_training_is_no_loss(
    again: Callable[[], Candidate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 60.0)
    now = [1000.0]
    monkeypatch.setattr(checkpoint, "monotonic", lambda: now[0])
    rungs = NINE.rungs(again())
    assert next(rungs).step == 0
    now[0] += 3600  # others are looked at, and trained
    assert [rung.step for rung in rungs] == [1, 3, 9]
    assert not (tmp_path / "trial.safetensors").exists()


@one_lesson
def test_without_a_place_nothing_is_kept(teacher: Teacher, tmp_path: Path) -> None:
    own = Candidate(teacher, teacher.architecture.scaled(layers=0.5), Cache(tmp_path / "cache"))
    assert [rung.step for rung in NINE.rungs(own)] == [0, 1, 3, 9]
    assert list(tmp_path.glob("*.safetensors")) == []
