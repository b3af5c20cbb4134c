"""Teachers that accelerate has spread: each test has one with weights in memory and on disk."""

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from protege.spaces import (
    Activation,
    BadInput,
    Calibration,
    Greedy,
    Influence,
    Magnitude,
    Mismatch,
    Rotation,
    Surgeon,
    Taylor,
    Teacher,
    Unsupported,
)
from protege.spaces.models.placement import weights
from protege.spaces.models.sharing import is_sharded, is_tied
from tests.tiny import ZOO, answer, inputs_of, save

NAMES = (
    "bert-sentences-dense",
    "llama-causal-tied",
    "llama-causal-grouped",
    "t5-text2text-generation",
    "qwen3_moe-text-generation",
)

LITTLE: dict[int | str, int | str] = {"cpu": 20_000}
"""Bytes that none of the teachers fits into."""


def half_on_disk(model: PreTrainedModel) -> dict[str, int | str | torch.device]:
    """Every other module with weights on disk; those that share any stay in memory."""
    tied = {n.rpartition(".")[0] for pair in model.all_tied_weights_keys.items() for n in pair}
    own = [n for n, one in model.named_modules() if [*one.parameters(recurse=False)]]
    return {n: "disk" if at % 2 and n not in tied else "cpu" for at, n in enumerate(own)}


class Both:
    """The same teacher twice."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = save(ZOO[name].teacher(), folder)
        self.task = ZOO[name].task.value
        self.plain = Teacher.load(folder, task=self.task)
        # a folder too, for experts are kept in it as transformers fuses them
        half = half_on_disk(self.plain.model)
        self.spread = self.load(device_map=half, offload_folder=folder / "offloaded")

    def load(self, **given: Any) -> Teacher:
        return Teacher.load(self.folder, task=self.task, **given)


@pytest.fixture(params=NAMES, scope="module")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(request.param, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both("llama-causal-grouped", tmp_path_factory.mktemp("teacher"))


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def on_disk(teacher: Teacher) -> int:
    return sum(parameter.is_meta for parameter in teacher.model.parameters())


def test_it_answers_as_the_teacher_in_memory(both: Both) -> None:
    assert on_disk(both.spread)
    # what is mapped from a file may be aligned otherwise, and be multiplied by another kernel
    assert_close(answer(both.spread), answer(both.plain), rtol=1e-5, atol=1e-6)
    assert on_disk(both.spread)  # and nothing has stayed


def test_it_is_the_same_teacher(both: Both) -> None:
    assert_equal(weights(both.spread.model), both.plain.model.state_dict())
    assert both.spread.fingerprint == both.plain.fingerprint
    assert both.spread.layout.slots == both.plain.layout.slots
    assert_equal(both.spread.magnitudes.tensors(), both.plain.magnitudes.tensors())


def test_a_student_at_ratio_one_is_the_same_to_the_last_bit(both: Both) -> None:
    mine, theirs = (one.student(one.architecture) for one in (both.spread, both.plain))
    assert not is_sharded(mine.model)
    assert_equal(mine.model.state_dict(), theirs.model.state_dict())
    assert torch.equal(answer(mine), answer(theirs))


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-tied", "mixtral-text-generation"])
def test_it_is_calibrated_and_its_students_are_healed_alike(name: str, tmp_path: Path) -> None:
    both = Both(name, tmp_path)
    batch = inputs_of(both.plain)
    found = [
        Calibration.of(
            one, [batch], [Activation("ablation"), Taylor(), Surgeon(), Influence(), Greedy()]
        )
        for one in (both.spread, both.plain)
    ]
    spread, plain = found
    for unit, values in plain.importance.items():
        assert_close(spread.importance[unit], values, rtol=1e-4, atol=1e-5)
    for policy in (Surgeon(), Magnitude(), Rotation()):
        for healing in ("sequential", "one-shot"):
            architecture = both.plain.architecture.scaled(
                layers=0.5, hidden=0.7, layer_policy=Greedy(), width_policy=policy, healing=healing
            )
            if both.plain.can_be(architecture):
                mine, theirs = (
                    one.student(architecture, plain) for one in (both.spread, both.plain)
                )
                assert_equal(mine.model.state_dict(), theirs.model.state_dict())


def test_weights_that_wait_in_memory_for_their_device_are_found(llama: Both) -> None:
    waiting = llama.load()  # as accelerate leaves it whose device is not the CPU
    cpu_offload(waiting.model, execution_device=torch.device("cpu"))
    assert on_disk(waiting)
    assert waiting.fingerprint == llama.plain.fingerprint
    assert torch.equal(answer(waiting), answer(llama.plain))


def test_a_head_of_its_own_is_not_taken_for_the_embedding(llama: Both) -> None:
    spread = llama.load(device_map="auto", max_memory=LITTLE)
    assert on_disk(spread) == len([*spread.model.parameters()])
    assert not is_tied(spread.model, spread.model.get_output_embeddings())


def test_one_device_that_is_the_cpu_is_nothing_special(llama: Both) -> None:
    for device_map in ("auto", "cpu", {"": "cpu"}):
        assert not is_sharded(llama.load(device_map=device_map).model)


def test_another_process_loads_it_again(llama: Both) -> None:
    sent = pickle.dumps(llama.spread)
    assert len(sent) < 10_000  # no weights
    arrived: Teacher = pickle.loads(sent)
    assert on_disk(arrived) == on_disk(llama.spread)
    assert arrived.fingerprint == llama.plain.fingerprint


def test_another_teacher_in_its_place_is_noticed(llama: Both, tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shutil.copytree(llama.folder, folder)
    sent = pickle.dumps(Teacher.load(folder, device_map=half_on_disk(llama.plain.model)))
    save(ZOO["llama-causal-grouped"].teacher(seed=1), folder)
    with pytest.raises(Mismatch, match=r"the teacher there is no longer the study's"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"device_map": "nowhere"}, "device_map='nowhere'"),
        ({"device_map": {"": "warp"}}, "warp"),
        ({"device_map": {"": "disk", "model.norm": 7.5}}, "7.5"),
        ({"device_map": "auto", "max_memory": {"cpu": "much"}}, "max_memory"),
    ],
)
def test_a_placement_that_cannot_be_is_refused_in_one_line(
    llama: Both, given: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput, match=r'expected "auto", a device, or for each module') as told:
        llama.load(**given)
    assert named in str(told.value)
    assert "\n" not in str(told.value)


def test_memory_without_a_device_map_is_refused(llama: Both) -> None:
    with pytest.raises(BadInput, match=r"max_memory without device_map: expected a placement"):
        Teacher.load(llama.folder, max_memory={"cpu": "1GiB"})


@pytest.mark.parametrize(
    "name", ["deberta-v2-text-classification", "siglip_vision_model-image-feature-extraction"]
)
def test_models_that_read_aside_are_not_read_from_disk(name: str, tmp_path: Path) -> None:
    folder = save(ZOO[name].teacher(), tmp_path)
    with pytest.raises(Unsupported, match=r"with weights offloaded: .* a device_map without disk"):
        Teacher.load(folder, task=ZOO[name].task.value, device_map="auto", max_memory=LITTLE)


def test_a_pooler_that_is_made_up_is_not_put_on_disk(tmp_path: Path) -> None:
    folder = save(ZOO["bert-masked"].teacher(), tmp_path)
    with pytest.raises(BadInput, match=r"no weights for pooler.*, which the device_map puts on"):
        Teacher.load(folder, task="sentence-similarity", device_map="auto", max_memory=LITTLE)
