"""Every family can be timed: each is given what it reads."""

import pytest
import torch

from protege.objectives.latency import Workload
from protege.objectives.latency.local.calls import call_of
from protege.objectives.latency.local.inputs import example_inputs
from protege.spaces.checkpoints.padding import positions_in
from tests.tiny import ZOO
from tests.zoo import EVERY, teacher_of

WORKLOAD = Workload(batch_size=2, prompt_tokens=6)


@pytest.mark.parametrize("name", EVERY)
def test_a_call_of_any_family_runs_and_is_timed(name: str) -> None:
    model = teacher_of(name).model
    new_tokens = 3 if model.can_generate() else 0
    workload = Workload(batch_size=2, prompt_tokens=6, new_tokens=new_tokens)
    with torch.inference_mode():
        sample = call_of(model, workload)()
    assert 0 < sample.prefill_wall_ms <= sample.wall_ms
    assert (sample.prefill_wall_ms < sample.wall_ms) == model.can_generate()


@pytest.mark.parametrize("name", EVERY)
def test_inputs_are_of_the_workloads_size_and_the_same_each_time(name: str) -> None:
    model = teacher_of(name).model
    first, second = example_inputs(model, WORKLOAD), example_inputs(model, WORKLOAD)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {len(value) for value in first.values()} == {2}
    if "input_ids" in first:
        assert first["input_ids"].shape == (2, 6)
        assert first["input_ids"].max() < model.config.vocab_size


def test_a_pair_encodes_once_and_then_steps_through_its_caches() -> None:
    model = ZOO["t5-text2text-generation"].teacher().model
    encoded: list[object] = []
    model.get_encoder().register_forward_hook(lambda *_: encoded.append(None))
    with torch.inference_mode():
        call_of(model, Workload(2, 6, new_tokens=4))()
    assert len(encoded) == 1


def test_positions_are_those_that_the_configuration_leaves_for_text() -> None:
    assert positions_in(ZOO["bert"].config.to_dict()) == 40
    assert positions_in(ZOO["gpt2-text-generation"].config.to_dict()) == 40
    roberta = {**ZOO["roberta-fill-mask"].config.to_dict(), "pad_token_id": 1}
    assert positions_in({**roberta, "max_position_embeddings": 514}) == 512
    assert positions_in(ZOO["t5-text2text-generation"].config.to_dict() | _UNBOUND) is None


_UNBOUND = {"max_position_embeddings": None}
