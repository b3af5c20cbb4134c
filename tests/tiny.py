"""Tiny teachers with random weights: every family with every head, built in milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from protege.spaces import Pooling, Student, Task, Teacher, family_of
from protege.spaces.pooling import write_sentence_transformer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(91))
VOCABULARY = len(SPECIAL) + len(WORDS)
"""More tokens than a language lesson keeps by name, so that there is a rest."""

SHARED: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 4,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "num_labels": 3,
}
GROUPED: dict[str, Any] = {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "mlp_bias": True,
}


@dataclass(frozen=True)
class Case:
    """A kind of teacher.

    Attributes:
        model_type: Names the family.
        task: Names the head.
        fields: Configuration fields beside the shared sizes.
        pooling: Of sentence encoders.
        dense: Outputs of the linear layer that a sentence encoder ends with; 0 for none.
    """

    model_type: str
    task: Task
    fields: Mapping[str, Any] = field(default_factory=dict)
    pooling: Pooling | None = None
    dense: int = 0

    @property
    def config(self) -> PretrainedConfig:
        return CONFIG_MAPPING[self.model_type](**{**SHARED, **self.fields})

    def teacher(self, seed: int = 0) -> Teacher:
        """A teacher whose every tensor is random, biases and norms too."""
        auto_class = getattr(transformers, self.task.auto_class)
        model: PreTrainedModel = auto_class.from_config(self.config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                centre = parameter.mean().round()  # norms multiply: they stay around one
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(centre + 0.2 * noise)
        pooling = self.pooling
        if pooling is not None and self.dense:
            weight = torch.randn(self.dense, model.config.hidden_size, generator=generator)
            bias = torch.randn(self.dense, generator=generator)
            pooling = Pooling(pooling.mode, pooling.normalize, pooling.max_tokens, (weight, bias))
        family = family_of(self.model_type)
        return Teacher(model, tokenizer(self.model_type), self.task, family, "tiny", pooling)


_MEAN = Pooling("mean", normalize=True, max_tokens=32)

CASES: dict[str, Case] = {
    "bert": Case("bert", Task.FEATURES, pooling=Pooling(max_tokens=32)),
    "bert-sentences": Case("bert", Task.SENTENCES, pooling=_MEAN),
    "bert-sentences-dense": Case("bert", Task.SENTENCES, pooling=_MEAN, dense=10),
    "bert-masked": Case("bert", Task.FILL_MASK),
    "bert-texts": Case("bert", Task.TEXTS),
    "bert-tokens": Case("bert", Task.TOKENS),
    "llama": Case("llama", Task.FEATURES, pooling=Pooling(max_tokens=32)),
    "llama-sentences": Case("llama", Task.SENTENCES, GROUPED, Pooling("lasttoken", max_tokens=32)),
    "llama-causal-tied": Case("llama", Task.GENERATION, {"tie_word_embeddings": True}),
    "llama-causal-grouped": Case("llama", Task.GENERATION, GROUPED),
    "llama-texts": Case("llama", Task.TEXTS, GROUPED),
    "llama-tokens": Case("llama", Task.TOKENS),
}


def tokenizer(model_type: str) -> PreTrainedTokenizerBase:
    """A real tokenizer of whole words; encoders get their special tokens around each text."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if model_type == "llama":
        ends = {"eos_token": "[SEP]"}
    else:
        ends = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=32,
        padding_side="right",
        **ends,
    )


def save(teacher: Teacher, folder: Path) -> Path:
    """Write the teacher as its authors would have published it."""
    teacher.model.save_pretrained(folder)
    teacher.tokenizer.save_pretrained(folder)
    embedder = teacher.embedder()
    if teacher.task is Task.SENTENCES and embedder is not None:
        width = teacher.architecture.hidden_size
        write_sentence_transformer(folder, embedder.pooling, embedder.projection, width)
    return folder


def texts(count: int = 40, longest: int = 12) -> list[str]:
    """Distinct texts of one to so many words."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, None] = {}
    while len(found) < count:
        length = int(torch.randint(1, longest + 1, (1,), generator=generator))
        numbers = torch.randint(len(WORDS), (length,), generator=generator).tolist()
        found[" ".join(WORDS[number] for number in numbers)] = None
    return list(found)


def batch(*, sequences: int = 3, tokens: int = 9, side: str = "right") -> dict[str, Tensor]:
    """Random ids with two tokens more padding on each row than on the one before."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(len(SPECIAL), VOCABULARY, (sequences, tokens), generator=generator)
    mask = torch.arange(tokens) < tokens - 2 * torch.arange(sequences)[:, None]
    if side == "left":
        mask = mask.flip(1)
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def answer(model: Teacher | Student, **given: Tensor) -> Tensor:
    """What the model says of every real token, or of each text: logits, states or vectors."""
    given = given or batch()
    embedder = model.embedder() if isinstance(model, Teacher) else model.embedder
    with torch.inference_mode():
        if embedder is not None and embedder.projection is not None:
            vectors: Tensor = embedder(**given)
            return vectors
        output = model.model(**given)[0]
    real = output.shape[:2] == given["input_ids"].shape
    answers: Tensor = output[given["attention_mask"] == 1] if real else output
    return answers
