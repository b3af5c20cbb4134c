"""Call models under PyTorch and read the clocks; runs in one fresh process per trace."""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.device.environment import snapshot
from protege.objectives.latency.device.loop import Sample, timed
from protege.objectives.latency.device.main import arrange
from protege.objectives.latency.job import Job, Setting, Trace
from protege.objectives.latency.local.gpu import (
    Watch,
    peak_bytes,
    queue_bound,
    state,
    watch_on,
)
from protege.objectives.latency.local.inputs import example_inputs
from protege.objectives.latency.models import Model, built
from protege.objectives.latency.workload import Workload

Call = Callable[[], Sample]


def traced(job: Job) -> Trace:
    """Build the job's models in this process and time them alternately."""
    start_s = time.perf_counter()
    setting = job.setting
    arranged = arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    models = [_ready(model, setting) for model in job.models]
    few_tokens = min(job.workload.new_tokens, job.plan.warm_up_tokens)
    brief = replace(job.workload, new_tokens=few_tokens)
    with torch.inference_mode():
        calls = [call_of(model, job.workload) for model in models]
        compiling_ms: tuple[float, ...] = ()
        if setting.runtime == "compile":
            compiling_ms = _compiled(calls)
            start_s = time.perf_counter()  # compilation does not count against the time limit
        before = _state(setting)
        cold_ms, rounds = timed(
            [call_of(model, brief) for model in models], calls, job.plan, start_s
        )
    cold_ms = compiling_ms or cold_ms
    trace = Trace(cold_ms, rounds, {"before": before, "after": _state(setting)}, arranged)
    return replace(trace, environment={**trace.environment, **_of_device(trace, setting.device)})


def _compiled(calls: Sequence[Call]) -> tuple[float, ...]:
    """Call each model twice, after which `torch.compile` has recompiled for dynamic lengths.

    Returns:
        The wall time in ms of each model's very first prompt.
    """
    cold_ms = tuple([call().prefill_wall_ms for call in calls])
    for call in calls:
        call()
    return cold_ms


def _state(setting: Setting) -> dict[str, Any]:
    """Return the state of the machine, and of its GPU if models run there."""
    of_device = state(setting.device)
    return snapshot() | ({"gpu": of_device} if of_device else {})


def _of_device(trace: Trace, device: str) -> dict[str, Any]:
    """Return the share of queue-bound calls and the peak memory of a GPU; empty for a CPU."""
    if device == "cpu":
        return {}
    # only with CUDA events is processor time the time to fill the queue
    waits = {"queue_bound": queue_bound(trace.samples)} if device == "cuda" else {}
    return waits | peak_bytes(device)


def _ready(model: Model, setting: Setting) -> PreTrainedModel:
    """Build the module on the setting's device, in its precision, compiled if asked."""
    module: PreTrainedModel = built(model).to(setting.device, getattr(torch, setting.precision))  # type: ignore[arg-type]
    if setting.runtime == "compile":
        module.compile()
    return module


def call_of(model: PreTrainedModel, workload: Workload) -> Call:
    """Return a call of the model on its device, with inputs that are equal in every process."""
    given = example_inputs(model, workload)
    inputs = {name: _like(model, value) for name, value in given.items()}
    watch = watch_on(model.device.type)
    if not model.can_generate():
        return _Forward(model, inputs, watch)
    if model.config.is_encoder_decoder:
        return _EncoderDecoder(model, inputs, workload.new_tokens, watch)
    return _Decoder(model, inputs["input_ids"], workload.new_tokens, watch)


def _like(model: PreTrainedModel, value: Tensor) -> Tensor:
    """Move an input to the model's device, and to its dtype if it is floating-point."""
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


@dataclass(frozen=True)
class _Forward:
    """One forward pass of a whole batch."""

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    watch: Watch

    def __call__(self) -> Sample:
        start = self.watch.start()
        self.model(**self.inputs)
        end = self.watch.now()
        return self.watch.sample(start, end, end)


@dataclass(frozen=True)
class _EncoderDecoder:
    """One encoder pass with a first decoder token, then one greedy step per new token."""

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    new_tokens: int
    watch: Watch

    def __call__(self) -> Sample:
        rows = len(next(iter(self.inputs.values())))
        begin = self.model.config.decoder_start_token_id or 0
        token = torch.full((rows, 1), begin, dtype=torch.int64, device=self.model.device)
        start = self.watch.start()
        seen = self.model(**self.inputs, decoder_input_ids=token, use_cache=True)
        prefilled = self.watch.now()
        mask = {name: m for name, m in self.inputs.items() if name == "attention_mask"}
        for _ in range(self.new_tokens):
            seen = self.model(
                encoder_outputs=(seen.encoder_last_hidden_state,),
                decoder_input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                past_key_values=seen.past_key_values,
                use_cache=True,
                **mask,
            )
        return self.watch.sample(start, prefilled, self.watch.now())


@dataclass(frozen=True)
class _Decoder:
    """A prefill of `ids`, `(batch, tokens)`, then one greedy step per new token."""

    model: PreTrainedModel
    ids: Tensor
    new_tokens: int
    watch: Watch

    def __call__(self) -> Sample:
        batch_size, tokens = self.ids.shape
        mask = self.ids.new_ones(batch_size, tokens + self.new_tokens)
        last_only = {"logits_to_keep": 1} if _accepts(self.model, "logits_to_keep") else {}
        start = self.watch.start()
        seen = self.model(
            input_ids=self.ids, attention_mask=mask[:, :tokens], use_cache=True, **last_only
        )
        prefilled = self.watch.now()
        for length in range(tokens + 1, tokens + self.new_tokens + 1):
            seen = self.model(
                input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                attention_mask=mask[:, :length],
                past_key_values=seen.past_key_values,
                use_cache=True,
            )
        return self.watch.sample(start, prefilled, self.watch.now())


def _accepts(model: PreTrainedModel, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters
