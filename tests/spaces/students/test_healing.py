"""Healed students: closer to their teachers than cut ones, and in all else just like them."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from protege.spaces import (
    BadInput,
    Calibration,
    First,
    Selection,
    Student,
    Teacher,
    family_of,
)
from protege.spaces.architecture.policies import Healing
from protege.spaces.calibration.plan import HEALED, CalibrationPlan
from protege.spaces.residual.directions import Basis
from protege.spaces.students.healing import Healer
from protege.spaces.students.selection import LayerSelection, everything
from tests.spaces.healed import AXES, Flow, halved_along, off, plenty, same, tensors_of
from tests.tiny import CASES, ZOO, answer, inputs_of
from tests.zoo import FLOWS, READERS, head, marked, teacher_of

HEALINGS: tuple[Healing, ...] = ("one-shot", "sequential")


@pytest.fixture(scope="session")
def student(flow: Flow) -> Student:
    """A student of each flow, cut along all axes and healed; tests leave it as it is."""
    return healed(flow, "all")


def healed(flow: Flow, axis: str, healing: Healing = "sequential") -> Student:
    architecture = halved_along(flow.teacher, axis, healing)
    assert architecture is not None
    return flow.student(architecture)


def test_what_keeps_everything_is_left_alone(flow: Flow) -> None:
    """With nothing cut there is no healing to speak of, and the student is the teacher."""
    teacher, own = flow.teacher, flow.teacher.architecture
    assert own.scaled(healing="sequential") == own
    for healing in HEALINGS:
        whole = replace(own, healing=healing)
        student = teacher.student_of(whole, everything(teacher.layout), flow.calibration)
        assert same(student.model.state_dict(), dict(teacher.model.state_dict()))


def test_a_healer_finds_nothing_to_repair_in_the_teacher(flow: Flow) -> None:
    """Every fit begins with what is right, and leaves it so, to the bit."""
    teacher, model = flow.teacher, deepcopy(flow.teacher.model)
    width = teacher.architecture.hidden_size
    basis = Basis(width, tuple(range(width)))
    Healer(model, teacher, everything(teacher.layout), basis, {}, flow.streams).heal()
    assert same(dict(model.state_dict()), dict(teacher.model.state_dict()))


def test_a_healed_student_is_finite_and_of_the_sizes_asked_for(
    student: Student, flow: Flow
) -> None:
    """Tensor by tensor what its blueprint has."""
    blueprint = flow.teacher.blueprint(student.architecture).skeleton().state_dict()
    own = student.model.state_dict()
    assert {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in blueprint.items()}
    assert all(bool(t.isfinite().all()) for t in tensors_of(student).values())
    assert bool(answer(student, **flow.batch).isfinite().all())


def test_a_healed_student_owns_its_tensors_and_ties_what_was_tied(
    student: Student, flow: Flow
) -> None:
    """None lies where one of the teacher's does."""

    def places(model: torch.nn.Module) -> dict[str, int]:
        return {n: t.untyped_storage().data_ptr() for n, t in model.state_dict().items()}

    def ties(model: torch.nn.Module) -> set[frozenset[str]]:
        found = places(model)
        alike = (frozenset(n for n in found if found[n] == place) for place in found.values())
        return {names for names in alike if len(names) > 1}

    mine, theirs = places(student.model), places(flow.teacher.model)
    assert not set(mine.values()) & set(theirs.values())
    assert ties(student.model) == ties(flow.teacher.model)


def test_a_healed_student_can_be_trained_and_its_teacher_stays(
    student: Student, flow: Flow
) -> None:
    """Parameters are plain ones, hooks are gone, and a step changes nobody else."""
    teacher, copy = flow.teacher, deepcopy(student.model)
    assert not any(module._forward_hooks for module in student.model.modules())
    assert not any(module._forward_hooks for module in teacher.model.modules())
    assert all(p.requires_grad and p.is_leaf for p in student.model.parameters())
    assert not any(t.is_inference() for t in tensors_of(student).values())
    before = {name: t.clone() for name, t in teacher.model.state_dict().items()}
    copy(**inputs_of(student))[0].square().sum().backward()
    optimiser = torch.optim.SGD(copy.parameters(), lr=0.1)
    optimiser.step()
    assert any(p.grad is not None and bool(p.grad.any()) for p in copy.parameters())
    assert same(before, dict(teacher.model.state_dict()))


