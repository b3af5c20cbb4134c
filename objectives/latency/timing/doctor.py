"""Examine a target: its hardware, missing software, measurement noise, and what to improve."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from transformers import BertConfig

from protege.objectives.latency.device.receiving import available_cores
from protege.objectives.latency.runtimes.runtimes import (
    HALF_PRECISIONS,
    RUNTIMES,
    processor_features,
    runtime_named,
)
from protege.objectives.latency.targets.target import LocalCPU, Target
from protege.objectives.latency.timing.comparison import timed
from protege.objectives.latency.timing.timing import DRIFTED, Grade, Timing
from protege.objectives.latency.workload import Plan, Workload
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint

_WORKLOAD = Workload(batch_size=1, prompt_tokens=64)
_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


@dataclass(frozen=True)
class Finding:
    """One property of a target that its latencies depend on.

    Attributes:
        subject: The property.
        found: Its value.
        advice: What to do; empty if nothing.
    """

    subject: str
    found: str
    advice: str = ""


def examine(target: Target, announce: Callable[[str], None]) -> Iterator[Finding]:
    """Yield a target's properties, then time a model against itself on it for some seconds.

    Raises:
        BadInput: The target cannot be reached, or lacks what is needed.
        Unmeasured: No model can be timed on the target.
    """
    yield Finding("target", target.label)
    for name, value in target.description().items():
        if value and name not in {"runtime", "precision", "threads", "priority", "versions"}:
            yield Finding(name, _text(value))
    if isinstance(target, LocalCPU):
        yield from _machine()
    announce("timing a model against itself")
    plan = Plan(back_off_s=(), differ_beyond=0.0, agree_within=0.0)
    # a small encoder that takes a few milliseconds
    config = BertConfig(
        vocab_size=1000,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
    )
    probe = Blueprint.of("BertModel", config)
    timing = timed((probe, probe), _WORKLOAD, target, plan)
    yield from _state(timing)
    yield from _noise(timing, target)


def _machine() -> Iterator[Finding]:
    """Yield the cores, runtimes, precisions and scheduling of this machine."""
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
        yield Finding(f"runtime {name}", _text(own))
    for precision, wanted in HALF_PRECISIONS.items():
        has = sorted(wanted & processor_features())
        yield Finding(precision, ", ".join(has) or "not supported by this processor")
    if _AUTOGROUP.exists() and _AUTOGROUP.read_text(encoding="ascii").strip() == "1":
        advice = 'nice has little effect; use priority="high" if the system allows it'
        yield Finding("scheduling", "by autogroups", advice)


def _state(timing: Timing) -> Iterator[Finding]:
    """Yield the state of the machine after the measurement."""
    state: Mapping[str, Any] = timing.traces[-1].environment.get("after", {})
    governors = state.get("governors", [])
    if governors:
        slow = set(governors) - {"performance"}
        advice = "for less noise: sudo cpupower frequency-set -g performance" if slow else ""
        yield Finding("governor", ", ".join(governors), advice)
    if "mhz" in state and "max_mhz" in state:
        yield Finding("clock", f"{state['mhz']:.0f} of {state['max_mhz']:.0f} MHz")
    temperatures = state.get("temperatures_c", {})
    if temperatures:
        yield Finding("temperature", f"{max(temperatures.values()):.0f} °C at the hottest sensor")
    if state.get("load"):
        yield Finding("load", f"{state['load'][0]:.1f} processes on average in the last minute")
    if timing.throttled:
        yield Finding("throttling", timing.throttled, "improve its cooling or power supply")


def _noise(timing: Timing, target: Target) -> Iterator[Finding]:
    """Yield how far apart two latencies of one model are."""
    ratios = timing.process_ratios()
    worst = max(abs(ratio - 1) for ratio in ratios)
    found = f"off by {worst:.1%} at most in {len(ratios)} processes"
    yield Finding("a model against itself", found)
    times = [median(row[0].wall_ms for row in trace.rounds) for trace in timing.traces]
    apart = max(times) / min(times) - 1
    advice = f"over {DRIFTED:.0%} lowers the grade: let it cool, fix its clock, end other processes"
    found = f"{apart:.1%} between processes, wall time"
    yield Finding("the same model alone", found, advice if apart > DRIFTED else "")
    advice = {
        Grade.C: "other processes use the processor; processor time is used instead of wall time",
        Grade.UNRELIABLE: f"end other processes, or use fewer than {target.threads} threads",
    }.get(timing.grade, "")
    yield Finding("interrupted calls", f"{timing.contaminated:.0%}: grade {timing.grade}", advice)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
