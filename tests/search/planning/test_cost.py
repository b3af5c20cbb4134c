"""What a costly phase takes is told before it begins; what cannot fit is refused in one line."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from protege.objectives import Candidate, Texts
from protege.objectives.candidate import Prepared
from protege.objectives.quality.rungs import training_of
from protege.search import Front
from protege.search.engines.engine import StudyTask
from protege.search.engines.events import Announce
from protege.search.engines.local import SerialEngine
from protege.search.planning.calibration_cost import check_calibration_cost, held_bytes
from protege.search.planning.estimate import Estimate, Rates
from protege.search.planning.heads import measure_heads
from protege.search.planning.needs import Needs
from protege.search.planning.training_cost import (
    check_training_cost,
    largest,
    of_depth,
    probe,
    probe_training,
    training_estimate,
)
from protege.search.storage.attributes import ABOUT, store_study_record, study_record
from protege.search.storage.storage import open_storage
from protege.spaces import BadInput, Cache, Choice, SearchSpace, Task, Teacher
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.blocks import Room
from protege.spaces.files.memory import resident_bytes, unmapped_bytes
from tests.objectives.candidates import retained
from tests.search.toys import distillation, toy
from tests.tiny import CASES, ZOO, texts
from tests.zoo import marked

NAMES = ["llama-causal-grouped", "bert-masked", "t5-text2text-generation", "bert-texts"]


POSITIONS = {"max_position_embeddings": 500_000}
"""Twelve million parameters more, which cost nothing to compute."""


def space_of(teacher: Teacher) -> SearchSpace:
    return SearchSpace(layers=Choice(0.5, 1.0), intermediate=Choice(0.4, 1.0)).of(teacher)


def prepared_of(teacher: Teacher, folder: Path, **changes: Any) -> Prepared:
    """Two steps on texts, whose answers are other texts where the teacher writes any."""
    writes = teacher.task is Task.TEXT_TO_TEXT
    data = Texts.of(texts(), texts()[::-1]) if writes else Texts.of(texts())
    return Prepared(teacher, Cache(folder), distillation(data=data, **changes))


def foretold(prepared: Prepared, told: list[str], memory: float | None = None) -> int:
    """The parts of a batch that training the members of `space_of` asks for."""
    prepared.stopwatch.tell = told.append
    members = list(space_of(prepared.teacher).members)
    return check_training_cost(prepared, members, worth=0.0, memory=lambda: memory)


def test_a_study_tells_of_both_phases_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = replace(CASES["bert-sentences"], fields=POSITIONS).teacher()
    own: dict[str, Any] = {"teacher": teacher, "space": space_of(teacher)}
    own["distillation"] = distillation(data=Texts.of(texts(900)), steps=5, batch_size=128)
    toy(tmp_path, **own).run(trials=2)
    lines = capsys.readouterr().err.splitlines()
    student, calibration = (line for line in lines if "about" in line)
    size = r"4x24 ffn 16, 12M weights, 5 steps"
    assert re.match(rf"largest student \({size}\): about \d+ s, peak \d+\.\d GB$", student)
    assert re.match(r"calibration \([\d,]+ tokens, 1 pass\): about \d+ s, peak", calibration)
    assert Front.read(tmp_path).about["told"] == [student, calibration]
    # gone on with, it has nothing to calibrate, and keeps what was told
    toy(tmp_path, **own).run(trials=3)
    assert "about" not in capsys.readouterr().err
    assert Front.read(tmp_path).about["told"] == [student, calibration]


def test_a_calibration_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    teacher = ZOO["bert-masked"].teacher()
    needs = Needs.of(space_of(teacher), teacher.architecture)
    sequences, told = prepared_of(teacher, tmp_path).data.learnt, list[str]()
    room = Room(free=1000, folder=tmp_path)
    given = (teacher, sequences, needs, room, told.append)
    with pytest.raises(BadInput, match=r"calibration takes about .* GB of memory and 0.0 GB are"):
        check_calibration_cost(*given, worth=0.0)
    check_calibration_cost(*given)  # nothing is told of a moment's work
    assert all("too wide for second moments" in line for line in told)


def test_the_policy_that_takes_another_ones_place_is_told_first(tmp_path: Path) -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    needs = Needs.of(space_of(teacher), teacher.architecture)
    sequences, told = prepared_of(teacher, tmp_path).data.learnt, list[str]()
    room = Room(memory=100, folder=tmp_path)
    check_calibration_cost(teacher, sequences, needs, room, told.append, worth=0.0)
    assert len(told) == 3
    stand_in = "too wide for second moments on this machine; its neurons are ranked by wanda"
    assert [line.partition(", healed")[0] for line in told[:2]] == [
        f"encoder.ffn: {stand_in}",
        f"decoder.ffn: {stand_in}",
    ]


@pytest.mark.parametrize("name", marked(NAMES))
def test_training_that_cannot_fit_is_refused(name: str, tmp_path: Path) -> None:
    teacher, told = ZOO[name].teacher(), list[str]()
    before = teacher.fingerprint
    with pytest.raises(BadInput, match=r"largest student takes about .*lower batch_size"):
        foretold(prepared_of(teacher, tmp_path), told, memory=1000)
    # the teacher's weights were moved out of the way first, and are the same
    assert told == [
        "the teacher's weights are memory-mapped from now on: training needs the memory",
        "each batch is read in 8 parts: memory",
    ]
    del vars(teacher)["fingerprint"]
    assert teacher.fingerprint == before


@pytest.mark.parametrize("name", marked(NAMES))
@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_are_read_in_as_few_parts_as_fit(
    name: str, accumulate: int, tmp_path: Path
) -> None:
    teacher, told = ZOO[name].teacher(), list[str]()
    prepared = prepared_of(teacher, tmp_path, accumulate=accumulate)
    assert foretold(prepared, told) == accumulate
    members = list(space_of(teacher).members)
    member = largest(members, teacher)
    assert member is not None
    held = held_bytes(teacher, Needs.of_members(members, teacher.architecture))
    whole = training_estimate(prepared, member, Rates(1e-6, 1e-10, 2e-10), held)
    # room for half of the activations, but not for three quarters
    found = foretold(prepared, told, memory=whole.held - 0.4 * whole.activations)
    assert found == 2 * accumulate
    assert f"each batch is read in {found} parts: memory" in told


class Noting(SerialEngine):
    """An engine that notes the parts of a batch that its jobs are asked for."""

    parts: int = 0

    def start(self, task: StudyTask, announce: Announce) -> None:
        self.parts = task.prepared.batch_parts
        super().start(task, announce)


def test_parts_of_a_batch_are_asked_for_by_every_trial_and_on_resume(tmp_path: Path) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    whole = prepared_of(teacher, tmp_path / "whole")
    parted = replace(prepared_of(teacher, tmp_path / "parted"), batch_parts=4)
    half = teacher.architecture.scaled(layers=0.5)
    assert training_of(Candidate(parted, half).built()).settings.accumulate == 4
    one, other = (retained(Candidate(shared, half)) for shared in (whole, parted))
    assert other.value == pytest.approx(one.value, rel=1e-3)
    search, engine = toy(tmp_path / "run"), Noting()
    search.run(trials=3, engine=engine)
    assert engine.parts == 1
    study = optuna.load_study(study_name="toy", storage=open_storage(search.place))
    store_study_record(study, ABOUT, study_record(study, ABOUT) | {"parts": 4})
    toy(tmp_path / "run").run(trials=4, engine=engine)
    assert engine.parts == 4
    assert Front.read(search.place).about["parts"] == 4


def test_it_leaves_every_draw_and_the_teacher_as_they_were(tmp_path: Path) -> None:
    teacher, told = ZOO["llama-causal-grouped"].teacher(), list[str]()
    before, state = teacher.fingerprint, torch.random.get_rng_state()
    foretold(prepared_of(teacher, tmp_path), told)
    assert len(told) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    del vars(teacher)["fingerprint"]
    assert teacher.fingerprint == before
    modules = list(teacher.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


@pytest.mark.parametrize("name", marked(NAMES))
def test_activations_of_few_layers_tell_those_of_many(name: str, tmp_path: Path) -> None:
    teacher = ZOO[name].teacher()
    prepared, own = prepared_of(teacher, tmp_path), teacher.architecture
    shallow = probe_training(prepared, own.scaled(layers=0.5))
    whole = probe_training(prepared, own)
    assert shallow.saved_bytes < whole.saved_bytes
    # what two layers tell is what all of them keep
    every = probe(prepared, of_depth(own, own.num_hidden_layers, teacher))
    assert whole.saved_bytes == pytest.approx(every.saved_bytes, rel=0.15)
    member = own.scaled(intermediate=0.4)
    assert probe_training(prepared, member).saved_bytes < whole.saved_bytes
    rates = Rates(1e-6, 1e-10, 2e-10)
    plain = training_estimate(prepared, own, rates, 0.0)
    weights = teacher.model.num_parameters()
    assert plain.bytes == pytest.approx(20 * weights + whole.saved_bytes)
    assert training_estimate(prepared, own, rates, 5e9).held == pytest.approx(plain.bytes)


@pytest.mark.parametrize("by", ["ablation", "gradient"])
def test_a_table_of_heads_tells_what_it_takes(by: HeadsBy) -> None:
    told: list[str] = []
    measure_heads(ZOO["bert-texts"].teacher(), texts(), by, 60, tell=told.append)
    assert told == []  # nothing is told of a moment's work
    teacher = replace(CASES["bert-texts"], fields=POSITIONS).teacher()
    measure_heads(teacher, texts(900), by, 5000, tell=told.append)
    assert len(told) == 1
    assert re.match(r"calibration \([\d,]+ tokens, 1 pass\): about \d+ s, peak", told[0])


def test_the_largest_student_has_the_most_weights() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    members = list(space_of(teacher).members)
    found = largest(members, teacher)
    assert found is not None
    others = [one for one in members if one != teacher.architecture]
    assert found.num_hidden_layers == 4
    assert found in others
    assert largest([teacher.architecture], teacher) is None


def test_an_estimate_is_checked_by_what_the_kernel_cannot_drop() -> None:
    Estimate("calibration", 1000.0, 1.0, mapped=900.0).check(100.0, "read less")
    with pytest.raises(BadInput, match=r"calibration takes about 0.0 GB .* are free; read less"):
        Estimate("calibration", 1000.0, 1.0, mapped=899.0).check(100.0, "read less")


def test_the_peak_that_is_told_leaves_out_mapped_files_that_do_not_fit() -> None:
    estimate = Estimate("calibration", 40e9, 1.0, mapped=30e9)
    whole, short, shortest = (
        float(re.findall(r"peak ([\d.]+) GB", estimate.line(free))[0]) for free in (1e12, 20e9, 1e9)
    )
    resident_files = (resident_bytes() - unmapped_bytes()) / 1e9
    assert whole - short == pytest.approx(20 + resident_files, abs=0.3)
    assert short - shortest == pytest.approx(10, abs=0.3)
