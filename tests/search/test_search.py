import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.samplers import NSGAIISampler, RandomSampler

from protege.objectives import Latency, LocalCPU, Memory, Retention, Workload
from protege.objectives.latency import Plan
from protege.objectives.latency.runtimes.programs import Programs
from protege.search import Front, Search, State
from protege.search.running.racing import Race
from protege.spaces import Activation, BadInput, Choice, Greedy, Range, SearchSpace, Teacher
from tests.search import toys
from tests.search.toys import NARROW, PLAIN, WIDE, distillation, forwards, toy
from tests.tiny import texts

BRIEF = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


def artifacts(front: Front) -> set[str]:
    return {path.name for path in (front.folder / "artifacts").iterdir()}


def test_a_search_measures_distils_and_hands_back_a_front(folder: Path, teacher: Teacher) -> None:
    front = toy(folder, teacher=teacher, space=WIDE, race=None).run(trials=6)
    assert [trial.number for trial in front.trials] == list(range(6))
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    assert front.teacher is not None
    assert front.teacher.measurements["retention"].value == pytest.approx(1.0)
    assert 0 < front.hypervolume < 1
    students = [trial for trial in front.trials if trial is not front.teacher]
    naive = next(trial for trial in students if trial.architecture["width_policy"] == "first")
    assert all("distil" in trial.seconds for trial in students)
    # the seed recipe is only cut, all others are healed too
    assert "build" in naive.seconds
    assert "weight reconstruction" not in naive.seconds
    assert all("weight reconstruction" in trial.seconds for trial in students if trial is not naive)
    assert {trial.training and trial.training.steps for trial in students} == {2}
    assert front.teacher.training is None


def test_a_small_space_is_tried_whole_and_then_the_search_ends(front: Front) -> None:
    assert len(front.trials) == 9
    assert len({trial.key for trial in front.trials}) == 9


def test_a_space_smaller_than_the_trials_asked_for_ends_the_run(
    folder: Path, teacher: Teacher
) -> None:
    two = SearchSpace(intermediate=Choice(0.4, 1.0))
    front = toy(folder, teacher=teacher, space=two).run(trials=50)
    assert len(front.trials) == 3
    assert front.about["ended"] == "all 3 students of the space were tried"


def test_one_seed_gives_one_study(folder: Path, teacher: Teacher) -> None:
    def values(name: str, seed: int) -> list[tuple[str, float]]:
        found = toy(folder / name, teacher=teacher, space=WIDE, seed=seed).run(trials=3).trials
        return [(trial.key, trial.measurements["retention"].value) for trial in found]

    assert values("one", 0) == values("two", 0)
    assert values("three", 1)[2:] != values("one", 0)[2:]


@pytest.mark.parametrize("sampler", [RandomSampler(seed=0), NSGAIISampler(seed=0)], ids=str)
def test_another_sampler_is_taken_at_its_word(
    folder: Path, teacher: Teacher, sampler: object
) -> None:
    plain: dict[str, Any] = {"space": PLAIN, "objectives": [Memory()]}
    search = toy(folder, teacher=teacher, sampler=sampler, **plain)
    assert len({trial.key for trial in search.run(trials=7).trials}) == 7


def test_a_policy_that_looks_at_data_needs_some(folder: Path, teacher: Teacher) -> None:
    asking = replace(NARROW, width_policy=Activation(), layer_policy=Greedy())
    message = r"layer policy 'greedy', width policy 'activation' needs data and there is none"
    with pytest.raises(BadInput, match=message):
        toy(folder, teacher=teacher, space=asking, objectives=[Memory()])
    assert not any(folder.iterdir())


def test_a_search_without_data_takes_policies_that_look_at_none(
    folder: Path, teacher: Teacher
) -> None:
    front = toy(folder, teacher=teacher, space=NARROW, objectives=[Memory()]).run(trials=9)
    chosen = {t.architecture["width_policy"] for t in front.trials}
    assert chosen == {"first", "magnitude"}
    assert {t.architecture["healing"] for t in front.trials} == {"none"}


def test_weights_are_kept_of_the_front_and_of_nobody_else(front: Front) -> None:
    assert artifacts(front) == {f"trial-{trial.number:05d}" for trial in front.members}


