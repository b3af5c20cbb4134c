"""Measure the memory or energy of one model on this machine, in a fresh process."""

from dataclasses import asdict
from typing import Any

from protege.objectives.latency.job import Job, Question, Setting
from protege.objectives.latency.local import fork_server
from protege.objectives.latency.models import Model, check_fits
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes.runtimes import RUNTIMES
from protege.objectives.latency.targets.accelerator import Accelerator
from protege.objectives.latency.targets.target import LocalCPU, Target, insisted, names
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput


def asked(target: Target, model: Model, workload: Workload, question: Question) -> dict[str, Any]:
    """Measure one model in a fresh process while nothing else is timed on this machine.

    Raises:
        BadInput: The model cannot run the workload, or the target is not on this machine.
        Unmeasured: The model cannot run on the target.
    """
    check_fits(model, workload)
    what = f"{question.kind} of {names([model])} could not be measured"
    return insisted(lambda: _answer(target, model, workload, question), question.kind, what)


def setting_of(target: Target) -> Setting:
    """Return how a target of this machine runs a model under PyTorch.

    Raises:
        BadInput: The target is not on this machine.
    """
    if isinstance(target, LocalCPU):
        return target.setting
    if isinstance(target, Accelerator):
        return Setting(target.threads, target.runtime, target.precision, target.device)
    raise BadInput(
        f"{target.label}: memory and energy are measured on this machine; expected LocalCPU or "
        "Accelerator"
    )


def _answer(target: Target, model: Model, workload: Workload, question: Question) -> dict[str, Any]:
    plan = Plan()
    if isinstance(target, LocalCPU) and RUNTIMES[target.runtime].exports:
        return target.ask((model,), workload, plan, question=asdict(question))
    return fork_server.exchange(Job((model,), workload, setting_of(target), plan, question))
