"""Second moments are what a plain computation gives, however texts are batched."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import Calibration, Teacher
from protege.spaces.calibration.plan import HEALED, CalibrationPlan
from protege.spaces.models.activations import RunningMoments, columns
from protege.spaces.models.batches import real_tokens
from tests.spaces.calibration.test_calibration import one_by_one, padded
from tests.tiny import ZOO, batch, inputs_of

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
TEXTS = [name for kind, name in KINDS.items() if kind not in {"speech", "images"}]


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS), scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """Of every kind of projection and padding one; tests leave it as it is."""
    return ZOO[request.param].teacher()


def alone(given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Every sequence by itself without padding."""
    if "input_ids" in given:
        yield from one_by_one(given)
        return
    for row in range(len(next(iter(given.values())))):
        own = {name: value[row : row + 1] for name, value in given.items()}
        if "decoder_attention_mask" in own:
            real = own["decoder_attention_mask"] == 1
            for name in ("decoder_input_ids", "decoder_attention_mask"):
                own[name] = own[name][real][None]
        yield own


def seen(teacher: Teacher, batches: Iterator[dict[str, Tensor]]) -> dict[str, dict[int, Tensor]]:
    """All that passes each site when there is no padding, ``(tokens, units)``, by layer."""
    passed: dict[str, dict[int, list[Tensor]]] = {}

    def keep(name: str, layer: int, values: Tensor) -> None:
        flat = values.reshape(-1, values.shape[-1])
        passed.setdefault(name, {}).setdefault(layer, []).append(flat)

    def listen(module: nn.Module, name: str, layer: int) -> None:
        def hook(_module: nn.Module, given: Any, output: Tensor) -> None:
            keep(name, layer, output if name == "hidden" else given[0])

        stack.callback(module.register_forward_hook(hook).remove)

    with ExitStack() as stack, torch.inference_mode():
        for module, (name, layer) in sites(teacher):
            listen(module, name, layer)
        for one in batches:
            teacher.model(**one)
    return {
        name: {layer: torch.cat(values) for layer, values in layers.items()}
        for name, layers in passed.items()
    }


def sites(teacher: Teacher) -> Iterator[tuple[nn.Module, tuple[str, int]]]:
    """All modules that are listened to, with the name of the site and the layer."""
    for number, (module, _) in enumerate(teacher.layout.norms(teacher.model)):
        if not distances(teacher, module):
            yield module, ("hidden", number)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


def distances(teacher: Teacher, module: nn.Module) -> bool:
    """Whether a norm is of DeBERTa's distances, not of tokens."""
    encoder = getattr(teacher.model.base_model, "encoder", None)
    return hasattr(encoder, "rel_embeddings") and module is getattr(encoder, "LayerNorm", None)


def test_second_moments_are_those_of_the_texts_one_by_one(teacher: Teacher) -> None:
    inputs = inputs_of(teacher)
    found = Calibration.measured(teacher, [inputs], CalibrationPlan(moments=HEALED)).importance
    by_hand = seen(teacher, alone(inputs))
    assert {n.removesuffix(".gram") for n in found if n.endswith(".gram")} == set(by_hand)
    for name, layers in by_hand.items():
        for layer, values in layers.items():
            exact = values.double()
            gram = (exact.T @ exact / len(exact)).float()
            assert_close(found[f"{name}.gram"][layer], gram, rtol=1e-3, atol=1e-5)
            mean = exact.mean(0).float()
            assert_close(found[f"{name}.mean"][layer], mean, rtol=1e-3, atol=1e-5)
            if name == "hidden":
                energy = exact.square().mean(0).float()
                assert_close(found["hidden.energy"][layer], energy, rtol=1e-3, atol=1e-5)
        without = set(range(len(found[f"{name}.gram"]))) - set(layers)
        assert not found[f"{name}.gram"][list(without)].any()


@pytest.mark.parametrize("name", TEXTS)
def test_padding_and_batches_change_neither_moments_nor_criteria(name: str) -> None:
    teacher = ZOO[name].teacher()
    inputs = inputs_of(teacher)
    plan = CalibrationPlan(criteria=["taylor"], moments=HEALED)
    expected = Calibration.measured(teacher, [inputs], plan).tensors()
    rows = [{n: v[row : row + 1] for n, v in inputs.items()} for row in range(3)]
    for batches in (rows, [padded(inputs, 4)]):
        found = Calibration.measured(teacher, batches, plan).tensors()
        assert_close(found, expected, rtol=5e-3, atol=1e-5)


@given(
    sequences=st.integers(1, 3),
    tokens=st.integers(1, 5),
    seed=st.integers(0, 99),
    whole=st.booleans(),
)
def test_a_mask_is_the_same_as_leaving_its_tokens_out(
    sequences: int, tokens: int, seed: int, *, whole: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sequences, tokens, 3, generator=generator)
    mask = torch.rand(sequences, tokens, generator=generator) < 0.6
    mask |= whole
    once, by_row = (RunningMoments(1, 3, [0]) for _ in range(2))
    once.add(0, values, None if whole else mask)
    for row, real in zip(values, mask, strict=True):
        by_row.add(0, row[real][None], None) if real.any() else None
    for name in ("activity", "tokens", "sums", "squares", "products"):
        assert_close(getattr(once, name), getattr(by_row, name), rtol=1e-4, atol=1e-5)


def test_tokens_are_picked_only_where_some_are_padding() -> None:
    whole = {"attention_mask": torch.ones(3, 9)}
    assert real_tokens(whole, torch.Size([3, 9]), in_decoder=False) is None
    mask = real_tokens(batch(), torch.Size([3, 9]), in_decoder=False)
    assert mask is not None
    assert torch.equal(mask, batch()["attention_mask"] == 1)


@pytest.mark.parametrize(
    "name",
    [
        "llama-causal-grouped",
        "gpt2-text-generation",
        "t5-text2text-generation",
        "vit-image-classification",
    ],
)
def test_wanda_is_what_the_output_loses_without_the_unit(name: str) -> None:
    teacher = ZOO[name].teacher()
    inputs = inputs_of(teacher)
    found = Calibration.measured(teacher, [inputs]).importance
    passed = seen(teacher, alone(inputs))
    heads = teacher.architecture.num_attention_heads
    for module, slot, unit in teacher.layout.reading(teacher.model):
        site, layer = f"{slot.stack}.{unit}", slot.layer or 0
        values, weight = passed[site][layer], columns(module)
        lost = []
        for column in range(weight.shape[1]):
            silenced = values.clone()
            silenced[:, column] = 0
            change = silenced @ weight.T - values @ weight.T
            lost.append(change.square().sum(-1).mean().sqrt())
        expected = torch.stack(lost)
        if unit != "ffn":
            expected = expected.unflatten(0, (heads, -1)).square().sum(-1).sqrt()
        assert_close(found[f"{site}.wanda"][layer], expected, rtol=2e-3, atol=1e-5)
