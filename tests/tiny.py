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
    ViTImageProcessor,
    WhisperFeatureExtractor,
    WhisperProcessor,
)

from protege.spaces import Pooling, Student, Task, Teacher, family_of
from protege.spaces.checkpoints.pooling import write_sentence_transformer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(f"w{number}" for number in range(91))
VOCABULARY = len(SPECIAL) + len(WORDS)
"""More tokens than a language task stores by name, so that there is a rest."""

SIZES: dict[str, int] = {
    "num_hidden_layers": 4,
    "num_decoder_layers": 3,
    "hidden_size": 24,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "intermediate_size": 40,
    "num_experts": 5,
    "moe_intermediate_size": 16,
    "vocab_size": VOCABULARY,
}
SHARED: dict[str, Any] = {
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "image_size": 12,
    "patch_size": 4,
    "num_experts_per_tok": 2,
    "decoder_start_token_id": 2,
}
SOUNDS: dict[str, Any] = {"max_source_positions": 8, "max_target_positions": 40, "num_mel_bins": 6}
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
        model_class: The class, where the task alone does not tell it.
    """

    model_type: str
    task: Task
    fields: Mapping[str, Any] = field(default_factory=dict)
    pooling: Pooling | None = None
    dense: int = 0
    model_class: str = ""

    @property
    def config(self) -> PretrainedConfig:
        sizes = family_of(self.model_type).written(SIZES)
        labels = 2 if self.task is Task.QUESTIONS else 3  # a span has a start and an end
        given = {**SHARED, "num_labels": labels, **sizes, **self.fields}
        return CONFIG_MAPPING[self.model_type](**given)

    def teacher(self, seed: int = 0) -> Teacher:
        """A teacher whose every tensor is random, biases and norms too."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = self._model().eval()
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
        return Teacher(model, self._processor(), self.task, family, "tiny", pooling)

    def _model(self) -> PreTrainedModel:
        if self.model_class:
            model: PreTrainedModel = getattr(transformers, self.model_class)(self.config)
            return model
        found: PreTrainedModel = getattr(transformers, self.task.auto_class).from_config(
            self.config
        )
        return found

    def _processor(self) -> Any:
        if self.task in {Task.IMAGES, Task.IMAGE_FEATURES}:
            return ViTImageProcessor(size={"height": 12, "width": 12})
        if self.task is Task.SPEECH:
            sounds = WhisperFeatureExtractor(feature_size=6, chunk_length=1, hop_length=1000)
            return WhisperProcessor(sounds, tokenizer(self.model_type))
        return tokenizer(self.model_type)


_MEAN = Pooling("mean", normalize=True, max_tokens=32)
_PLAIN = Pooling(max_tokens=32)
_TEXT_HEADS = (Task.FEATURES, Task.TEXTS, Task.TOKENS, Task.QUESTIONS)


def _heads(
    model_type: str,
    *tasks: Task,
    name: str = "",
    fields: Mapping[str, Any] | None = None,
    pooling: Pooling | None = _PLAIN,
) -> dict[str, Case]:
    """A case for each head of a model type."""
    return {
        f"{name or model_type}-{task}": Case(
            model_type, task, fields or {}, _pooling_of(model_type, task, pooling)
        )
        for task in tasks
    }


def _pooling_of(model_type: str, task: Task, plain: Pooling | None) -> Pooling | None:
    if task is Task.IMAGE_FEATURES:
        return Pooling("pooler" if model_type.startswith("siglip") else "cls")
    return plain if task is Task.FEATURES else None


_ENCODER = (*_TEXT_HEADS, Task.FILL_MASK)
_DECODER = (*_TEXT_HEADS, Task.GENERATION)
_WITHOUT_QUESTIONS = (Task.FEATURES, Task.TEXTS, Task.TOKENS, Task.GENERATION)
_NARROW = {"embedding_size": 10}
_DISTANCES = {
    "relative_attention": True,
    "max_relative_positions": 16,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
}
_LOCAL = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
_WINDOWED = {**_LOCAL, "use_sliding_window": True, "max_window_layers": 2}
_MIXED = {"layer_types": ["full_attention", "sliding_attention"] * 2, "local_attention": 4}
_UNPOSITIONED = {"no_rope_layers": [1, 0, 1, 1], "num_key_value_heads": 3}

