from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from protege.objectives.latency import (
    Grade,
    LocalCPU,
    Plan,
    SavedModel,
    Unmeasured,
    Workload,
    compare,
)
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.timing.comparison import timed
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint

Blueprints = Callable[[int], Blueprint]
SHORT = Workload(prompt_tokens=16)


@dataclass
class Simulator:
    """A target whose every model takes its number of layers in milliseconds.

    `preemptions` are those of each process in turn, the last one's for all that follow.
    """

    threads: int = 1
    preemptions: tuple[int, ...] = (0,)
    wall_factor: float = 1.0
    asked: list[Sequence[Model]] = field(default_factory=list)

    @property
    def label(self) -> str:
        return "simulated"

    def description(self) -> dict[str, str]:
        return {"simulated": "yes"}

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        preemptions = self.preemptions[min(len(self.asked), len(self.preemptions) - 1)]
        self.asked.append(models)
        layers = [model.configuration().num_hidden_layers for model in models]  # type: ignore[union-attr]
        row = tuple(
            Sample(n * self.wall_factor, float(n), preemptions, n / 4 * self.wall_factor, n / 4)
            for n in layers
        )
        return Trace(
            tuple(float(n * workload.batch_size) for n in layers), (row,) * plan.least_pairs
        )


def test_models_are_told_on_the_scale_of_the_first(encoder: Blueprints) -> None:
    first, second, third = compare([encoder(4), encoder(2), encoder(1)], SHORT, Simulator())
    assert (first.latency_ms, first.ratio, first.spread_ms) == (4.0, 1.0, 0.0)
    assert (second.latency_ms, second.ratio) == (2.0, 0.5)
    assert (third.latency_ms, third.ratio) == (1.0, 0.25)
    assert third.spread_ms == pytest.approx(0.015)
    assert [one.floor for one in (first, second, third)] == [False, True, True]


def test_prefill_and_steps_are_told_apart(decoder: Blueprints) -> None:
    workload = Workload(1, 8, new_tokens=3)
    _, student = compare([decoder(4), decoder(2)], workload, Simulator())
    assert student.latency_ms == 2.0
    assert student.parts_ms == {"prefill": 0.5, "per_token": 0.5}


def test_two_processes_do_where_they_agree(encoder: Blueprints) -> None:
    simulator = Simulator()
    timed([encoder(2), encoder(1)], SHORT, simulator, Plan())
    assert len(simulator.asked) == 2


def test_no_process_begins_that_would_pass_the_seconds(encoder: Blueprints) -> None:
    simulator = Simulator()
    never_agree = Plan(agree_within=-1.0, differ_beyond=-1.0)
    timed([encoder(2)], SHORT, simulator, never_agree)
    assert len(simulator.asked) == 5
    timed([encoder(2)], SHORT, simulator, replace(never_agree, candidate_s=0.0))
    assert len(simulator.asked) == 5 + 2


def test_one_thread_among_noise_is_told_by_its_processor_time(encoder: Blueprints) -> None:
    simulator = Simulator(preemptions=(9,), wall_factor=7.0)
    timing = timed([encoder(4), encoder(1)], SHORT, simulator, Plan())
    assert (timing.grade, timing.on_cpu) == (Grade.C, True)
    assert timing.reference_ms() == 4.0
    assert timing.ratio() == 0.25


def test_threads_among_noise_are_measured_again_until_it_passes(encoder: Blueprints) -> None:
    plan = Plan(back_off_s=(0.0, 0.0))
    passing = Simulator(threads=2, preemptions=(9, 9, 0))
    assert timed([encoder(2)], SHORT, passing, plan).grade is Grade.A
    assert len(passing.asked) == 4


def test_threads_among_lasting_noise_are_unreliable_after_three_tries(encoder: Blueprints) -> None:
    plan = Plan(back_off_s=(0.0, 0.0))
    lasting = Simulator(threads=2, preemptions=(9,))
    timing = timed([encoder(2)], SHORT, lasting, plan)
    assert (timing.grade, timing.on_cpu) == (Grade.UNRELIABLE, False)
    assert len(lasting.asked) == 3 * 2


def test_an_encoder_cannot_be_asked_for_new_tokens(encoder: Blueprints) -> None:
    complaint = "BertModel generates no tokens: new_tokens must be 0, not 5"
    with pytest.raises(BadInput, match=complaint):
        compare([encoder(1), encoder(1)], Workload(new_tokens=5), Simulator())


def test_one_model_alone_is_timed_and_no_model_is_not(encoder: Blueprints) -> None:
    told: list[int] = []
    (alone,) = compare([encoder(3)], SHORT, Simulator(), announce=told.append)
    assert (alone.latency_ms, alone.ratio, told) == (3.0, 1.0, [0])
    assert alone.spread_ms > 0
    with pytest.raises(BadInput, match="expected one or more"):
        compare([], SHORT, Simulator())


def test_each_model_is_announced_and_its_tails_told_where_calls_are_enough(
    encoder: Blueprints,
) -> None:
    told: list[int] = []
    models = [encoder(4), encoder(2), encoder(1)]
    found = compare(models, SHORT, Simulator(), Plan().with_samples(90), told.append)
    assert told == [1, 2]
    assert [set(one.tails_ms) for one in found] == [{90}] * 3
    assert [one.tails_ms[90] for one in found] == [4.0, 2.0, 1.0]
    assert [one.over(found[0], 90) for one in found] == [1.0, 0.5, 0.25]
    first, brief = compare(models[:2], SHORT, Simulator())
    assert brief.tails_ms == {}
    assert brief.over(first, 50) == 0.5
    with pytest.raises(Unmeasured, match="percentile 90 cannot be estimated"):
        brief.over(first, 90)


def test_a_checkpoint_is_compared_with_a_blueprint_on_this_machine(
    decoder: Blueprints, tmp_path: Path, brief: Plan
) -> None:
    decoder(1).build().save_pretrained(tmp_path)
    models: list[Model] = [decoder(2), SavedModel.at(tmp_path)]
    teacher, student = compare(models, Workload(1, 8, new_tokens=2), LocalCPU(), brief)
    assert teacher.ratio == 1.0
    assert student.latency_ms == pytest.approx(student.ratio * teacher.latency_ms)
    assert all(part_ms > 0 for part_ms in student.parts_ms.values())
