import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protege.objectives.latency.device.programs import Program, hush_openvino, inputs_of

Made = Callable[[list[str]], Path]


def test_a_call_is_a_prefill_and_then_its_steps(program: Made) -> None:
    found = Program(str(program(["prefill", "step"])), threads=1)
    said: list[str] = []
    found.prefill = lambda: said.append("prefill")
    found.step = lambda: said.append("step")
    sample = found.call(3)()
    assert said == ["prefill", "step", "step", "step"]
    assert 0 <= sample.prefill_wall_ms <= sample.wall_ms


def test_a_program_runs_as_it_was_written(program: Made) -> None:
    found = Program(str(program(["prefill"])), threads=1)
    assert found.runtime == "onnxruntime"
    assert found.call(0)().wall_ms > 0


def test_a_program_without_a_step_generates_nothing(program: Made) -> None:
    found = Program(str(program(["prefill"])), threads=1)
    with pytest.raises(ValueError, match="exported without a step"):
        found.call(1)


def test_inputs_keep_their_shapes(program: Made) -> None:
    found = inputs_of(program(["prefill"]) / "prefill")
    assert {name: value.shape for name, value in found.items()} == {"row": (4,), "number": ()}


def test_openvino_reports_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, object] = {}
    monkeypatch.setattr(sys, "modules", modules)
    hush_openvino()
    assert modules == {"openvino_telemetry": None}  # which Python takes for not installed
