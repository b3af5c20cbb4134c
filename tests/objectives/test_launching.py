"""Students trained in processes of accelerate's learn what they learn in one."""

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from torch.testing import assert_close

from protege.objectives import Distillation, HiddenMSE
from protege.objectives.distillation import launching
from protege.objectives.distillation.progressive import Progressive
from protege.spaces import BadInput
from tests.objectives.taught import SHORT, material, noted, training
from tests.tiny import CASES

SHARDED = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
machine_rank: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""


def written(folder: Path, text: str = SHARDED) -> Path:
    path = folder / "fsdp.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def assert_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor, rtol=1e-4, atol=2e-5)


def test_two_processes_go_on_as_one_would(tmp_path: Path) -> None:
    # three sequences in four parts: one process has less to read, in one pass nothing
    settings = replace(SHORT, steps=5, batch_size=3, accumulate=2, precision="fp32")
    teacher = CASES["llama-causal-tied"].teacher()
    given = material(teacher)
    plain = training(teacher, given, settings)
    states = [
        {name: tensor.clone() for name, tensor in plain.state().items()}
        for _ in plain.run([2, 4, 5])
    ]
    told, announce = noted()
    sharded = training(
        teacher,
        given,
        replace(settings, accelerate=written(tmp_path)),
        taken_up=states[0],
        announce=announce,
    )
    # sums are taken in another order; Adam divides by their roots, so that where a gradient is all
    # but nothing rounding shows, by far less than the rate of 3e-3 that it moves a weight by
    for stop, state in zip(sharded.run([4, 5]), states[1:], strict=True):
        assert len(sharded.losses) == stop
        assert_near(sharded.state(), state)
    assert_near(sharded.student.model.state_dict(), plain.student.model.state_dict())
    assert told[-1] == "distil 5/5"


def test_what_was_said_before_a_halt_is_told_though_nobody_had_to_wait(tmp_path: Path) -> None:
    told, announce = noted()
    teacher = CASES["bert-masked"].teacher()
    halted = training(teacher, material(teacher), announce=announce)
    (tmp_path / launching.SAYS).write_text("distil 5/5", encoding="utf-8")
    launching.halt(tmp_path, 5).touch()
    with subprocess.Popen(["true"]) as process:
        launching._await(process, halted, launching.halt(tmp_path, 5))
    assert told == ["distil 5/5"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SHARDED.replace("FSDP", "MULTI_GPU"), "found no FSDP"),
        (SHARDED.replace("fsdp_version: 2", "fsdp_version: 1"), "fsdp_version 1"),
        (SHARDED.replace("num_machines: 1", "num_machines: 2"), "on one machine"),
        ("- no\n- configuration\n", "accelerate config writes"),
    ],
)
def test_other_configurations_are_refused(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected a file that accelerate config writes") as told:
        Distillation(accelerate=written(tmp_path, text))
    assert named in str(told.value)


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"fsdp\.yaml': no such file; expected a file"):
        Distillation(accelerate=tmp_path / "fsdp.yaml")


@pytest.mark.parametrize(
    "given",
    [{"answers": "online"}, {"losses": (HiddenMSE(),)}, {"progressive": Progressive(until=0.5)}],
)
def test_what_needs_the_teacher_at_every_step_is_refused(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r'expected answers="cached", losses on answers alone'):
        Distillation(accelerate=written(tmp_path), **given)
