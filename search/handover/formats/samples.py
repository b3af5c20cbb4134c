"""Sample inputs on which an export is compared with its PyTorch model."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from protege.spaces import Task, Teacher
from protege.spaces.checkpoints.processors import tokenizer_of

TEXTS = (
    "The ferry to the island leaves at seven in the morning.",
    "Prices rose faster than wages for the third year in a row, the bank said on Tuesday.",
    "Nobody answered.",
    "She opened the window, looked at the garden and decided that the roses could wait.",
    "A neural network with fewer layers answers sooner, and often almost as well.",
    "Add two eggs, stir for a minute, and let it rest.",
)
BATCHES = (4, 2)
"""Sizes of the batches, which differ in length too."""

PROMPTS = 4
PROMPT_TOKENS = 6
NEW_TOKENS = 32

TIE = 1e-3
"""Difference of two logits below which either token may follow."""


@dataclass(frozen=True)
class Reference:
    """The greedy answer of the PyTorch model to a prompt.

    Attributes:
        prompt: Token ids.
        answer: The ids that follow, up to the end of the text.
        margins: By how much the logit of each exceeds the second largest.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    margins: tuple[float, ...]


def batches(teacher: Teacher) -> list[dict[str, Tensor]]:
    """Return inputs of the model's forward pass: texts with padding, or random images."""
    config: Any = teacher.model.config
    if teacher.model.main_input_name == "pixel_values":
        side = config.image_size
        sides = (side, side) if isinstance(side, int) else tuple(side)
        generator = torch.Generator().manual_seed(0)
        return [
            {"pixel_values": torch.randn(size, config.num_channels, *sides, generator=generator)}
            for size in BATCHES
        ]
    taken = signature(teacher.model.forward).parameters
    tokenizer = tokenizer_of(teacher.processor)
    found, start = [], 0
    for size in BATCHES:
        given = tokenizer(
            list(TEXTS[start : start + size]), padding=True, truncation=True, return_tensors="pt"
        )
        inputs = {name: value for name, value in given.items() if name in taken}
        found.append(inputs | {"input_ids": _known(inputs["input_ids"], tokenizer)})
        start += size
    return found


def prompts(teacher: Teacher) -> list[tuple[int, ...]]:
    """Return the token ids of short prompts."""
    tokenizer = tokenizer_of(teacher.processor)
    ids = [
        tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        for text in TEXTS[:PROMPTS]
    ]
    return [tuple(_known(one, tokenizer)[0, :PROMPT_TOKENS].tolist()) for one in ids]


def _known(ids: Tensor, tokenizer: Any) -> Tensor:
    """Replace unknown tokens by others: a tokenizer of another language knows few of the texts."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return ids
    special = {*tokenizer.all_special_ids}
    others = [one for one in range(len(tokenizer)) if one not in special]
    places = torch.arange(ids.numel()).reshape(ids.shape) * 7919 % len(others)
    return torch.where(ids == unknown, torch.tensor(others)[places], ids)


def ends_of(model: Any) -> frozenset[int]:
    """Return the ids that end a generated text."""
    end = model.config.eos_token_id
    return frozenset(end if isinstance(end, list) else [] if end is None else [end])


@torch.no_grad()
def reference(model: Any, prompt: tuple[int, ...]) -> Reference:
    """Return what the PyTorch model writes after a prompt, by the most likely token each time."""
    cache, given = DynamicCache(), torch.tensor([prompt])
    answer: list[int] = []
    margins: list[float] = []
    ends = ends_of(model)
    while len(answer) < NEW_TOKENS:
        logits = model(given, past_key_values=cache, use_cache=True).logits[0, -1].float()
        first, second = logits.topk(2).values.tolist()
        token = int(logits.argmax())
        if token in ends:
            break
        answer.append(token)
        margins.append(first - second)
        given = torch.tensor([[token]])
    return Reference(prompt, tuple(answer), tuple(margins))


def traced(teacher: Teacher) -> dict[str, Any]:
    """Return the inputs that a model is traced with.

    A decoder reads two tokens after a cached prompt: its graph takes the whole prompt with an empty
    cache, and one token later.
    """
    if teacher.task is not Task.GENERATION:
        found: dict[str, Any] = dict(batches(teacher)[0])
        return found | ({"use_cache": False} if teacher.model.can_generate() else {})
    model: Any = teacher.model
    # DynamicCache keeps all tokens and the mask hides those outside a sliding window
    rows = torch.tensor([one[:4] for one in prompts(teacher)[:2]])
    with torch.no_grad():
        seen = model(rows, past_key_values=DynamicCache(), use_cache=True)
    mask = torch.ones(len(rows), rows.shape[1] + 2, dtype=torch.int64)
    given = {
        "input_ids": rows[:, :2],
        "attention_mask": mask,
        "past_key_values": seen.past_key_values,
        "use_cache": True,
    }
    if "position_ids" in signature(model.forward).parameters:
        given["position_ids"] = torch.arange(rows.shape[1], mask.shape[1]).expand(len(rows), -1)
    return given
