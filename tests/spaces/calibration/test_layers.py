"""What a layer is worth is what its states and the teacher's answers show of it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad
from torch.testing import assert_close

from protege.spaces import (
    BadInput,
    Calibration,
    Closest,
    Contiguous,
    Greedy,
    Influence,
    LayerMap,
    Task,
    Teacher,
)
from protege.spaces.architecture.policies import LayerPolicy
from protege.spaces.calibration.layers import (
    TOKENS,
    TRIED,
    first_sequences,
    greedy_ladder,
    layer_geometry,
)
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.models.batches import IMAGE
from protege.spaces.models.outputs import distance
from protege.spaces.students.selection import choose
from tests.tiny import ZOO, answer, batch, inputs_of, padded_left

KINDS = {
    "encoder": "bert-masked",
    "states": "bert-sentences",
    "grouped decoder": "llama-causal-grouped",
    "experts": "mixtral-text-generation",
    "encoder and decoder": "t5-text2text-generation",
    "sounds": "whisper-automatic-speech-recognition",
    "images": "vit-image-classification",
    "Conv1D": "gpt2-text-generation",
    "spans": "bart-question-answering",
    "one answer a text": "llama-texts",
}
POLICIES: list[LayerPolicy] = [Contiguous(), Influence(), Greedy(), Closest()]
NAMES = [policy.name for policy in POLICIES]


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS), scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """Of every kind of answer and stack one; tests leave it as it is."""
    return ZOO[request.param].teacher()


@pytest.fixture(scope="module")
def idle() -> Teacher:
    """A decoder of four layers whose layer 2 adds nothing to the residual stream."""
    found = ZOO["llama-causal-grouped"].teacher()
    with torch.no_grad():
        for name, parameter in found.model.named_parameters():
            if "layers.2." in name and ("o_proj" in name or "down_proj" in name):
                parameter.zero_()
    return found


def stacks_of(teacher: Teacher) -> dict[str, int]:
    """How many layers each stack has."""
    depths = teacher.layout.depths
    return {stack: depths[stack] for stack in teacher.family.depths if stack in depths}


def one_by_one(given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Every sequence as a batch of its own, with its padding."""
    for row in range(len(next(iter(given.values())))):
        yield {name: value[row : row + 1] for name, value in given.items()}


