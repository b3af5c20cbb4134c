from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.job import MeasuringJob, TorchSettings
from protege.objectives.latency.local.calls import call_of, traced
from protege.spaces.models.blueprint import Blueprint


def seen_by(blueprint: Blueprint, workload: Workload) -> list[dict[str, Any]]:
    """What the model's forward is given in one call, forward by forward."""
    seen: list[dict[str, Any]] = []
    model = blueprint.build()
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(dict(kwargs)), with_kwargs=True
    )
    with torch.inference_mode():
        call_of(model, workload)()
    return seen


def test_an_encoder_sees_the_whole_batch_once(encoder: Callable[[int], Blueprint]) -> None:
    (only,) = seen_by(encoder(1), Workload(2, 8))
    assert only["input_ids"].shape == only["attention_mask"].shape == (2, 8)
    assert only["input_ids"].dtype == torch.int64
    assert 0 <= only["input_ids"].min() <= only["input_ids"].max() < 40


def test_every_call_is_of_the_same_tokens(encoder: Callable[[int], Blueprint]) -> None:
    first, second = (seen_by(encoder(layers), Workload(2, 8))[0] for layers in (1, 2))
    assert torch.equal(first["input_ids"], second["input_ids"])


def test_a_decoder_prefills_and_then_steps_through_its_cache(
    decoder: Callable[[int], Blueprint],
) -> None:
    prefill, *steps = seen_by(decoder(1), Workload(2, 8, new_tokens=3))
    assert prefill["input_ids"].shape == (2, 8)
    assert [step["input_ids"].shape for step in steps] == [(2, 1)] * 3
    assert [step["attention_mask"].shape for step in steps] == [(2, 9), (2, 10), (2, 11)]
    assert steps[-1]["past_key_values"].get_seq_length() == 11


def test_decoding_is_greedy(decoder: Callable[[int], Blueprint]) -> None:
    torch.manual_seed(0)
    fed: list[Tensor] = []
    model: Any = decoder(2).build()
    model.generation_config.eos_token_id = None
    hook = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: fed.append(kwargs["input_ids"]), with_kwargs=True
    )
    with torch.inference_mode():
        call_of(model, Workload(1, 6, new_tokens=4))()
        hook.remove()
        prompt, *tokens = fed
        mask = torch.ones_like(prompt)
        expected = model.generate(
            prompt, attention_mask=mask, do_sample=False, max_new_tokens=4, pad_token_id=0
        )
    assert torch.equal(torch.cat(tokens, 1), expected[:, prompt.shape[1] :])


def test_a_trace_holds_one_sample_of_each_model_a_round(
    encoder: Callable[[int], Blueprint], brief: Plan
) -> None:
    threads = torch.get_num_threads()
    trace = traced(MeasuringJob((encoder(1), encoder(2)), Workload(1, 4), TorchSettings(), brief))
    torch.set_num_threads(threads)
    assert len(trace.cold_ms) == 2
    assert len(trace.rounds) >= brief.least_pairs
    for row in trace.rounds:
        assert len(row) == 2
        assert all(0 < sample.prefill_wall_ms <= sample.wall_ms for sample in row)
