"""Second moments that are too many for memory are collected in several passes, to the same end."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protege.spaces import Calibration, Surgeon, Teacher
from protege.spaces.calibration.blocks import RANKING_BYTES, Blocks, Room, blocks
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.files.block_file import on_disk
from protege.spaces.models.activations import shapes
from protege.spaces.models.placement import can_spill, spill
from tests.tiny import ZOO, inputs_of

KINDS = {
    "encoder": "bert-masked",
    "grouped decoder": "llama-causal-grouped",
    "Conv1D": "gpt2-text-generation",
    "encoder and decoder": "t5-text2text-generation",
    "speech": "whisper-automatic-speech-recognition",
    "images": "vit-image-classification",
    "experts": "qwen3_moe-text-generation",
    "tokens end to end": "opt-text-generation",
    "distances": "deberta-v2-fill-mask",
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS), scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """Of every kind of site one; tests leave it as it is."""
    return ZOO[request.param].teacher()


def test_several_passes_find_what_one_pass_finds(teacher: Teacher, tmp_path: Path) -> None:
    batches = [inputs_of(teacher), inputs_of(teacher)]
    plan = CalibrationPlan.of([Surgeon()], "sequential")
    whole = Calibration.measured(teacher, batches, plan).tensors()
    widest = max(units for _, units in shapes(teacher).values())
    for layers in (1, 3):
        room = Room(memory=4 * layers * widest**2, folder=tmp_path)
        # a generator can be read once, and is read in every pass
        found = Calibration.measured(teacher, iter(batches), plan, room=room).tensors()
        assert found.keys() == whole.keys()
        for name, expected in whole.items():
            assert torch.equal(found[name], expected), name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["llama-causal-grouped", "t5-text2text-generation", "bert-masked"])
def test_the_default_policy_works_where_no_second_moment_has_room(name: str) -> None:
    teacher = ZOO[name].teacher()
    found = Calibration.of(teacher, [inputs_of(teacher)], room=Room(memory=100))
    assert not any(one.endswith(".gram") for one in found.importance)
    assert found.stand_ins == [f"{stack}.ffn" for stack in teacher.layout.depths]
    for stack in teacher.layout.depths:
        ranks = found.units("ffn", stack, "surgeon")
        assert torch.equal(ranks, found.importance[f"{stack}.ffn.wanda"])
    architecture = teacher.architecture.scaled(intermediate=0.4, width_policy=Surgeon())
    assert teacher.student(architecture, found).architecture.intermediate_size == 16


def test_a_stack_that_has_room_is_ranked_by_its_second_moments() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    inputs = inputs_of(teacher)
    whole = Calibration.of(teacher, [inputs], [Surgeon()], "none")
    room = Room(memory=4 * 4 * 40**2, disk=0)
    found = Calibration.of(teacher, [inputs], [Surgeon()], "none", room=room)
    assert found.stand_ins == ["decoder.ffn"]
    assert whole.stand_ins == []
    same = (one.importance["encoder.ffn.surgeon"] for one in (found, whole))
    assert torch.equal(*same)


SHAPES = st.dictionaries(
    st.sampled_from(["hidden", "encoder.ffn", "decoder.ffn", "decoder.heads"]),
    st.tuples(st.integers(1, 6), st.integers(1, 50)),
)


@given(shapes=SHAPES, memory=st.integers(1, 40_000), disk=st.integers(0, 200_000))
def test_every_layer_is_in_one_pass_and_no_pass_is_too_large(
    shapes: dict[str, tuple[int, int]], memory: int, disk: int
) -> None:
    found = blocks(shapes, Room(memory=memory, disk=disk))
    collected = [
        (name, layer) for one in found.passes for name, layers in one.items() for layer in layers
    ]
    kept = {name: shape for name, shape in shapes.items() if name not in found.left_out}
    expected = [(name, layer) for name, (layers, _) in kept.items() for layer in range(layers)]
    assert sorted(collected) == sorted(expected)
    sizes = [
        sum(4 * shapes[name][1] ** 2 * len(layers) for name, layers in one.items())
        for one in found.passes
    ]
    assert found.bytes == max(sizes) <= memory
    assert found.on_disk == (len(found.passes) > 1)
    assert found.disk_bytes == (sum(sizes) if found.on_disk else 0) <= max(disk, 0)


def test_a_billion_parameters_take_several_passes_and_seven_rank_as_well() -> None:
    """Llamas of 1.1B, 7B and 70B parameters on machines of 8, 32 and 32 GB."""
    small = blocks({"decoder.ffn": (22, 5632)}, Room(free=8e9, disk=20e9))
    assert (len(small.passes), small.left_out) == (2, ())
    seven = blocks({"decoder.ffn": (32, 11_008)}, Room(memory=8 * 10**9, free=32e9, disk=90e9))
    assert (len(seven.passes), seven.left_out) == (2, ())
    seventy = blocks({"decoder.ffn": (80, 28_672)}, Room(memory=8 * 10**9, free=32e9, disk=90e9))
    assert seventy == Blocks(left_out=("decoder.ffn",))
    assert RANKING_BYTES * 28_672**2 > 32e9


def test_where_memory_suffices_there_is_one_pass_and_nothing_on_disk() -> None:
    found = blocks({"hidden": (45, 2048), "decoder.ffn": (22, 5632)}, Room(memory=4 * 2**30))
    assert (len(found.passes), found.on_disk, found.disk_bytes) == (1, False, 0)


@pytest.mark.parametrize("name", ["llama-causal-tied", "bert-sentences", "mixtral-text-generation"])
def test_a_teacher_whose_weights_are_spilled_is_the_same(name: str, tmp_path: Path) -> None:
    teacher, other = ZOO[name].teacher(), ZOO[name].teacher()
    assert can_spill(teacher.model, tmp_path)
    spill(teacher.model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert teacher.fingerprint == other.fingerprint
    half = teacher.architecture.scaled(layers=0.5)
    for one, same in zip(
        teacher.student(half).model.parameters(),
        other.student(half).model.parameters(),
        strict=True,
    ):
        assert torch.equal(one, same)


def test_a_tensor_on_disk_leaves_no_file_behind(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    found = on_disk((2, 3), folder, torch.bfloat16)
    assert (found.dtype, tuple(found.shape)) == (torch.bfloat16, (2, 3))
    assert int(found.count_nonzero()) == 0
    found += 1
    assert float(found.float().sum()) == 6
    assert list(folder.iterdir()) == []
