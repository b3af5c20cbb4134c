"""Calling a model and reading the clocks; runs in a process of its own, one for each trace."""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.device.environment import snapshot
from protege.objectives.latency.device.loop import Clocks, Sample, sample_of, timed
from protege.objectives.latency.device.main import arrange
from protege.objectives.latency.inputs import example_inputs
from protege.objectives.latency.job import Job, Setting, Trace
from protege.objectives.latency.models import Model, built
from protege.objectives.latency.workload import Workload

Call = Callable[[], Sample]


def traced(job: Job) -> Trace:
    """Build the job's models in this process and time them by turns."""
    start_s = time.perf_counter()
    setting = job.setting
    arranged = arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    models = [_ready(model, setting) for model in job.models]
    few_tokens = min(job.workload.new_tokens, job.plan.warm_up_tokens)
    brief = replace(job.workload, new_tokens=few_tokens)
    before = snapshot()
    with torch.inference_mode():
        cold_ms, rounds = timed(
            [call_of(model, brief) for model in models],
            [call_of(model, job.workload) for model in models],
            job.plan,
            start_s,
        )
    return Trace(cold_ms, rounds, {"before": before, "after": snapshot()}, arranged)


def _ready(model: Model, setting: Setting) -> PreTrainedModel:
    """The module as it is to run."""
    module: PreTrainedModel = built(model).to(getattr(torch, setting.precision))
    if setting.runtime == "compile":
        module.compile()
    return module


def call_of(model: PreTrainedModel, workload: Workload) -> Call:
    """One call of the model, on inputs that are the same in every process."""
    inputs = example_inputs(model, workload)
    if not model.can_generate():
        return _Forward(model, inputs)
    if model.config.is_encoder_decoder:
        return _Pair(model, inputs, workload.new_tokens)
    return _Decoder(model, inputs["input_ids"], workload.new_tokens)


@dataclass(frozen=True)
class _Forward:
    """One forward of a whole batch of texts or images."""

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]

    def __call__(self) -> Sample:
        start = Clocks.now()
        self.model(**self.inputs)
        end = Clocks.now()
        return sample_of(start, end, end)


@dataclass(frozen=True)
class _Pair:
    """An encoding of the whole batch and a first token, then one greedy step for each new token."""

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    new_tokens: int

    def __call__(self) -> Sample:
        rows = len(next(iter(self.inputs.values())))
        begin = self.model.config.decoder_start_token_id or 0
        token = torch.full((rows, 1), begin, dtype=torch.int64)
        start = Clocks.now()
        seen = self.model(**self.inputs, decoder_input_ids=token, use_cache=True)
        prefilled = Clocks.now()
        mask = {name: m for name, m in self.inputs.items() if name == "attention_mask"}
        for _ in range(self.new_tokens):
            seen = self.model(
                encoder_outputs=(seen.encoder_last_hidden_state,),
                decoder_input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                past_key_values=seen.past_key_values,
                use_cache=True,
                **mask,
            )
        return sample_of(start, prefilled, Clocks.now())


@dataclass(frozen=True)
class _Decoder:
    """A prefill of `ids`, `(batch, tokens)`, and then one greedy step for each new token."""

    model: PreTrainedModel
    ids: Tensor
    new_tokens: int

    def __call__(self) -> Sample:
        batch_size, tokens = self.ids.shape
        mask = torch.ones(batch_size, tokens + self.new_tokens, dtype=torch.int64)
        last_only = {"logits_to_keep": 1} if _accepts(self.model, "logits_to_keep") else {}
        start = Clocks.now()
        seen = self.model(
            input_ids=self.ids, attention_mask=mask[:, :tokens], use_cache=True, **last_only
        )
        prefilled = Clocks.now()
        for length in range(tokens + 1, tokens + self.new_tokens + 1):
            seen = self.model(
                input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                attention_mask=mask[:, :length],
                past_key_values=seen.past_key_values,
                use_cache=True,
            )
        return sample_of(start, prefilled, Clocks.now())


def _accepts(model: PreTrainedModel, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters
