"""A study measures what its students are made by, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from protege.search.planning.calibrating import calibrate
from protege.search.planning.needs import Needs
from protege.spaces import Calibration, Choice, Greedy, SearchSpace, Surgeon, Taylor, Teacher
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.residual.states import ResidualStates
from tests.objectives.distillation.taught import asked as questions_of
from tests.tiny import ZOO, inputs_of

DEFAULTS: dict[str, Any] = {
    "layer_policy": Greedy(),
    "width_policy": Surgeon(),
    "healing": "sequential",
}


def needs_of(teacher: Teacher, **declared: Any) -> Needs:
    space = SearchSpace(**{"multiple_of": 4, **DEFAULTS, **declared}).of(teacher)
    return Needs.of(space, teacher.architecture)


def test_only_layers_need_no_ranks_and_no_second_moments() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    found = needs_of(teacher, layers=Choice(0.5, 1.0))
    assert (found.criteria, found.heads_by, found.grams) == ([], [], [])
    assert (found.layers, found.depths, found.streams) == (["greedy"], {"decoder": 2}, True)


def test_each_axis_asks_for_its_own() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    found = needs_of(teacher, intermediate=Choice(0.5, 1.0))
    assert (found.criteria, found.grams, found.layers) == (["surgeon"], ["ffn"], [])
    found = needs_of(teacher, heads=Choice(0.5, 1.0))
    assert (found.criteria, found.heads_by) == (["wanda"], ["wanda"])
    assert found.grams == ["cross_heads", "heads"]
    found = needs_of(teacher, hidden=Choice(0.5, 1.0), width_policy=Taylor())
    assert (found.criteria, found.grams) == (["taylor"], ["hidden"])


def test_heads_that_follow_the_width_are_ranked_with_it() -> None:
    found = needs_of(ZOO["bert-masked"].teacher(), hidden=Choice(0.5, 1.0))
    assert {"heads", "hidden"} <= set(found.grams)
    assert found.heads_by == ["wanda"]


def test_a_pair_climbs_each_ladder_as_far_as_its_students_go() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    assert needs_of(teacher, layers=Choice(0.5, 1.0)).depths == {"encoder": 2, "decoder": 3}


def test_no_pass_is_made_for_a_ladder_that_nobody_climbs() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    runs: list[None] = []
    teacher.model.register_forward_hook(lambda *_: runs.append(None))
    given = [inputs_of(teacher)]
    fewest: list[dict[str, int]] = [{}, {"decoder": 3}, {"encoder": 3, "decoder": 3}]
    counts = []
    for depths in (*fewest, {"encoder": 4, "decoder": 3}):
        runs.clear()
        Calibration.measured(teacher, given, CalibrationPlan(layers=["greedy"], depths=depths))
        counts.append(len(runs))
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 4
    assert counts[-1] == 1  # the pass over the data


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("llama-causal-grouped", {"layers": Choice(0.5, 1.0), "intermediate": Choice(0.5, 1.0)}),
        (
            "t5-text2text-generation",
            {"decoder_layers": Choice(0.4, 1.0), "heads": Choice(0.5, 1.0)},
        ),
        ("bert-masked", {"layers": Choice(0.5, 1.0), "hidden": Choice(0.5, 1.0)}),
        ("mixtral-text-generation", {"layers": Choice(0.5, 1.0), "experts": Choice(0.5, 1.0)}),
        ("gpt2-text-generation", {"layers": Choice(0.25, 0.75), "intermediate": Choice(0.5, 1.0)}),
    ],
)
def test_students_are_the_same_as_by_a_calibration_of_everything(
    name: str, declared: dict[str, Any]
) -> None:
    teacher = ZOO[name].teacher()
    space = SearchSpace(**{"multiple_of": 4, **DEFAULTS, **declared}).of(teacher)
    needs, batch = Needs.of(space, teacher.architecture), inputs_of(teacher)
    streams = ResidualStates.of(teacher, batch)
    every = Calibration.of(teacher, [batch])
    plan = CalibrationPlan(needs.heads_by, needs.criteria, needs.grams, needs.layers, needs.depths)
    lean = Calibration.measured(teacher, [batch], plan)
    assert len(lean.importance) < len(every.importance)
    for member in space.members:
        one, other = (
            teacher.student(member, replace(known, streams=streams)) for known in (lean, every)
        )
        assert one.kept == other.kept
        for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def test_a_study_reads_its_sequences_in_every_pass() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    needs = needs_of(teacher, intermediate=Choice(0.5, 1.0))
    asked = questions_of(teacher)
    found = calibrate(teacher, asked, needs, lambda _: None)
    assert {"decoder.ffn.gram", "decoder.ffn.surgeon"} <= set(found.importance)
    assert not {"hidden.gram", "decoder.heads.gram"} & set(found.importance)
