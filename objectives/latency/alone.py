"""What one model needs by itself on this machine, asked of a fresh process: memory, or energy."""

from dataclasses import asdict
from typing import Any

from protege.objectives.latency import nursery
from protege.objectives.latency.accelerator import Accelerator
from protege.objectives.latency.comparison import check_fits
from protege.objectives.latency.conversation import Broken, converse
from protege.objectives.latency.job import Job, Question, Setting
from protege.objectives.latency.models import Model
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes import RUNTIMES, runtime_named
from protege.objectives.latency.target import (
    LocalCPU,
    Target,
    Unmeasured,
    names,
    program_job,
    runner_here,
)
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput

_TRIES = 3


def asked(target: Target, model: Model, workload: Workload, question: Question) -> dict[str, Any]:
    """A fresh process's answer to a question about one model, while nothing else is timed.

    Raises:
        BadInput: The model cannot have the workload, or the target is not of this machine.
        Unmeasured: The model cannot run there.
    """
    check_fits(model, workload)
    what = f"{question.kind} of {names([model])} could not be measured"
    cause = ""
    for _ in range(_TRIES):
        answer = _answer(target, model, workload, question)
        if question.kind in answer:
            return dict(answer[question.kind])
        if "failed" in answer:  # and would again
            raise Unmeasured(f"{what}: {answer['failed']}")
        cause = answer["interrupted"]
    raise Unmeasured(f"{what} in {_TRIES} tries: {cause}")


def setting_of(target: Target) -> Setting:
    """How a target of this machine runs a model.

    Raises:
        BadInput: It is another machine.
    """
    if isinstance(target, LocalCPU):
        return Setting(
            threads=target.threads,
            runtime=target.runtime,
            precision=target.precision,
            cores=target.cores,
            priority=target.priority,
        )
    if isinstance(target, Accelerator):
        return Setting(target.threads, target.runtime, target.precision, target.device)
    raise BadInput(
        f"{target.label}: memory and energy are measured on this machine; expected LocalCPU or "
        "Accelerator"
    )


def _answer(target: Target, model: Model, workload: Workload, question: Question) -> dict[str, Any]:
    if isinstance(target, LocalCPU) and RUNTIMES[target.runtime].exports:
        return _of_program(target, model, workload, question)
    return nursery.exchange(Job((model,), workload, setting_of(target), Plan(), question))


def _of_program(
    target: LocalCPU, model: Model, workload: Workload, question: Question
) -> dict[str, Any]:
    plan, runtime = Plan(), runtime_named(target.runtime, target.precision, target.python)
    job = {
        **program_job(workload, plan, target.threads, target.kept_cores, target.priority),
        "programs": [str(target.programs.of(model, workload, runtime, target.precision))],
        "question": asdict(question),
    }
    with nursery.device_lock():
        answer = converse([runtime.interpreter, str(runner_here())], job, plan.deadline_s)
    return {"interrupted": answer.cause} if isinstance(answer, Broken) else answer
