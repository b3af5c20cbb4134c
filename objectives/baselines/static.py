"""A static embedding of a teacher: a table of token vectors, made without training."""

from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from protege.objectives.machine.lock import shared_machine
from protege.spaces import BadInput, Cache, Teacher
from protege.spaces.checkpoints.padding import rows_of
from protege.spaces.families.family import family_or_bare
from protege.spaces.models.static import StaticConfig, StaticModel

AT_A_TIME = 1024
"""Tokens that the teacher embeds in one batch."""

VERSION = 1
"""Version of the cached tables; raise it when the same declaration would give another table."""


@dataclass(frozen=True)
class StaticEmbedding:
    """A baseline for sentence encoders: one vector per token, averaged over a text.

    The recipe is Model2Vec's (Tulkens and van Dongen 2024, "Model2Vec: Fast State-of-the-Art Static
    Embeddings", github.com/MinishLab/model2vec). The teacher embeds each token of its vocabulary
    alone, the vectors are reduced to their principal components, and each one is multiplied by
    ``a / (a + p)``, the smooth inverse frequency (Arora et al. 2017, "A Simple but Tough-to-Beat
    Baseline for Sentence Embeddings"). The frequency p follows Zipf's law over the rank of the
    token in the vocabulary. Special tokens count nothing.

    Attributes:
        dim: Width of the vectors, at most that of the teacher's.
        smoothing: The constant a.

    Raises:
        BadInput: `dim` or `smoothing` is not positive.
    """

    dim: int = 256
    smoothing: float = 1e-4

    def __post_init__(self) -> None:
        if self.dim < 1 or self.smoothing <= 0:
            raise BadInput(
                f"StaticEmbedding(dim={self.dim}, smoothing={self.smoothing:g}): expected both "
                "above 0"
            )

    @property
    def name(self) -> str:
        """The name in tables and plots."""
        return f"static-{self.dim}"

    def made(self, teacher: Teacher, cache: Cache) -> Teacher:
        """Return the embedding with the teacher's tokenizer, from the cache if possible.

        Raises:
            BadInput: The teacher makes no sentence vectors.
        """
        embedder, pooling = teacher.embedder(), teacher.pooling
        if embedder is None or pooling is None:
            raise BadInput(
                f"StaticEmbedding: it embeds texts, and {teacher.source} is a model for "
                f"{teacher.task}; give checkpoints of that task as baselines"
            )
        key = {"teacher": teacher.fingerprint, "version": VERSION, "dim": self.dim}
        tokenizer, rows = teacher.tokenizer, rows_of(teacher.model)

        def compute() -> dict[str, Tensor]:
            found = token_vectors(embedder, tokenizer, rows)
            return {"tokens": principal(found, self.dim)}

        tokens = cache.tensors("static", key, compute)["tokens"]
        model = StaticModel(StaticConfig(vocab_size=rows, hidden_size=tokens.shape[1]))
        model.train(mode=False)
        with torch.no_grad():
            weights = frequency_weights(rows, tokenizer.all_special_ids, self.smoothing)
            model.tokens.weight.copy_(tokens * weights.unsqueeze(1))
        return Teacher(
            model=model,
            processor=teacher.processor,
            task=teacher.task,
            family=family_or_bare(StaticConfig.model_type),
            source=f"{teacher.source} ({self.name})",
            pooling=replace(pooling, mode="mean", normalize=True, projection=None),
        )


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
        with shared_machine(), torch.inference_mode():
            found.append(module(input_ids=batch, attention_mask=torch.ones_like(batch)))
    return torch.cat(found).clone()


def principal(vectors: Tensor, count: int) -> Tensor:
    """Project vectors ``(n, width)`` on their first principal components, ``(n, count)``."""
    centred = vectors.double() - vectors.double().mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # in ascending order
    found: Tensor = centred @ directions.flip(1)[:, :count]
    return found.float()


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


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after every text."""
    read: list[int] = tokenizer("a")["input_ids"]
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    before = list(takewhile(special.__contains__, read))
    after = list(takewhile(special.__contains__, reversed(read[len(before) :])))
    return before, after[::-1]
