"""Students of other families in a search: raced, published, exported, confirmed, reported."""

from pathlib import Path
from typing import Any

import pytest
import torch

from protege.objectives import Candidate, Distillation, Images, Parameters, Retention
from protege.objectives.quality.rungs import CandidateDistillation
from protege.search import Front, Search
from protege.search.analysis.result import StudyResult
from protege.search.handover.exported import loaded_student
from protege.search.records.trial import State, Trial
from protege.search.report.page import page
from protege.search.report.sections.families import best_within, families, holders
from protege.spaces import Choice, OtherFamily, Range, SearchSpace, Task, Teacher
from tests.search.toys import distillation, go_on, opened, toy
from tests.tiny import CASES, Case

SPACE = SearchSpace(
    layers=Range(0.25, 1.0),
    multiple_of=4,
    others=[
        OtherFamily("convbert", layers=0.5),
        OtherFamily("fnet", layers=0.5),
        OtherFamily("text_cnn", layers=0.5),
        OtherFamily("text_mixer", layers=0.5),
        OtherFamily("static", hidden=Choice(0.5, 1.0)),
    ],
)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return CASES["bert-sentences"].teacher()


@pytest.fixture(scope="module")
def search(teacher: Teacher, tmp_path_factory: pytest.TempPathFactory) -> Search:
    objectives = [Parameters(), Retention()]
    return toy(
        tmp_path_factory.mktemp("run"),
        teacher=teacher,
        space=SPACE,
        objectives=objectives,
        distillation=distillation(steps=9),
    )


@pytest.fixture(scope="module")
def front(search: Search) -> Front:
    return search.run(trials=len(search.students))


def of_family(front: Front) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in front.trials:
        found.setdefault(str(trial.architecture["model_type"]), []).append(trial)
    return found


def test_every_family_is_measured_and_named(front: Front) -> None:
    found = of_family(front)
    assert found.keys() == {"bert", "convbert", "fnet", "text_cnn", "text_mixer", "static"}
    for name, trials in found.items():
        assert all(one.state is State.COMPLETE for one in trials if name != "bert")
        assert all(one.label.startswith(name) for one in trials if name != "bert")
    assert not any(one.label.startswith("bert") for one in found["bert"])


def test_the_report_says_which_family_holds_the_front(front: Front) -> None:
    section = families(front)
    assert section is not None
    assert "Which family holds the front" in page(front)
    assert "in the colour of another family" in page(front)
    x, y = front.objectives.records
    steps = best_within(front.students, x, y)
    values = [one.measurements[y.name].value for one in steps]
    assert values == sorted(values)
    said = [*holders(front, x, y)]
    assert said[0].startswith(str(steps[0].architecture["model_type"]))
    assert f"(t{steps[-1].number})" in said[-1]


def test_an_exported_student_of_every_family_on_the_front_has_its_measured_quality(
    search: Search, front: Front, teacher: Teacher, tmp_path: Path
) -> None:
    prepared = search.prepare()
    for trial in front.students:
        folder = front.export(trial, tmp_path / trial.label)
        student = loaded_student(folder, teacher, None)
        candidate = Candidate(prepared, student.architecture).holding(student)
        found = Retention().measure(candidate)
        published = trial.measurements["retention"]
        assert found.value == pytest.approx(published.value, abs=1e-5)


@pytest.mark.parametrize("kind", ["convbert", "static"])
def test_a_readout_is_fitted_before_training(search: Search, teacher: Teacher, kind: str) -> None:
    own = next(one for one in search.students if one.model_type == kind)
    prepared = search.prepare()
    fitted = Retention().measure(Candidate(prepared, own).built()).value
    drawn = Candidate(prepared, own).holding(teacher.student(own))
    assert fitted > Retention().measure(drawn).value


class Best:
    """Values by which one family is best at every size."""

    def __init__(self, family: str) -> None:
        self.family = family

    def __call__(self, number: int, own: Any) -> Trial:
        from protege.objectives import Measurement

        size = (1 + own.num_hidden_layers) * own.hidden_size
        quality = size**0.3 * (1.0 if own.model_type == self.family else 0.4)
        found = {"size": Measurement(float(size)), "quality": Measurement(quality)}
        return Trial(number, own.key(), own.fields(), State.COMPLETE, found)


@pytest.mark.parametrize("best", ["bert", "convbert", "text_cnn"])
def test_the_family_that_holds_the_front_gets_most_trials(
    best: str, storage: str, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = Choice(*(one / 24 for one in range(4, 25, 4)))
    space = SearchSpace(
        layers=Range(0.25, 1.0),
        hidden=several,
        multiple_of=4,
        others=[
            OtherFamily(one, layers=Range(0.25, 1.0), hidden=several)
            for one in ("convbert", "text_cnn")
        ],
    ).of(teacher, has_data=False)
    monkeypatch.setattr("tests.search.toys.worth", Best(best))
    study = opened(storage, space)
    told = go_on(study, 30)
    after = [one.architecture["model_type"] for one in told[len(space.anchors) :]]
    assert {one.architecture["model_type"] for one in told} == {"bert", "convbert", "text_cnn"}
    assert after.count(best) >= len(after) / 2


def test_batch_norms_learn_and_a_resumed_training_ends_the_same(
    tmp_path: Path, folder: Path
) -> None:
    import numpy as np

    vit = Case("vit", Task.IMAGES).teacher()
    chance = np.random.default_rng(0)
    pictures = [chance.integers(0, 256, (12, 12, 3), dtype=np.uint8) for _ in range(60)]
    search = toy(
        folder,
        teacher=vit,
        space=SearchSpace(others=[OtherFamily("resnet", layers=0.5, hidden=0.125)]),
        objectives=[Parameters(), Retention()],
        distillation=Distillation(
            Images.of(pictures), steps=6, batch_size=8, selection=12, checkpoint_every_s=0.0
        ),
    )
    own = next(one for one in search.students if one.model_type == "resnet")
    prepared = search.prepare()
    whole = CandidateDistillation(Candidate(prepared, own), [Retention()])
    *_, _ = whole.rungs()
    path = tmp_path / "checkpoint"
    first = CandidateDistillation(Candidate(prepared, own), [Retention()], path)
    rungs: Any = first.rungs()
    next(rungs), next(rungs)
    rungs.close()
    again = CandidateDistillation(Candidate(prepared, own), [Retention()], path)
    *_, _ = again.rungs()
    assert again.losses == whole.losses
    expected = whole.published.candidate.student.model.state_dict()
    found = again.published.candidate.student.model.state_dict()
    assert all(torch.equal(found[name], one) for name, one in expected.items())
    start = Candidate(prepared, own).built().student.model.state_dict()
    moved = [name for name in start if name.endswith("running_mean")]
    assert moved
    if whole.published.step:
        assert not all(torch.equal(start[name], expected[name]) for name in moved)


def test_a_study_of_one_family_has_no_section(folder: Path) -> None:
    plain = toy(folder).run(trials=3)
    assert isinstance(plain, StudyResult)
    assert families(plain) is None
