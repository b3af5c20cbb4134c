"""Calling a model and reading the clocks; runs in a process of its own, one for each trace."""

import gc
import inspect
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.estimator import enough
from protege.objectives.latency.inputs import example_inputs
from protege.objectives.latency.job import Job, Round, Sample, Trace
from protege.objectives.latency.models import built
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.workload import Workload

Call = Callable[[], Sample]


def traced(job: Job) -> Trace:
    """Build the job's models in this process and time them by turns."""
    start_s = time.perf_counter()
    torch.set_num_threads(job.threads)
    models = [built(model) for model in job.models]
    # what is alive now stays alive: a collection in the middle of a call would only walk it
    gc.freeze()
    gc.disable()
    few_tokens = min(job.workload.new_tokens, job.plan.warm_up_tokens)
    brief = replace(job.workload, new_tokens=few_tokens)
    with torch.inference_mode():
        cold_ms = _warm_up([call_of(model, brief) for model in models], job.plan)
        calls = [call_of(model, job.workload) for model in models]
        return Trace(cold_ms, _rounds(calls, job.plan, start_s))


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
        start = _Clocks.now()
        self.model(**self.inputs)
        end = _Clocks.now()
        return _sample(start, end, end)


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
        start = _Clocks.now()
        seen = self.model(**self.inputs, decoder_input_ids=token, use_cache=True)
        prefilled = _Clocks.now()
        mask = {name: m for name, m in self.inputs.items() if name == "attention_mask"}
        for _ in range(self.new_tokens):
            seen = self.model(
                encoder_outputs=(seen.encoder_last_hidden_state,),
                decoder_input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                past_key_values=seen.past_key_values,
                use_cache=True,
                **mask,
            )
        return _sample(start, prefilled, _Clocks.now())


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
        start = _Clocks.now()
        seen = self.model(
            input_ids=self.ids, attention_mask=mask[:, :tokens], use_cache=True, **last_only
        )
        prefilled = _Clocks.now()
        for length in range(tokens + 1, tokens + self.new_tokens + 1):
            seen = self.model(
                input_ids=seen.logits[:, -1].argmax(-1, keepdim=True),
                attention_mask=mask[:, :length],
                past_key_values=seen.past_key_values,
                use_cache=True,
            )
        return _sample(start, prefilled, _Clocks.now())


@dataclass(frozen=True)
class _Clocks:
    """What the clocks said at one moment."""

    wall_ns: int
    cpu_ns: int
    preemptions: int

    @classmethod
    def now(cls) -> "_Clocks":
        preemptions = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return cls(time.perf_counter_ns(), time.process_time_ns(), preemptions)


def _sample(start: _Clocks, prefilled: _Clocks, end: _Clocks) -> Sample:
    # the resolution of both clocks is far below a microsecond, the digits beyond are noise
    return Sample(
        wall_ms=round((end.wall_ns - start.wall_ns) / 1e6, 4),
        cpu_ms=round((end.cpu_ns - start.cpu_ns) / 1e6, 4),
        preemptions=end.preemptions - start.preemptions,
        prefill_wall_ms=round((prefilled.wall_ns - start.wall_ns) / 1e6, 4),
        prefill_cpu_ms=round((prefilled.cpu_ns - start.cpu_ns) / 1e6, 4),
    )


def _accepts(model: PreTrainedModel, argument: str) -> bool:
    return argument in inspect.signature(model.forward).parameters


def _warm_up(calls: Sequence[Call], plan: Plan) -> tuple[float, ...]:
    start_s, rounds = time.perf_counter(), 1
    cold_ms = tuple([call().prefill_wall_ms for call in calls])
    while (spent_s := time.perf_counter() - start_s) < 2 * plan.warm_up_s:
        if rounds >= plan.warm_up_rounds and spent_s >= plan.warm_up_s:
            break
        for call in calls:
            call()
        rounds += 1
    return cold_ms


def _rounds(calls: Sequence[Call], plan: Plan, start_s: float) -> tuple[Round, ...]:
    rounds: list[Round] = []
    first_s = time.perf_counter()
    while True:
        rounds.append(_round(calls, flipped=len(rounds) % 2 == 1))
        now_s = time.perf_counter()
        if enough(rounds, now_s - first_s, now_s - start_s, plan):
            return tuple(rounds)


def _round(calls: Sequence[Call], *, flipped: bool) -> Round:
    # whoever goes second finds the cache as the other left it, so that they go second by turns
    if not flipped:
        return tuple([call() for call in calls])
    return tuple(reversed([call() for call in reversed(calls)]))
