"""Vectors of single tokens, of which a static embedding is made.

The recipe is Model2Vec's (Tulkens and van Dongen 2024, "Model2Vec: Fast State-of-the-Art Static
Embeddings", github.com/MinishLab/model2vec).
"""

from itertools import takewhile

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

AT_A_TIME = 1024
"""Tokens that the teacher embeds in one batch."""

SMOOTHING = 1e-4
"""Constant of the smooth inverse frequency."""


def token_vectors(module: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: int) -> Tensor:
    """Embed every token alone, between the special tokens that the tokenizer puts around a text.

    Args:
        module: The teacher with its pooling.
        tokenizer: Its tokenizer.
        rows: Rows of its embedding.

    Returns:
        ``(rows, width)``.
    """
    before, after = _around(tokenizer)
    ids = torch.arange(rows)
    found = []
    for part in ids.split(AT_A_TIME):
        columns = [*before, None, *after]
        batch = torch.stack(
            [part if one is None else torch.full_like(part, one) for one in columns], dim=1
        )
        with torch.inference_mode():
            found.append(module(input_ids=batch, attention_mask=torch.ones_like(batch)))
    return torch.cat(found).clone()


def principal(vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Project vectors ``(n, width)`` on their first principal components.

    Returns:
        The projected vectors, ``(n, count)``, and the directions, ``(width, count)``.
    """
    centred = vectors.double() - vectors.double().mean(0)
    directions = directions_of(centred, count)
    return (centred @ directions).float(), directions.float()


def directions_of(vectors: Tensor, count: int) -> Tensor:
    """Return the directions that hold most of vectors' energy, ``(width, count)``.

    The projection on them has the least squared error of all of its rank.
    """
    _, directions = torch.linalg.eigh(vectors.T @ vectors)  # in ascending order
    found: Tensor = directions.flip(1)[:, :count]
    return found


def frequency_weights(rows: int, special: list[int], smoothing: float) -> Tensor:
    """Return the weight of each token, ``(rows,)``; 0 for special tokens.

    Vocabularies are sorted by frequency, so that a token's rank is its place among the others.
    """
    weights = torch.zeros(rows)
    ordinary = torch.tensor([one for one in range(rows) if one not in set(special)])
    frequency = 1 / torch.arange(2, len(ordinary) + 2)
    frequency /= frequency.sum()
    weights[ordinary] = smoothing / (smoothing + frequency)
    return weights


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of padding and of the tokens around every text, ascending."""
    before, after = _around(tokenizer)
    padding = [] if tokenizer.pad_token_id is None else [int(tokenizer.pad_token_id)]
    return sorted({*before, *after, *padding})


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after every text."""
    read: list[int] = tokenizer("a")["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    before = list(takewhile(special.__contains__, read))
    after = list(takewhile(special.__contains__, reversed(read[len(before) :])))
    return before, after[::-1]
