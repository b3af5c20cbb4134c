from typing import Any

import pytest
import torch

from protege.objectives.latency import Accelerator, Target
from protege.objectives.latency.job import Trace
from protege.objectives.latency.targets.accelerator import why_absent
from protege.objectives.latency.timing.timing import Grade, Timing, grade
from protege.spaces.errors import BadInput

NO_CUDA = not torch.cuda.is_available()


@pytest.mark.skipif(not NO_CUDA, reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(BadInput, match=r"^no CUDA device here: torch [^\n]+$"):
        Accelerator()


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is an Apple GPU here")
def test_an_apple_gpu_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(BadInput, match=r"^no MPS device here: this is [^\n]+ an Apple GPU$"):
        Accelerator("mps")


def test_why_there_is_no_cuda_depends_on_how_torch_was_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "is built without CUDA" in why_absent("cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "run nvidia-smi" in why_absent("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert why_absent("cuda") == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "tpu"}, "device='tpu': expected one of cuda, mps"),
        ({"runtime": "onnxruntime"}, "runtime='onnxruntime' on cuda: expected eager or compile"),
        ({"precision": "int8"}, "precision='int8' on eager: expected one of float32, "),
    ],
)
def test_what_no_gpu_can_run_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Accelerator(**fields)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says that it has a card, of a kind without bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)


@pytest.mark.usefixtures("card")
def test_a_card_is_described_by_all_that_a_time_depends_on() -> None:
    target: Target = Accelerator("cuda", precision="float16")
    assert target.label == "cuda, eager float16"
    description = target.description()
    assert description["name"] == "a card"
    assert description["versions"].keys() == {"torch", "transformers", "cuda"}


@pytest.mark.usefixtures("card")
def test_a_precision_that_a_card_only_emulates_is_refused() -> None:
    with pytest.raises(BadInput, match="this GPU does not support it; use float16"):
        Accelerator("cuda", precision="bfloat16")
    assert Accelerator("mps", precision="bfloat16").label == "mps, eager bfloat16"


@pytest.mark.usefixtures("card")
def test_processor_time_never_stands_in_for_the_time_of_a_gpu() -> None:
    sample = (10.0, 1.0, 99, 10.0, 1.0)  # the processor was taken from it again and again
    trace = Trace.of({"cold_ms": [1.0], "rounds": [[sample]] * 9})
    assert grade([trace], Accelerator().threads) is Grade.UNRELIABLE
    assert not Timing((trace,), Accelerator().threads, 0).on_cpu
