"""A student that starts deeper ends as the very student of its size, with what it has learnt."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from protege.objectives.distillation.progressive import Progressive, Shrinking, shrinking
from protege.objectives.machine.stopwatch import Stopwatch
from protege.spaces import (
    Architecture,
    BadInput,
    Calibration,
    Greedy,
    LayerMap,
    Magnitude,
    Rotation,
    Student,
    Teacher,
    Uniform,
)
from protege.spaces.architecture.policies import LayerPolicy
from protege.spaces.models.layout import Layout
from tests.spaces.healed import plenty
from tests.tiny import ZOO, answer, inputs_of
from tests.zoo import marked

KINDS = [
    "bert-sentences",
    "bert-sentences-dense",
    "bert-masked",
    "bert-texts",
    "llama-causal-tied",
    "llama-causal-grouped",
    "gpt2-text-generation",
    "gemma2-text-generation",
    "qwen3_moe-text-generation",
    "mpnet-fill-mask",
    "deberta-v2-fill-mask",
    "deberta-v2-large-fill-mask",
    "modernbert-fill-mask",
    "t5-text2text-generation",
    "t5-text-classification",
    "bart-text2text-generation",
    "whisper-automatic-speech-recognition",
    "siglip_vision_model-image-feature-extraction",
    "vit-image-classification",
]
STEPS = 8


def deeper(
    teacher: Teacher,
    architecture: Architecture,
    known: Calibration | None = None,
    progressive: Progressive | None = None,
    stopwatch: Stopwatch | None = None,
) -> Shrinking | None:
    return shrinking(
        teacher, architecture, known, progressive or Progressive(), stopwatch or Stopwatch()
    )


def shrunk(
    teacher: Teacher,
    known: Calibration | None = None,
    **ratios: Any,
) -> Shrinking:
    """A shrinking student at these ratios; half as deep if they do not say."""
    if teacher.architecture.num_decoder_layers:
        ratios = {"decoder_layers": 0.5, **ratios}
    architecture = teacher.architecture.scaled(**{"layers": 0.5, **ratios})
    found = deeper(teacher, architecture, known)
    assert found is not None
    return found


def trained(found: Shrinking, until: int = STEPS) -> Shrinking:
    """The student trained on its own answers; down to its size if for all the steps."""
    module, asked = found.student.module, inputs_of(found.student)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for step in range(until):
        found.advance(step, STEPS)
        output = module(**asked)
        said: Tensor = output if isinstance(output, Tensor) else output[0]
        said.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return found


def differs(one: Student, other: Student) -> bool:
    mine, theirs = one.module.state_dict(), other.module.state_dict()
    return any(not torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", marked(KINDS))
def test_what_is_finished_answers_as_the_deep_one_without_what_went(name: str) -> None:
    teacher = ZOO[name].teacher()
    found = trained(shrunk(teacher))
    finished, plain = found.finish(), teacher.student(found.blank().architecture)
    assert finished.manifest() == plain.manifest()
    assert finished.model.config.to_dict() == plain.model.config.to_dict()
    assert list(finished.module.state_dict()) == list(plain.module.state_dict())
    assert differs(finished, plain)  # it has learnt something
    assert torch.equal(answer(finished), answer(found.student))


@pytest.mark.parametrize("name", marked(KINDS))
def test_it_begins_as_the_teacher_in_all_its_depth(name: str) -> None:
    teacher = ZOO[name].teacher()
    found = shrunk(teacher)
    found.advance(0, STEPS)
    assert torch.equal(answer(found.student), answer(teacher))


@pytest.mark.parametrize(
    "name", ["bert-sentences", "llama-causal-grouped", "t5-question-answering"]
)
def test_narrow_ones_of_few_tokens_end_just_so(name: str) -> None:
    teacher = ZOO[name].teacher()
    hidden: dict[str, Any] = {"hidden": 0.7} if name != "llama-causal-grouped" else {"heads": 0.7}
    found = trained(
        shrunk(teacher, **hidden, intermediate=0.5, vocab=0.7, width_policy=Magnitude())
    )
    finished, plain = found.finish(), teacher.student(found.blank().architecture)
    assert finished.manifest() == plain.manifest()
    assert found.student.kept.vocab == plain.kept.vocab
    assert torch.equal(answer(finished), answer(found.student))


def test_finishing_early_leaves_all_out_that_is_to_go_and_the_deep_one_alone() -> None:
    teacher = ZOO["bert-masked"].teacher()
    found = trained(shrunk(teacher, layers=0.25), 3)
    before = answer(found.student)
    early = found.finish()
    assert torch.equal(answer(found.student), before)
    assert not torch.equal(answer(early), before)
    found.advance(STEPS, STEPS)
    assert torch.equal(answer(early), answer(found.student))
    with torch.no_grad():
        for parameter in early.module.parameters():
            parameter.zero_()
    assert torch.equal(answer(found.finish()), answer(found.student))


def counted(found: Shrinking) -> dict[str, list[int]]:
    """How often each layer of a stack computes something."""
    deep = Layout.of(found.teacher.family, found.student.model).layers(found.student.model)
    counts = {stack: [0] * len(layers) for stack, layers in deep.items()}

    def ran(stack: str, number: int, *_: Any) -> None:
        counts[stack][number] += 1

    for stack, layers in deep.items():
        for number, layer in enumerate(layers):
            inner = next(m for m in layer.modules() if isinstance(m, nn.Linear))
            inner.register_forward_hook(partial(ran, stack, number))
    return counts


def test_a_layer_that_has_gone_computes_nothing_and_learns_nothing() -> None:
    teacher = ZOO["bert-masked"].teacher()
    found = shrunk(teacher, layers=0.25, layer_policy=Uniform())
    counts = counted(found)
    assert found.going == {"encoder": (3, 1, 2)}
    for step in range(6):
        found.advance(step, 12)
        found.student.model(**inputs_of(found.student)).logits.sum().backward()
        found.student.model.zero_grad(set_to_none=True)
    assert counts == {"encoder": [6, 4, 6, 2]}
    found.advance(6, 12)
    found.student.model(**inputs_of(found.student)).logits.sum().backward()
    layers = Layout.of(teacher.family, found.student.model).layers(found.student.model)["encoder"]
    learning = [any(p.grad is not None for p in layer.parameters()) for layer in layers]
    assert learning == [True, False, False, False]


def test_each_stack_of_a_pair_shrinks_on_its_own() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    found = shrunk(teacher, layers=0.25, decoder_layers=0.7, layer_policy=Uniform())
    counts = counted(found)
    assert found.going == {"encoder": (3, 1, 2), "decoder": (2,)}
    for step in range(6):
        found.advance(step, 12)
        found.student.model(**inputs_of(found.student))
    assert counts == {"encoder": [6, 4, 6, 2], "decoder": [6, 6, 6]}
    found.advance(6, 12)
    found.student.model(**inputs_of(found.student))
    assert counts == {"encoder": [7, 4, 6, 2], "decoder": [7, 7, 6]}


@pytest.mark.parametrize(
    ("policy", "ratio", "start", "going"),
    [
        (Uniform(), 0.25, 1.0, (3, 1, 2)),
        (Uniform(), 0.5, 1.0, (3, 1)),
        (Uniform(), 0.25, 0.75, (1, 2)),
        (Uniform(), 0.75, 0.25, None),
        (LayerMap([1, 3]), 0.5, 1.0, (2, 0)),
        (LayerMap([1, 3], [0, 1, 3]), 0.5, 0.75, (0,)),
    ],
)
def test_what_the_policy_gives_up_first_goes_first(
    policy: LayerPolicy, ratio: float, start: float, going: tuple[int, ...] | None
) -> None:
    teacher = ZOO["bert-texts"].teacher()
    architecture = teacher.architecture.scaled(layers=ratio, layer_policy=policy)
    found = deeper(teacher, architecture, progressive=Progressive(start=start))
    assert (None if found is None else found.going["encoder"]) == going


def test_layers_go_down_a_ladder_as_it_was_climbed() -> None:
    teacher = ZOO["bert-masked"].teacher()
    known = Calibration.of(teacher, [plenty(teacher)], [Greedy()], "none")
    found = shrunk(teacher, known, layers=0.25, layer_policy=Greedy(), healing="none")
    assert found.going["encoder"] == tuple(known.importance["encoder.ladder"].tolist())
    finished = found.finish()
    assert finished.manifest() == teacher.student(found.blank().architecture, known).manifest()


@pytest.mark.parametrize(
    "name", ["mpnet-fill-mask", "deberta-v2-fill-mask", "gpt2-text-generation"]
)
def test_the_first_layer_may_go_even_before_anything_ran(name: str) -> None:
    teacher = ZOO[name].teacher()
    found = shrunk(teacher, layer_policy=LayerMap([2, 3]))
    found.advance(STEPS, STEPS)
    assert torch.equal(answer(found.student), answer(teacher.student(found.blank().architecture)))


def test_no_layer_comes_before_the_first_one_that_holds_more_than_its_own() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    policy = LayerMap([1, 2], [2])
    found = shrunk(teacher, decoder_layers=0.3, layer_policy=policy)
    assert found.going == {"encoder": (3,), "decoder": ()}
    assert torch.equal(answer(trained(found).finish()), answer(found.student))


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-tied"])
def test_a_healed_one_is_healed_in_all_its_depth(name: str) -> None:
    teacher = ZOO[name].teacher()
    batch = plenty(teacher)
    known = Calibration.of(teacher, [batch])
    found = shrunk(teacher, known, intermediate=0.5, healing="sequential")
    deep = teacher.architecture.scaled(intermediate=0.5, healing="sequential")
    assert torch.equal(answer(found.student), answer(teacher.student(deep, known)))
    finished = trained(found).finish()
    assert finished.manifest() == teacher.student(found.blank().architecture, known).manifest()
    assert torch.equal(answer(finished), answer(found.student))


@pytest.mark.parametrize("policy", [Rotation(), Rotation(tied=True)], ids=["untied", "tied"])
def test_a_turned_one_stays_turned(policy: Rotation) -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    batch = plenty(teacher)
    known = Calibration.of(teacher, [batch])
    found = shrunk(teacher, known, hidden=0.7, multiple_of=6, width_policy=policy, healing="none")
    found.advance(STEPS, STEPS)
    plain = teacher.student(found.blank().architecture, known)
    assert plain.kept.turned
    assert_close(answer(found.student), answer(plain))
    finished = trained(found).finish()
    assert finished.manifest() == plain.manifest()
    assert torch.equal(answer(finished), answer(found.student))


def test_ties_stay_and_the_teacher_is_left_alone() -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    before = answer(teacher)
    finished = trained(shrunk(teacher)).finish()
    ends: list[Any] = [
        finished.model.get_input_embeddings(),
        finished.model.get_output_embeddings(),
    ]
    assert ends[0].weight is ends[1].weight
    assert torch.equal(answer(teacher), before)


def test_there_is_nothing_to_drop_of_the_teacher_itself() -> None:
    teacher = ZOO["bert-texts"].teacher()
    assert deeper(teacher, teacher.architecture) is None
    thin = teacher.architecture.scaled(intermediate=0.5)
    assert deeper(teacher, thin) is None


def test_time_is_booked() -> None:
    teacher, stopwatch = ZOO["bert-texts"].teacher(), Stopwatch()
    own = teacher.architecture.scaled(layers=0.5)
    assert deeper(teacher, own, stopwatch=stopwatch) is not None
    assert stopwatch.seconds.keys() == {"build"}


@given(
    until=st.integers(1, 100).map(lambda share: share / 100),
    drops=st.integers(0, 30),
    steps=st.integers(1, 500),
)
def test_layers_go_evenly_and_in_time(until: float, drops: int, steps: int) -> None:
    gone = [Progressive(until=until).gone(drops, step, steps) for step in range(steps + 1)]
    assert gone == sorted(gone)
    assert gone[-1] == drops
    last = next(step for step, count in enumerate(gone) if count == drops)
    assert last - 1 < until * steps or not drops
    for number in range(1, drops + 1):  # each within a step of its time
        at = next(step for step, count in enumerate(gone) if count >= number)
        assert 0 <= at - number * until * steps / drops + 1e-6 < 1 + 2e-6


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "half"])
@pytest.mark.parametrize("name", ["start", "until"])
def test_a_share_that_is_none_is_refused(name: str, share: Any) -> None:
    shares: Any = {name: share}
    expected = "number" if isinstance(share, str) else "share above 0 and at most 1"
    with pytest.raises(BadInput, match=rf"{name}=.*: expected a {expected}"):
        Progressive(**shares)