def test_healing_is_the_same_every_time_and_draws_nothing(student: Student, flow: Flow) -> None:
    """Twice the same bits, with the global generator where it was."""
    state = torch.get_rng_state()
    again = flow.student(student.architecture)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(tensors_of(again), tensors_of(student))


@pytest.mark.parametrize("name", marked(CASES, by=head))
def test_a_healed_student_is_saved_and_read_again(name: str, tmp_path: Path) -> None:
    """It says the same, from plain files."""
    teacher = ZOO[name].teacher()
    student = healed(Flow.of(teacher, plenty(teacher, rows=8)), "all")
    loaded = type(student.model).from_pretrained(student.save(tmp_path)).eval()
    assert same(dict(loaded.state_dict()), dict(student.model.state_dict()))
    with torch.inference_mode():
        given = inputs_of(student)
        assert torch.equal(loaded(**given)[0], student.model(**given)[0])


def test_healing_brings_the_last_state_closer_to_the_teacher_s(flow: Flow) -> None:
    """On what it was healed on, along every axis, in every family."""
    for axis in AXES:
        plain = halved_along(flow.teacher, axis, "none")
        if plain is not None:
            cut = off(flow, flow.student(plain))
            assert off(flow, healed(flow, axis)) < 0.99 * cut, axis


def test_moments_alone_bring_it_closer_where_units_are_cut(flow: Flow) -> None:
    """Neurons and heads; what else changes the stream is beyond one look."""
    for axis in ("ffn", "heads", "kv_heads"):
        plain = halved_along(flow.teacher, axis, "none")
        if plain is not None:
            cut = off(flow, flow.student(plain))
            once = off(flow, healed(flow, axis, "one-shot"))
            assert once < cut, axis


def padded_otherwise(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same texts with other tokens, which count for nothing, where padding was."""
    found = dict(batch)
    for side in ("", "decoder_"):
        mask = batch.get(f"{side}attention_mask")
        if mask is not None:
            found[f"{side}input_ids"] = batch[f"{side}input_ids"].masked_fill(mask == 0, 7)
    return found


def decodes(name: str) -> bool:
    """Whether a case is a decoder alone, which does not mind the side of its padding."""
    return family_of(ZOO[name].model_type).stacks.keys() == {"decoder"}


READING = [name for name in FLOWS if name in READERS]

# mBART's decoder begins with the text's language, the last token that is not padding's, where its
# head feeds it; encoders count positions from where a text begins
PADDED = [
    *((name, "right") for name in READING if name != "mbart-text-classification"),
    *((name, "left") for name in READING if decodes(name)),
]


@pytest.mark.parametrize(
    "healing", ["sequential", pytest.param("one-shot", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("name", "side"), marked(PADDED))
def test_what_stands_under_padding_changes_nothing(name: str, side: str, healing: Healing) -> None:
    """Left and right alike, where the model itself does not mind the side."""
    teacher = teacher_of(name)
    batch = plenty(teacher, rows=6, tokens=16, side=side)
    architecture = halved_along(teacher, "all", healing)
    assert architecture is not None
    one, other = (
        Flow.of(teacher, given).student(architecture) for given in (batch, padded_otherwise(batch))
    )
    theirs = tensors_of(other)
    for tensor, mine in tensors_of(one).items():
        torch.testing.assert_close(mine, theirs[tensor], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", marked(READING))
def test_tokens_are_cut_from_a_student_that_is_healed_already(name: str) -> None:
    """Both at once is healing first, the vocabulary afterwards."""
    teacher = teacher_of(name)
    flow = Flow.of(teacher, plenty(teacher, rows=8))
    student = healed(flow, "all")
    smaller = flow.student(replace(student.architecture, vocab_size=64))
    assert smaller.kept == replace(student.kept, vocab=smaller.kept.vocab)
    assert smaller.architecture.vocab_size == 64
    whole, rows = tensors_of(student), torch.tensor(smaller.kept.vocab)
    for tensor, mine in tensors_of(smaller).items():
        theirs = whole[tensor]
        for dimension, size in enumerate(theirs.shape):
            if size != mine.shape[dimension]:
                theirs = theirs.index_select(dimension, rows)
        assert torch.equal(mine, theirs), tensor


@pytest.mark.parametrize("healing", HEALINGS)
@pytest.mark.parametrize("name", ["llama-causal-grouped", "gpt2-text-generation"])
def test_neurons_that_are_copies_of_others_are_made_up_for(name: str, healing: Healing) -> None:
    """A student without them can be exact, and with many tokens nearly is."""
    teacher = ZOO[name].teacher()
    half = teacher.architecture.intermediate_size // 2
    with torch.no_grad():
        for slot in teacher.layout.slots:
            tensor = teacher.model.state_dict()[slot.name]
            if slot.axes[0] == "ffn":
                tensor[half:] = tensor[:half]
            elif slot.axes == ("hidden", "ffn") and name.startswith(
                "gpt2"
            ):  # Conv1D: the other way
                tensor[:, half:] = tensor[:, :half]
    flow = Flow.of(teacher, plenty(teacher, rows=600))
    kept = first_neurons(teacher, half)
    architecture = replace(teacher.architecture, intermediate_size=half)
    cut = teacher.student_of(architecture, kept)
    mended = teacher.student_of(replace(architecture, healing=healing), kept, flow.calibration)
    assert off(flow, mended) < 0.1 * off(flow, cut)


def first_neurons(teacher: Teacher, count: int) -> Selection:
    whole = everything(teacher.layout)
    stacks = {
        stack: tuple(
            LayerSelection(layer.number, {**layer.units, "ffn": tuple(range(count))})
            for layer in layers
        )
        for stack, layers in whole.stacks.items()
    }
    return replace(whole, stacks=stacks)


def test_a_layer_that_only_adds_a_constant_is_made_up_for_in_full() -> None:
    """Its constant goes into the bias of the layer before, which no prior holds back."""
    teacher = ZOO["gpt2-text-generation"].teacher()
    with torch.no_grad():
        for writer, slot, _ in teacher.layout.reading(teacher.model):
            if slot.layer == 2:
                writer.get_parameter("weight").zero_()
                writer.get_parameter("bias").add_(1)
    flow = Flow.of(teacher, plenty(teacher, rows=8))
    whole = everything(teacher.layout)
    kept = replace(whole, stacks={"decoder": tuple(whole.stacks["decoder"][n] for n in (0, 1, 3))})
    architecture = replace(teacher.architecture, num_hidden_layers=3)
    cut = teacher.student_of(architecture, kept)
    mended = teacher.student_of(replace(architecture, healing="sequential"), kept, flow.calibration)
    assert off(flow, mended) < 1e-6 * off(flow, cut)


def test_healing_without_what_it_looks_at_says_what_is_missing() -> None:
    """No calibration, no streams, no moments."""
    teacher = ZOO["llama-causal-grouped"].teacher()
    batch = plenty(teacher, rows=2)
    bare = Calibration.measured(teacher, [batch])
    moments = Calibration.measured(teacher, [batch], CalibrationPlan(moments=HEALED))
    for healing in HEALINGS:
        architecture = teacher.architecture.scaled(
            intermediate=0.5, width_policy=First(), healing=healing
        )
        for known in (None, bare, moments):
            with pytest.raises(BadInput, match=r"healing needs data .* it needs streams"):
                teacher.student(architecture, known)
    once = teacher.architecture.scaled(intermediate=0.5, width_policy=First(), healing="one-shot")
    with pytest.raises(BadInput, match=r"one-shot healing needs data .* healing='one-shot'"):
        teacher.student(once, bare.with_streams(teacher, batch))


@pytest.mark.parametrize("name", ["electra-feature-extraction", "opt-narrow-text-generation"])
def test_a_later_layer_comes_first_where_the_stream_begins_in_a_projection(name: str) -> None:
    """No norm has seen the stream that its first projection adds to; the rest is repaired."""
    teacher = ZOO[name].teacher()
    flow, whole = Flow.of(teacher, plenty(teacher, rows=8)), everything(teacher.layout)
    (stack,) = whole.stacks
    kept = replace(whole, stacks={stack: whole.stacks[stack][2:]})
    architecture = replace(teacher.architecture, num_hidden_layers=2)
    cut = teacher.student_of(architecture, kept)
    mended = teacher.student_of(replace(architecture, healing="sequential"), kept, flow.calibration)
    assert off(flow, mended) < off(flow, cut)