CASES: dict[str, Case] = {
    "bert": Case("bert", Task.FEATURES, pooling=_PLAIN),
    "bert-sentences": Case("bert", Task.SENTENCES, pooling=_MEAN),
    "bert-sentences-dense": Case("bert", Task.SENTENCES, pooling=_MEAN, dense=10),
    "bert-masked": Case("bert", Task.FILL_MASK),
    "bert-texts": Case("bert", Task.TEXTS),
    "bert-tokens": Case("bert", Task.TOKENS),
    "llama": Case("llama", Task.FEATURES, pooling=_PLAIN),
    "llama-sentences": Case("llama", Task.SENTENCES, GROUPED, Pooling("lasttoken", max_tokens=32)),
    "llama-causal-tied": Case("llama", Task.GENERATION, {"tie_word_embeddings": True}),
    "llama-causal-grouped": Case("llama", Task.GENERATION, GROUPED),
    "llama-texts": Case("llama", Task.TEXTS, GROUPED),
    "llama-tokens": Case("llama", Task.TOKENS),
}
"""An encoder and a decoder, with every head that students are distilled for."""

ZOO: dict[str, Case] = {
    **CASES,
    "bert-questions": Case("bert", Task.QUESTIONS),
    **_heads("roberta", *_ENCODER),
    **_heads("xlm-roberta", *_ENCODER),
    **_heads("camembert", *_ENCODER),
    **_heads("distilbert", *_ENCODER),
    **_heads("mpnet", *_ENCODER),
    **_heads("electra", *_ENCODER, fields=_NARROW),
    **_heads("electra", Task.FILL_MASK, name="electra-wide", fields={"embedding_size": 24}),
    **_heads("deberta-v2", *_ENCODER, fields={**_DISTANCES, "share_att_key": True}),
    **_heads(
        "deberta-v2",
        *(Task.FEATURES, Task.FILL_MASK),
        name="deberta-v2-large",
        fields={**_DISTANCES, "conv_kernel_size": 3, "type_vocab_size": 2, "conv_act": "gelu"},
    ),
    **_heads("modernbert", *_ENCODER, fields=_MIXED),
    **_heads(
        "eurobert",
        *(Task.FEATURES, Task.TEXTS, Task.TOKENS, Task.FILL_MASK),
        fields={"num_key_value_heads": 2, "head_dim": 8, "mask_token_id": 4},
    ),
    **_heads("nomic_bert", *(Task.FEATURES, Task.TEXTS, Task.TOKENS, Task.FILL_MASK)),
    **_heads("jina_embeddings_v3", *_ENCODER),
    "llama-questions": Case("llama", Task.QUESTIONS),
    **_heads("mistral", *_DECODER, fields={"num_key_value_heads": 3, "sliding_window": 4}),
    **_heads("qwen2", *_DECODER, fields={**_WINDOWED, "num_key_value_heads": 2}),
    **_heads("qwen3", *_DECODER, fields={"num_key_value_heads": 2, "head_dim": 8}),
    **_heads("smollm3", *_DECODER, fields=_UNPOSITIONED),
    **_heads(
        "granite",
        *(Task.FEATURES, Task.GENERATION),
        fields={"num_key_value_heads": 2, "embedding_multiplier": 3.0, "logits_scaling": 2.0},
    ),
    **_heads(
        "gemma2", *_WITHOUT_QUESTIONS, fields={**_LOCAL, "num_key_value_heads": 2, "head_dim": 8}
    ),
    **_heads(
        "gemma3_text",
        *(Task.FEATURES, Task.TEXTS, Task.GENERATION),
        fields={**_LOCAL, "num_key_value_heads": 2, "head_dim": 8},
    ),
    **_heads("phi3", *_WITHOUT_QUESTIONS, fields={"num_key_value_heads": 2}),
    **_heads(
        "olmo2",
        *(Task.FEATURES, Task.TEXTS, Task.GENERATION),
        fields={"num_key_value_heads": 2},
    ),
    **_heads(
        "olmo3",
        *(Task.FEATURES, Task.TEXTS, Task.GENERATION),
        fields={**_LOCAL, "num_key_value_heads": 2},
    ),
    **_heads("ministral", *_DECODER, fields={**_LOCAL, "num_key_value_heads": 2, "head_dim": 8}),
    **_heads("ministral3", *_DECODER, fields={"num_key_value_heads": 2, "head_dim": 8}),
    **_heads("seed_oss", *_DECODER, fields={"num_key_value_heads": 2, "head_dim": 8}),
    **_heads(
        "modernbert-decoder",
        *(Task.FEATURES, Task.TEXTS, Task.GENERATION),
        fields={**_MIXED, "bos_token_id": 3, "cls_token_id": 3},
    ),
    **_heads("gpt2", *_DECODER, fields={"n_inner": None, "n_positions": 40}),
    **_heads("gpt_neox", *_DECODER),
    **_heads("opt", *(Task.FEATURES, Task.TEXTS, Task.QUESTIONS, Task.GENERATION)),
    **_heads(
        "opt",
        *(Task.FEATURES, Task.GENERATION),
        name="opt-narrow",
        pooling=None,
        fields={"word_embed_proj_dim": 10, "do_layer_norm_before": False},
    ),
    **_heads("mixtral", *_DECODER, fields={"num_key_value_heads": 2}),
    **_heads("qwen3_moe", *_DECODER, fields={"mlp_only_layers": [2], "num_key_value_heads": 2}),
    **_heads(
        "qwen3_moe", Task.GENERATION, name="qwen3_moe-sparse", fields={"decoder_sparse_step": 2}
    ),
    **_heads("t5", *_TEXT_HEADS, Task.TEXT_TO_TEXT, fields={"d_kv": 8}, pooling=None),
    **_heads(
        "t5",
        Task.TEXT_TO_TEXT,
        name="flan-t5",
        fields={"d_kv": 8, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    **_heads("mt5", *_TEXT_HEADS, Task.TEXT_TO_TEXT, fields={"d_kv": 8}, pooling=None),
    **_heads("bart", *(Task.FEATURES, Task.TEXTS, Task.QUESTIONS, Task.TEXT_TO_TEXT), pooling=None),
    **_heads(
        "mbart",
        *(Task.FEATURES, Task.TEXTS, Task.QUESTIONS, Task.TEXT_TO_TEXT),
        fields={"scale_embedding": True},
        pooling=None,
    ),
    **_heads("m2m_100", Task.FEATURES, Task.TEXT_TO_TEXT, pooling=None),
    **_heads("whisper", Task.FEATURES, Task.SPEECH, fields=SOUNDS, pooling=None),
    **_heads("vit", Task.IMAGE_FEATURES, Task.IMAGES),
    **_heads("deit", Task.IMAGE_FEATURES),
    "deit-images": Case("deit", Task.IMAGES, model_class="DeiTForImageClassification"),
    "deit-teacher": Case("deit", Task.IMAGES, model_class="DeiTForImageClassificationWithTeacher"),
    **_heads("dinov2", Task.IMAGE_FEATURES, Task.IMAGES, fields={"mlp_ratio": 3}),
    **_heads("siglip_vision_model", Task.IMAGE_FEATURES),
}
"""Every model type with every head that transformers has for it."""


def tokenizer(model_type: str) -> PreTrainedTokenizerBase:
    """A real tokenizer of whole words; encoders get their special tokens around each text."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if family_of(model_type).stacks.keys() == {"decoder"}:
        ends = {"eos_token": "[SEP]"}
    else:
        ends = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
        words.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
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
    teacher.processor.save_pretrained(folder)
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


def batch(
    *, sequences: int = 3, tokens: int = 9, side: str = "right", vocabulary: int = VOCABULARY
) -> dict[str, Tensor]:
    """Random ids with two tokens more padding on each row than on the one before."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(len(SPECIAL), vocabulary, (sequences, tokens), generator=generator)
    mask = torch.arange(tokens) < tokens - 2 * torch.arange(sequences)[:, None]
    if side == "left":
        mask = mask.flip(1)
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def padded_left(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same sequences with their padding before them."""
    pads = (given["attention_mask"] == 0).sum(1).tolist()
    return {
        name: torch.stack([row.roll(by) for row, by in zip(value, pads, strict=True)])
        for name, value in given.items()
    }


def inputs_of(model: Teacher | Student) -> dict[str, Tensor]:
    """What the forward of a model takes: of its own kind, decoder's share and all."""
    config, name = model.model.config, type(model.model).__name__
    generator = torch.Generator().manual_seed(2)
    if model.model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(2, 3, 12, 12, generator=generator)}
    vocabulary = getattr(config, "vocab_size", VOCABULARY)
    shorter = batch(tokens=7, vocabulary=vocabulary)
    written = {f"decoder_{key}": value for key, value in shorter.items()}
    if model.model.main_input_name == "input_features":
        return {"input_features": torch.randn(3, 6, 16, generator=generator), **written}
    found = batch(vocabulary=vocabulary)
    if not config.is_encoder_decoder or "TokenClassification" in name:
        return found
    if name.endswith(("SequenceClassification", "QuestionAnswering")):
        # these shift what they read into their decoder by themselves, and look for the text's end
        last = found["attention_mask"].sum(1) - 1
        found["input_ids"][torch.arange(len(last)), last] = config.eos_token_id
        return found
    return found | written


def answer(model: Teacher | Student, **given: Tensor) -> Tensor:
    """What the model says of every real token, or of each text: logits, states or vectors."""
    given = given or inputs_of(model)
    embedder = model.embedder() if isinstance(model, Teacher) else model.embedder
    with torch.inference_mode():
        if embedder is not None and embedder.projection is not None:
            vectors: Tensor = embedder(**given)
            return vectors
        output = model.model(**given)
    found: Tensor = output[0]
    if "end_logits" in output:
        found = torch.stack([output.start_logits, output.end_logits], -1)
    mask = given.get("decoder_attention_mask", given.get("attention_mask"))
    real = mask is not None and found.shape[:2] == mask.shape
    return found[mask == 1] if mask is not None and real else found
