"""What a place to measure has, what it lacks, how noisy it is, and what to do about that."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from transformers import BertConfig

from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes.runtimes import (
    HALF_PRECISIONS,
    RUNTIMES,
    processor_features,
    runtime_named,
)
from protege.objectives.latency.targets.target import LocalCPU, Target, available_cores
from protege.objectives.latency.timing.comparison import timed
from protege.objectives.latency.timing.estimator import DRIFTED, Grade
from protege.objectives.latency.timing.timing import Timing
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint

_WORKLOAD = Workload(batch_size=1, prompt_tokens=64)
_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


@dataclass(frozen=True)
class Finding:
    """One thing that a figure from a place depends on.

    Attributes:
        subject: What it is about.
        found: What is there.
        advice: What to do; empty where all is well.
    """

    subject: str
    found: str
    advice: str = ""


def examine(target: Target, announce: Callable[[str], None]) -> Iterator[Finding]:
    """Look a target over, then time a model beside itself on it for some seconds.

    Raises:
        BadInput: It cannot be reached, or lacks what is needed.
        Unmeasured: It does not measure at all.
    """
    yield Finding("target", target.label)
    for name, value in target.description().items():
        if value and name not in {"runtime", "precision", "threads", "priority", "versions"}:
            yield Finding(name, _told(value))
    if isinstance(target, LocalCPU):
        yield from _here()
    announce("timing a model beside itself")
    plan = Plan(back_off_s=(), differ_beyond=0.0, agree_within=0.0)
    timing = timed((_probe(), _probe()), _WORKLOAD, target, plan)
    yield from _surroundings(timing)
    yield from _noise(timing, target)


def _here() -> Iterator[Finding]:
    """What this machine has to run models with."""
    there, every = len(available_cores()), os.cpu_count() or 1
    advice = f"a container's share: ask for threads=1 to {there}" if there < every else ""
    yield Finding("cores", f"{there} of {every}", advice)
    for name in RUNTIMES:
        try:
            versions = runtime_named(name).versions()
        except BadInput as missing:
            yield Finding(f"runtime {name}", "absent", str(missing))
            continue
        own = {package: versions[package] for package in RUNTIMES[name].packages or ("torch",)}
        yield Finding(f"runtime {name}", _told(own))
    for precision, wanted in HALF_PRECISIONS.items():
        has = sorted(wanted & processor_features())
        yield Finding(precision, ", ".join(has) or "no arithmetic for it in this processor")
    if _AUTOGROUP.exists() and _AUTOGROUP.read_text(encoding="ascii").strip() == "1":
        advice = 'nice does little here; priority="high" asks for more, where the system allows it'
        yield Finding("scheduling", "by autogroups", advice)


def _surroundings(timing: Timing) -> Iterator[Finding]:
    """What the machine said of itself while it was measured."""
    state: Mapping[str, Any] = timing.traces[-1].environment.get("after", {})
    governors = state.get("governors", [])
    if governors:
        slow = set(governors) - {"performance"}
        advice = "steadier: sudo cpupower frequency-set -g performance" if slow else ""
        yield Finding("governor", ", ".join(governors), advice)
    if "mhz" in state and "max_mhz" in state:
        yield Finding("clock", f"{state['mhz']:.0f} of {state['max_mhz']:.0f} MHz")
    temperatures = state.get("temperatures_c", {})
    if temperatures:
        yield Finding("temperature", f"{max(temperatures.values()):.0f} °C at the warmest")
    if state.get("load"):
        yield Finding("load", f"{state['load'][0]:.1f} processes, the last minute's mean")
    if timing.throttled:
        yield Finding("throttling", timing.throttled, "cool it, or power it better, then go on")


def _noise(timing: Timing, target: Target) -> Iterator[Finding]:
    """How far two figures of one model are apart there."""
    ratios = timing.process_ratios()
    worst = max(abs(ratio - 1) for ratio in ratios)
    yield Finding("a model beside itself", f"off by {worst:.1%} at most in {len(ratios)} processes")
    times = [median(row[0].wall_ms for row in trace.rounds) for trace in timing.traces]
    apart = max(times) / min(times) - 1
    unsteady = (
        f"over {DRIFTED:.0%} the grade falls: let it cool down, fix its clock, end other work"
    )
    advice = unsteady if apart > DRIFTED else ""
    yield Finding("the same model alone", f"{apart:.1%} between processes, by the clock", advice)
    advice = {
        Grade.A: "",
        Grade.B: "",
        Grade.C: "other work takes the processor; processor time stands in for the clock",
        Grade.UNRELIABLE: f"quiet the machine, or ask for fewer threads than {target.threads}",
    }[timing.grade]
    yield Finding("interrupted calls", f"{timing.contaminated:.0%}: grade {timing.grade}", advice)


def _probe() -> Blueprint:
    """A small encoder, of a millisecond or a few."""
    config = BertConfig(
        vocab_size=1000,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
    )
    return Blueprint.of("BertModel", config)


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