def padded(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same texts with four more tokens of padding; sounds stay as they are."""
    return {
        name: value if name == "input_features" else pad(value, (0, 4), value=int("ids" in name))
        for name, value in given.items()
    }


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_a_layer_that_does_nothing_goes_first(idle: Teacher, policy: LayerPolicy) -> None:
    calibration = Calibration.of(idle, [inputs_of(idle)], [policy], "none")
    assert policy.resolved(calibration).layers(4, 3, "decoder") == (0, 1, 3)


def test_a_layer_that_does_nothing_turns_nothing(idle: Teacher) -> None:
    found = layer_geometry(idle, [inputs_of(idle)])
    assert found.influence["decoder"][2] == pytest.approx(0, abs=1e-6)
    assert found.angles["decoder"][2, 3] == pytest.approx(0, abs=1e-6)
    assert (found.influence["decoder"][[0, 1, 3]] > 1e-3).all()


def test_angles_are_those_between_the_states_that_the_model_puts_out() -> None:
    teacher, given = ZOO["llama-causal-grouped"].teacher(), batch()
    with torch.inference_mode():
        states: Any = teacher.model(**given, output_hidden_states=True).hidden_states
    real = given["attention_mask"] == 1
    found = layer_geometry(teacher, [given])
    for one in range(4):  # the last of them is already normed
        for other in range(4):
            cosine = cosine_similarity(states[one][real], states[other][real], dim=-1)
            angle = cosine.clamp(-1, 1).arccos().mean() / torch.pi
            assert_close(found.angles["decoder"][one, other], angle, rtol=1e-3, atol=1e-3)
            if other == one + 1:
                assert_close(found.influence["decoder"][one], 1 - cosine.mean())


def test_every_stack_has_its_geometry_and_its_ladder(teacher: Teacher) -> None:
    given, depths = inputs_of(teacher), stacks_of(teacher)
    found, ladders = layer_geometry(teacher, [given]), greedy_ladder(teacher, [given])
    assert found.angles.keys() == found.influence.keys() == ladders.keys() == depths.keys()
    for stack, depth in depths.items():
        angles, influence = found.angles[stack], found.influence[stack]
        assert_close(angles, angles.T)
        assert_close(angles.diagonal(), torch.zeros(depth + 1), rtol=0, atol=1e-6)
        assert ((angles >= 0) & (angles <= 1)).all()
        assert ((influence >= 0) & (influence <= 2)).all()
        assert len(ladders[stack]) == depth - 1 == len(set(ladders[stack].tolist()))


def test_the_first_to_go_is_the_layer_whose_student_answers_best(teacher: Teacher) -> None:
    ladders = greedy_ladder(teacher, [inputs_of(teacher)])
    for stack, depth in stacks_of(teacher).items():
        lost = [apart(teacher, stack, depth, {layer}) for layer in range(depth)]
        assert ladders[stack][0] == lost.index(min(lost))


@pytest.mark.parametrize("name", ["llama-causal-grouped", "bert-masked", "t5-text2text-generation"])
def test_a_ladder_is_that_of_brute_force(name: str) -> None:
    teacher = evened(ZOO[name].teacher())
    ladders = greedy_ladder(teacher, [inputs_of(teacher)])
    for stack, depth in stacks_of(teacher).items():
        gone: list[int] = []
        while len(gone) < depth - 1:
            left = [layer for layer in range(depth) if layer not in gone]
            gone.append(min(left, key=lambda n: apart(teacher, stack, depth, {*gone, n})))
        assert ladders[stack].tolist() == gone


def test_a_rung_tries_few_layers() -> None:
    case = ZOO["llama-causal-grouped"]
    deep = replace(case, fields={**case.fields, "num_hidden_layers": 12}).teacher()
    runs: list[None] = []
    deep.model.register_forward_hook(lambda *_: runs.append(None))
    greedy_ladder(deep, [batch()])
    assert len(runs) <= 1 + 12 + sum(min(left, TRIED) for left in range(2, 12))


def evened(teacher: Teacher) -> Teacher:
    """The teacher with layers that add little each, so that none is missed less for another."""
    with torch.no_grad():
        for module, slot, _ in teacher.layout.reading(teacher.model):
            weight: Any = module.weight
            weight *= 0.3 / (1 + (slot.layer or 0))
    return teacher


def apart(teacher: Teacher, stack: str, depth: int, gone: set[int]) -> float:
    """How far the student without these layers of a stack is from the teacher."""
    kept = LayerMap([layer for layer in range(depth) if layer not in gone])
    ratio = "decoder_layers" if stack != next(iter(teacher.family.depths)) else "layers"
    shape: dict[str, Any] = {ratio: 1 - len(gone) / depth, "layer_policy": kept}
    student = teacher.student(teacher.architecture.scaled(**shape))
    with torch.inference_mode():
        if teacher.embedder() is not None:  # its states, before they are pooled
            whole, mine = (one.model(**inputs_of(teacher))[0] for one in (teacher, student))
            real = inputs_of(teacher).get("attention_mask", torch.ones(whole.shape[:2])) == 1
            return float(distance(whole[real], mine[real], is_logits=False))
    pair = answer(teacher), answer(student)
    if "QuestionAnswering" in type(teacher.model).__name__:
        spans = zip(*(spans_of(one) for one in pair), strict=True)
        return sum(float(distance(*span, is_logits=True)) for span in spans)
    return float(distance(*pair, is_logits=teacher.task.has_logits))


def spans_of(logits: Tensor) -> list[Tensor]:
    """Starts and ends over the real tokens of each text, from those of all texts."""
    lengths = batch()["attention_mask"].sum(1).tolist()
    return [text.T for text in logits.split(lengths)]


def test_padding_and_batches_change_nothing(teacher: Teacher) -> None:
    given = inputs_of(teacher)
    expected, ladders = layer_geometry(teacher, [given]), greedy_ladder(teacher, [given])
    # where a text ends these two tell by the tokens, so that no other one can stand there
    whole = teacher.task in {Task.TEXTS, Task.QUESTIONS} or "pixel_values" in given
    for batches in [list(one_by_one(given)), *([] if whole else [[padded(given)]])]:
        assert_close(layer_geometry(teacher, batches)._asdict(), expected._asdict())
        assert_close(greedy_ladder(teacher, batches), ladders)


def test_padding_on_the_left_changes_no_ladder() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()  # its positions are relative
    right = batch()
    left = padded_left(right)
    assert_close(layer_geometry(teacher, [left]), layer_geometry(teacher, [right]))
    assert_close(greedy_ladder(teacher, [left]), greedy_ladder(teacher, [right]))


def test_a_ladder_takes_whole_texts_up_to_so_many_real_tokens() -> None:
    texts = {name: value.repeat(100, 1) for name, value in batch().items()}
    taken = list(first_sequences([texts, texts]))
    real = sum(int(piece["attention_mask"].sum()) for piece in taken)
    assert TOKENS - 9 < real <= TOKENS
    first = torch.cat([piece["input_ids"] for piece in taken])
    assert torch.equal(first, texts["input_ids"][: len(first)])


def test_a_ladder_takes_one_text_of_any_length_and_images_by_number() -> None:
    long = {"input_ids": torch.ones(2, TOKENS + 1, dtype=torch.int64)}
    assert [len(piece["input_ids"]) for piece in first_sequences([long, long])] == [1]
    images = {"pixel_values": torch.zeros(100, 3, 12, 12)}
    assert sum(len(piece["pixel_values"]) for piece in first_sequences([images])) == TOKENS // IMAGE
    spoken = {"input_features": torch.zeros(100, 6, 16), "attention_mask": torch.ones(100, 16)}
    said = {"decoder_input_ids": torch.ones(100, 2 * IMAGE, dtype=torch.int64)}
    taken = sum(len(piece["input_features"]) for piece in first_sequences([spoken | said]))
    assert taken == TOKENS // (2 * IMAGE)


def test_the_teacher_is_left_as_it_was(teacher: Teacher) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    layer_geometry(teacher, [inputs_of(teacher)])
    greedy_ladder(teacher, [inputs_of(teacher)])
    assert_close(teacher.model.state_dict(), before, rtol=0, atol=0)
    assert_untouched(teacher)


def test_a_ladder_that_fails_leaves_no_layer_changed() -> None:
    teacher = ZOO["bert-masked"].teacher()
    runs = 0

    def fail(*_: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 3:  # while the second layer tried is left out, and the first stands in
            raise RuntimeError("broken on its third run")

    broken = teacher.model.get_submodule("cls").register_forward_hook(fail)
    with broken, pytest.raises(RuntimeError, match="broken on its third run"):
        greedy_ladder(teacher, [inputs_of(teacher)])
    assert_untouched(teacher)


def test_a_pass_that_fails_leaves_no_hook_behind() -> None:
    teacher = ZOO["bert-masked"].teacher()
    wrong = {"input_ids": torch.full((1, 3), 10_000), "attention_mask": torch.ones(1, 3)}
    with pytest.raises(IndexError, match="out of range"):
        layer_geometry(teacher, [wrong])
    assert_untouched(teacher)


def assert_untouched(teacher: Teacher) -> None:
    for module in teacher.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_a_calibration_has_what_the_policies_ask_for(teacher: Teacher) -> None:
    told: list[str] = []
    given, stacks = inputs_of(teacher), stacks_of(teacher)
    found = Calibration.of(teacher, [given], POLICIES, "none", announce=told.append).importance
    for stack in stacks:
        assert found[f"{stack}.ladder"].dtype == torch.int64
        assert {f"{stack}.influence", f"{stack}.angles"} <= found.keys()
        assert told.count(f"choosing {stack} layers to drop 100%") == 1
    bare = Calibration.measured(teacher, [given]).importance
    assert found.keys() - bare.keys() == {
        f"{stack}.{what}"
        for stack in stacks
        for what in ("influence", "angles", "ladder", "closest")
    }


def test_a_calibration_knows_no_other_layer_policy() -> None:
    teacher = ZOO["bert-masked"].teacher()
    with pytest.raises(BadInput, match=r"layers=\['ends'\]: expected some of influence, contig"):
        Calibration.measured(teacher, [inputs_of(teacher)], CalibrationPlan(layers=["ends"]))


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_what_a_policy_found_is_what_the_student_keeps(
    teacher: Teacher, policy: LayerPolicy
) -> None:
    own = teacher.architecture
    paired = own.num_decoder_layers > 0
    student = own.scaled(layers=0.75, decoder_layers=2 / 3 if paired else 1.0, layer_policy=policy)
    calibration = Calibration.of(teacher, [inputs_of(teacher)], [policy], "none")
    kept = choose(teacher.layout, student, calibration)
    for stack, depth in stacks_of(teacher).items():
        expected = policy.resolved(calibration).layers(depth, depth - 1, stack)
        assert kept.layers(stack) == expected
    assert choose(teacher.layout, student.resolved(calibration), None) == kept


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_a_student_by_a_policy_that_has_seen_no_data_is_refused(policy: LayerPolicy) -> None:
    teacher = ZOO["bert-masked"].teacher()
    student = teacher.architecture.scaled(layers=0.5, layer_policy=policy)
    advice = rf"pass calibration=Calibration\.of\(teacher, batches, for_=\[{policy!r}\]\)"
    advice = advice.replace("()", r"\(\)")
    with pytest.raises(BadInput, match=rf"'{policy.name}': needs a calibration; {advice}"):
        choose(teacher.layout, student, None)
    with pytest.raises(BadInput, match=rf"'{policy.name}': a calibration without \w+; {advice}"):
        choose(teacher.layout, student, Calibration.flat(teacher.layout))
