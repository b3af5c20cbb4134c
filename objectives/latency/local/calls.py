"""Call models under PyTorch and read the clocks; runs in one fresh process per trace."""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.device.environment import snapshot
from protege.objectives.latency.device.loop import Sample, timed
from protege.objectives.latency.device.main import arrange
from protege.objectives.latency.job import MeasuringJob, TorchSettings, Trace
from protege.objectives.latency.local.gpu import (
    DeviceClock,
    clock_of,
    peak_bytes,
    queue_bound,
    state,
)
from protege.objectives.latency.local.inputs import example_inputs
from protege.objectives.latency.models import Model, built
from protege.objectives.latency.workload import Workload

Call = Callable[[], Sample]


def traced(job: MeasuringJob) -> Trace:
    """Build the job's models in this process and time them alternately."""
    start_s = time.perf_counter()
    setting = job.setting
    arranged = arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    models = [ready(model, setting) for model in job.models]
    few_tokens = min(job.workload.new_tokens, job.plan.warm_up_tokens)
    brief = replace(job.workload, new_tokens=few_tokens)
    with torch.inference_mode():
        calls = [call_of(model, job.workload) for model in models]
        compiling_ms: tuple[float, ...] = ()
        if setting.runtime == "compile":
            compiling_ms = tuple([call().prefill_wall_ms for call in calls])
            for call in calls:
                call()  # recompiles for dynamic lengths
            start_s = time.perf_counter()  # compilation does not count against the time limit
        before = _state(setting)
        brief_calls = [call_of(model, brief) for model in models]
        cold_ms, rounds = timed(brief_calls, calls, job.plan, start_s)
    environment = {"before": before, "after": _state(setting), **peak_bytes(setting.device)}
    if setting.device == "cuda":  # only with events is processor time the time to fill the queue
        environment["queue_bound"] = queue_bound([one for row in rounds for one in row])
    return Trace(compiling_ms or cold_ms, rounds, environment, arranged)


def _state(setting: TorchSettings) -> dict[str, Any]:
    """Return the state of the machine, and of its GPU if models run there."""
    of_device = state(setting.device)
    return snapshot() | ({"gpu": of_device} if of_device else {})


def ready(model: Model, setting: TorchSettings) -> PreTrainedModel:
    """Build the module on the setting's device, compiled if asked.

    It is built directly in its precision, so that the peak of memory holds no float32 copy.
    """
    precision, before = getattr(torch, setting.precision), torch.get_default_dtype()
    torch.set_default_dtype(precision)
    module: PreTrainedModel = built(model, precision).to(setting.device)  # type: ignore[arg-type]
    torch.set_default_dtype(before)
    if setting.runtime == "compile":
        module.compile()
    return module


def call_of(model: PreTrainedModel, workload: Workload) -> Call:
    """Return a call of the model on its device, with inputs that are equal in every process."""
    given = example_inputs(model, workload)
    inputs = {name: _like(model, value) for name, value in given.items()}
    clock = clock_of(model.device.type)
    if not model.can_generate():
        return _forward(model, inputs, clock)
    if model.config.is_encoder_decoder:
        return _encoder_decoder(model, inputs, workload.new_tokens, clock)
    return _decoder(model, inputs["input_ids"], workload.new_tokens, clock)


def _like(model: PreTrainedModel, value: Tensor) -> Tensor:
    """Move an input to the model's device, and to its dtype if it is floating-point."""
    return value.to(model.device, model.dtype if value.is_floating_point() else value.dtype)


def _forward(model: PreTrainedModel, inputs: Mapping[str, Tensor], clock: DeviceClock) -> Call:
    """Return one forward pass of a whole batch."""

    def call() -> Sample:
        start = clock.start()
        model(**inputs)
        end = clock.now()
        return clock.sample(start, end, end)

    return call


def _encoder_decoder(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], new_tokens: int, clock: DeviceClock
) -> Call:
    """Return an encoder pass with a first decoder token, then one greedy step per new token."""
    rows = len(next(iter(inputs.values())))
    begin = model.config.decoder_start_token_id or 0
    mask = {name: given for name, given in inputs.items() if name == "attention_mask"}

    def call() -> Sample:
        token = torch.full((rows, 1), begin, dtype=torch.int64, device=model.device)
        start = clock.start()
        seen = model(**inputs, decoder_input_ids=token, use_cache=True)
        prefilled = clock.now()
        for _ in range(new_tokens):
            seen = model(
                encoder_outputs=(seen.encoder_last_hidden_state,),
                decoder_input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                past_key_values=seen.past_key_values,
                use_cache=True,
                **mask,
            )
        return clock.sample(start, prefilled, clock.now())

    return call


def _decoder(model: PreTrainedModel, ids: Tensor, new_tokens: int, clock: DeviceClock) -> Call:
    """Return a prefill of `ids`, `(batch, tokens)`, then one greedy step per new token."""
    batch_size, tokens = ids.shape
    mask = ids.new_ones(batch_size, tokens + new_tokens)
    cuts_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
    last_only = {"logits_to_keep": 1} if cuts_logits else {}

    def call() -> Sample:
        start = clock.start()
        seen = model(input_ids=ids, attention_mask=mask[:, :tokens], use_cache=True, **last_only)
        prefilled = clock.now()
        for length in range(tokens + 1, tokens + new_tokens + 1):
            seen = model(
                input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                attention_mask=mask[:, :length],
                past_key_values=seen.past_key_values,
                use_cache=True,
            )
        return clock.sample(start, prefilled, clock.now())

    return call