def test_over_a_limit_a_student_is_not_trained(folder: Path, teacher: Teacher) -> None:
    limit = Memory(limit=0.06)
    front = toy(folder, teacher=teacher, objectives=[limit, Retention()]).run(trials=9)
    screened = [trial for trial in front.trials if trial.state is State.SCREENED]
    assert screened
    for trial in screened:
        assert trial.measurements["memory_mb"].value > 0.06
        assert "distil" not in trial.seconds
        assert "is beyond the limit 0.06" in trial.reason
    assert all(trial.measurements["memory_mb"].value <= 0.06 for trial in front.members)


def test_a_limit_that_no_student_meets_is_refused_with_the_least_there_is(
    folder: Path, teacher: Teacher, front: Front
) -> None:
    least = min(trial.measurements["memory_mb"].value for trial in front.trials)
    search = toy(folder, teacher=teacher, objectives=[Memory(limit=0.001), Retention()])
    message = f"memory_mb limit 0.001: no student can meet it; .* reaches {least:.4g}"
    with forwards() as calls, pytest.raises(BadInput, match=message):
        search.run(trials=3)
    assert calls == []
    assert not (folder / "study.db").exists()


@pytest.mark.parametrize("race", [None, Race()])
def test_training_that_diverges_costs_its_trial_and_not_the_study(
    folder: Path, teacher: Teacher, race: Race | None
) -> None:
    wild = distillation(learning_rate=1e30)
    front = toy(folder, teacher=teacher, distillation=wild, race=race).run(trials=4)
    states = [trial.state for trial in front.trials]
    assert states == [State.COMPLETE, State.FAILED, State.FAILED, State.FAILED]
    assert all("is nan, not a finite number" in trial.reason for trial in front.trials[1:])
    assert front.members == [front.teacher]


def test_training_that_ruins_the_last_step_costs_its_trial_and_not_the_study(
    folder: Path, teacher: Teacher
) -> None:
    wild = distillation(learning_rate=1e30, steps=1)
    front = toy(folder, teacher=teacher, distillation=wild).run(trials=3)
    assert [trial.state for trial in front.trials[1:]] == [State.FAILED, State.FAILED]


@pytest.mark.parametrize("objectives", [[], [Memory(), Memory(precision="int8")]])
def test_objectives_are_one_at_least_and_of_different_names(
    folder: Path, teacher: Teacher, objectives: list[Memory]
) -> None:
    with pytest.raises(BadInput, match="expected one or more with distinct names; label="):
        toy(folder, teacher=teacher, objectives=objectives)


def test_two_objectives_of_a_kind_are_set_apart_by_a_label(folder: Path, teacher: Teacher) -> None:
    pair = [Memory(), Memory(precision="int8", label="int8")]
    front = toy(folder, teacher=teacher, objectives=pair).run(trials=3)
    assert list(front.objectives.names) == ["memory_mb", "memory_int8_mb"]
    whole, quarter = (front.trials[1].measurements[name].value for name in front.objectives.names)
    assert quarter == pytest.approx(whole / 4)


@pytest.mark.parametrize("label", ["two words", "a-b", "é!"])
@pytest.mark.parametrize("kind", [Memory, lambda label: Latency(LocalCPU(), label=label)])
def test_a_label_is_a_plain_word(kind: Callable[..., Any], label: str) -> None:
    with pytest.raises(BadInput, match="expected letters, digits and underscores"):
        kind(label=label)


def test_what_a_teacher_answered_is_remembered_for_the_next_run(
    folder: Path, teacher: Teacher
) -> None:
    toy(folder, teacher=teacher).run(trials=2)
    assert {path.name.partition("-")[0] for path in (folder / "cache").iterdir()} >= {"targets"}
    with forwards() as calls:
        toy(folder, teacher=teacher).run(trials=3)
    assert teacher.model not in calls


def test_confirming_measures_an_exported_student_from_its_files(
    folder: Path, teacher: Teacher
) -> None:
    latency = Latency(LocalCPU(threads=1), Workload(prompt_tokens=4), plan=BRIEF)
    two = SearchSpace(layers=Choice(0.25, 1.0))
    search = toy(folder, teacher=teacher, space=two, objectives=[latency, Retention()])
    front = search.run(trials=2)
    student = next(trial for trial in front.members if trial is not front.teacher)
    figures = search.confirm(front.export(student))
    assert set(figures) == {"latency_ms", "speedup", "retention", "unseen_retention"}
    assert figures["latency_ms"] > 0
    retained = student.measurements["retention"].value
    assert figures["retention"] == pytest.approx(retained, abs=1e-6)
    # on other texts, which the search never saw
    assert figures["unseen_retention"] == pytest.approx(retained, abs=0.2)
    assert abs(figures["unseen_retention"] - retained) > 1e-5


PAGE = """
from protege.objectives import Distillation, Latency, LocalCPU, Retention, Texts, Workload
from protege.search import Search
from protege.spaces import Range, SearchSpace, Teacher

search = Search(
    name="minilm-cpu",
    teacher=Teacher.load("{teacher}"),
    space=SearchSpace(
        layers=Range(0.3, 1.0), hidden=Range(0.5, 1.0), intermediate=Range(0.25, 1.0)
    ),
    distillation=Distillation(Texts.from_file("corpus.txt"), steps=2),
    objectives=[
        Latency(LocalCPU(threads=1), Workload(batch_size=1, prompt_tokens=16), limit=1000),
        Retention(),
    ],
    storage="sqlite:///runs/minilm-cpu/study.db",
)
front = search.run(trials=4)
front.report("runs/minilm-cpu/report")
front.pick(latency_ms=1000).export("students/minilm-8ms")
"""


def test_the_intended_use_runs_as_it_is_written(
    folder: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("corpus.txt").write_text("\n".join(texts()), encoding="utf-8")
    Path("example.py").write_text(PAGE.format(teacher=teacher_folder), encoding="utf-8")
    runpy.run_path("example.py")
    assert Path("runs/minilm-cpu/report/index.html").read_text(encoding="utf-8")
    assert Path("students/minilm-8ms/config.json").exists()


def test_a_run_lives_in_the_folder_of_its_name_unless_told_otherwise(
    folder: Path, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    search = Search("mine", teacher, SearchSpace(layers=Range(0.5, 1.0)), [Memory()])
    front = search.run(trials=2)
    assert {"study.db", "front.csv"} <= {path.name for path in Path("runs/mine").iterdir()}
    assert front.folder.resolve() == Path("runs/mine").resolve()


def test_a_study_does_not_touch_its_teacher(folder: Path) -> None:
    own = toys.teacher()
    before = {name: tensor.clone() for name, tensor in own.model.state_dict().items()}
    toy(folder, teacher=own, space=WIDE).run(trials=3)
    after = own.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.slow
def test_two_runtimes_are_two_objectives_of_one_study(folder: Path, teacher: Teacher) -> None:
    pytest.importorskip("onnxruntime")
    workload = Workload(prompt_tokens=4)
    exported = LocalCPU(runtime="onnxruntime", programs=Programs(folder / "programs"))
    objectives = [
        Latency(LocalCPU(), workload, plan=BRIEF),
        Latency(exported, workload, plan=BRIEF, label="onnx"),
        Retention(),
    ]
    front = toy(folder, teacher=teacher, objectives=objectives).run(trials=2)
    assert front.objectives.names == ["latency_ms", "latency_onnx_ms", "retention"]
    for trial in front.trials:
        eager, onnx = (trial.measurements[name] for name in front.objectives.names[:2])
        assert 0 < onnx.value < eager.value  # without PyTorch's dispatch there is little left
        assert onnx.details["target"] == "onnxruntime, 1 thread"
    assert "latency_onnx_ms" in front.table
    assert "Latency onnx (ms)" in front.report().read_text(encoding="utf-8")


def test_two_latencies_of_one_name_are_refused(folder: Path, teacher: Teacher) -> None:
    twice = [Latency(LocalCPU()), Latency(LocalCPU(priority="high"))]
    with pytest.raises(BadInput, match="with distinct names"):
        toy(folder, teacher=teacher, objectives=twice)
