"""A static embedding of a teacher: a table of token vectors, made without training."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from protege.spaces import BadInput, Cache, Teacher
from protege.spaces.checkpoints.padding import rows_of
from protege.spaces.families.family import family_or_bare
from protege.spaces.others.static import StaticConfig, StaticModel
from protege.spaces.others.token_vectors import (
    SMOOTHING,
    frequency_weights,
    principal,
    token_vectors,
)

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
    smoothing: float = SMOOTHING

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
            return {"tokens": principal(found, self.dim)[0]}

        tokens = cache.tensors("static", key, compute)["tokens"]
        model = StaticModel(StaticConfig(vocab_size=rows, hidden_size=tokens.shape[1]))
        model.train(mode=False)
        with torch.no_grad():
            weights = frequency_weights(rows, tokenizer.all_special_ids, self.smoothing)
            model.embedding.weight.copy_(tokens * weights.unsqueeze(1))
        return Teacher(
            model=model,
            processor=teacher.processor,
            task=teacher.task,
            family=family_or_bare(StaticConfig.model_type),
            source=f"{teacher.source} ({self.name})",
            pooling=replace(pooling, mode="mean", normalize=True, projection=None),
        )
