"""Where distillation improves retention and worsens a score, the study says so."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from protege.objectives import Candidate, Direction, Measurement, Memory, Retention, Stage, Texts
from protege.search import Front, Search, Trial
from protege.search.records.wording import misled
from protege.spaces import Range, SearchSpace
from tests.search.conftest import emptied
from tests.search.toys import distillation, toy
from tests.tiny import WORDS

LEARNT, FAR = WORDS[:12], WORDS[60:]
"""Words of the training data, and words that it never has."""


def texts_of(words: tuple[str, ...], count: int) -> list[str]:
    generator = torch.Generator().manual_seed(7)
    drawn = torch.randint(len(words), (count, 6), generator=generator).tolist()
    return [" ".join(words[number] for number in row) for row in drawn]


@dataclass(frozen=True)
class FarAway:
    """Whether texts unlike the training data are as alike as the teacher finds them."""

    at_rungs: bool = False

    name: ClassVar[str] = "far_away"
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "maximize"
    stage: ClassVar[Stage] = Stage.STUDENT
    limit: ClassVar[float | None] = None
    asked: ClassVar[list[str]] = []

    def measure(self, candidate: Candidate) -> Measurement:
        self.asked.append(candidate.architecture.key())
        read = candidate.teacher.tokenizer(texts_of(FAR, 60), padding=True, return_tensors="pt")
        pair: tuple[Any, ...] = (candidate.student.module, candidate.teacher.embedder())
        with torch.inference_mode():
            mine, theirs = (similarities(model(**read)) for model in pair)
        each = cosine_similarity(mine, theirs)
        return Measurement(float(each.mean()), examples=tuple(each.tolist()))


def similarities(vectors: Tensor) -> Tensor:
    """How alike each text is to the others, relative to its mean, ``(texts, texts)``."""
    unit = normalize(vectors, dim=-1)
    found = (unit @ unit.T).fill_diagonal_(0)
    return found - found.mean(1, keepdim=True)


def searched(folder: Path, *, at_rungs: bool = False, **changes: Any) -> Search:
    """A study that trains each student hard on a few texts of few words."""
    hard: dict[str, Any] = {"steps": 60, "learning_rate": 3e-2, "full_rate_at": 0.0}
    taught = distillation(data=Texts.of(texts_of(LEARNT, 24)), **(hard | changes))
    return toy(
        folder,
        space=SearchSpace(layers=Range(0.25, 1.0)),
        objectives=[Memory(), Retention(), FarAway(at_rungs=at_rungs)],
        distillation=taught,
        race=None,
    )


@pytest.fixture(scope="module")
def ran() -> Iterator[tuple[Front, str]]:
    """The front of an over-trained study, and its log."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("protege")
    logger.addHandler(handler)
    with emptied() as folder:
        front = searched(folder).run(trials=4)
        front.report()
        yield front, "\n".join(lines)
    logger.removeHandler(handler)


def worse(front: Front) -> list[Trial]:
    found = [trial for trial in front.trials if trial.harmed]
    assert found
    return found


def test_an_overtrained_student_is_marked(ran: tuple[Front, str]) -> None:
    for trial in worse(ran[0]):
        assert trial.harmed == ("far_away",)
        assert trial.measurements["far_away"].value < trial.untrained["far_away"]
        assert trial.best_step
        curve = list(trial.curve.values())
        assert max(curve) > curve[0]  # its retention rose


def test_the_log_and_the_report_say_so(ran: tuple[Front, str]) -> None:
    front, log = ran
    trial = worse(front)[0]
    said = trial.harm
    assert said.startswith("Distillation improved retention and worsened far_away from 0.")
    assert f"trial {trial.number} ({trial.label}): {said}" in log
    page = (front.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert page.count(said) >= 1
    assert misled(front.trials) in page


def test_the_record_survives_a_restart(ran: tuple[Front, str]) -> None:
    front, _ = ran
    again = Front.read(front.folder)
    assert [(t.untrained, t.harmed) for t in again.trials] == [
        (t.untrained, t.harmed) for t in front.trials
    ]
    trial = worse(front)[0]
    assert Trial.of_record(trial.record()) == trial


def test_the_teacher_is_never_marked(ran: tuple[Front, str]) -> None:
    teacher = ran[0].teacher
    assert teacher is not None
    assert (teacher.untrained, teacher.harmed) == ({}, ())


def test_a_score_at_rungs_is_known_from_the_first_one(folder: Path) -> None:
    FarAway.asked.clear()
    front = searched(folder, at_rungs=True).run(trials=3)
    for trial in front.trials:
        assert trial.untrained == (
            {"far_away": trial.rungs[0]["far_away"]} if trial.best_step else {}
        )
        assert FarAway.asked.count(trial.key) <= len(trial.rungs)  # none beside them


def test_a_costly_score_is_measured_once_if_the_user_says_so(folder: Path) -> None:
    FarAway.asked.clear()
    front = searched(folder, scores_start=False).run(trials=3)
    assert len(FarAway.asked) == 3
    assert all(trial.untrained == {} for trial in front.trials)
    assert misled(front.trials) == ""
