import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from protege.objectives.latency import Workload
from protege.objectives.latency.device.programs import inputs_of
from protege.objectives.latency.runtimes.exporting import WrongAnswer, export, stages
from protege.spaces import Task
from tests.tiny import CASES, ZOO

ENCODER = CASES["bert"].teacher().model


def last_logits(model: Any, **given: Any) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**given).logits[:, -1]
    return logits


def test_what_generates_nothing_has_one_stage() -> None:
    (name,) = found = stages(ENCODER, Workload(2, 8))
    assert name == "prefill"
    assert found[name].keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    "case", ["llama-causal-tied", "mistral-text-generation", "gemma3_text-text-generation"]
)
def test_a_step_reads_one_token_behind_the_whole_prompt(case: str) -> None:
    model = ZOO[case].teacher().model  # of the last two, windows are shorter than the prompt
    found = stages(model, Workload(2, 8, new_tokens=3))
    prompt, token = found["prefill"]["input_ids"], found["step"]["input_ids"]
    assert prompt.shape == (2, 8)
    assert token.shape == (2, 1)
    expected = last_logits(model, input_ids=torch.cat([prompt, token], 1))
    torch.testing.assert_close(last_logits(model, **found["step"]), expected)


def test_the_step_of_a_pair_has_its_encoders_answer() -> None:
    model = ZOO[f"t5-{Task.TEXT_TO_TEXT}"].teacher().model
    found = stages(model, Workload(2, 8, new_tokens=3))
    first, second = (found[name]["decoder_input_ids"] for name in ("prefill", "step"))
    given = found["prefill"] | {"decoder_input_ids": torch.cat([first, second], 1)}
    step = copy.deepcopy(found["step"])
    assert "input_ids" not in step
    torch.testing.assert_close(last_logits(model, **step), last_logits(model, **given))


def exporter(change: Any) -> Any:
    """An exporter whose program answers as the model does, but for that change."""

    def write(model: Any, given: dict[str, Any], place: Path, _precision: str) -> Any:
        np.savez(place / "inputs.npz", **{name: value.numpy() for name, value in given.items()})
        with torch.no_grad():
            return change(model(**given)[0]), "model.bin"

    return write


def test_a_program_tells_its_stages_and_how_far_off_they_are(tmp_path: Path) -> None:
    close = exporter(lambda right: 1.0001 * right)
    manifest = export(ENCODER, Workload(2, 8), close, "float32", tmp_path)
    assert manifest["stages"] == {"prefill": "model.bin"}
    assert manifest["errors"]["prefill"] == pytest.approx(1e-4, rel=0.01)
    assert inputs_of(tmp_path / "prefill")["input_ids"].shape == (2, 8)


@pytest.mark.parametrize(
    ("change", "off"),
    [
        (lambda right: 1.01 * right, "0.01"),
        (lambda right: right[:, :-1], "inf"),
        (lambda right: right * float("nan"), "nan"),
    ],
)
def test_a_program_that_answers_otherwise_is_told(change: Any, off: str, tmp_path: Path) -> None:
    with pytest.raises(WrongAnswer, match=rf"^its prefill differs by {off} of its norm; expected"):
        export(ENCODER, Workload(2, 8), exporter(change), "float32", tmp_path)
