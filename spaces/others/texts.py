"""Families of encoders of texts that students may be of beside their teacher's own."""

from collections.abc import Mapping
from typing import Any

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.others.kinds import Fields, Kind, of_text

VECTORS = frozenset({Task.FEATURES, Task.SENTENCES})
HEADED = VECTORS | {Task.TEXTS, Task.TOKENS, Task.FILL_MASK, Task.QUESTIONS}

CARRIED = (
    *("pad_token_id", "bos_token_id", "eos_token_id", "max_position_embeddings"),
    *("initializer_range", "layer_norm_eps", "hidden_act", "type_vocab_size"),
    *("hidden_dropout_prob", "id2label", "label2id", "problem_type"),
)
"""Fields of a configuration that a student takes over from its teacher."""


def carried(teacher: Fields) -> dict[str, Any]:
    """Return the fields that a student takes over."""
    return {name: teacher[name] for name in CARRIED if teacher.get(name) is not None}


def _bare(own: Architecture, teacher: Fields) -> dict[str, Any]:
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
    return carried(teacher) | {name: getattr(own, name) for name in sizes}


def _convbert(own: Architecture, teacher: Fields) -> dict[str, Any]:
    heads = own.num_attention_heads
    return _bare(own, teacher) | {
        "num_attention_heads": heads,
        "head_ratio": 2 if heads % 2 == 0 else 1,
        "embedding_size": own.hidden_size,
    }


def _static(own: Architecture, _: Fields) -> dict[str, Any]:
    return {"vocab_size": own.vocab_size, "hidden_size": own.hidden_size}


def _table(teacher: Architecture) -> Mapping[str, int]:
    return {"hidden_size": teacher.hidden_size, "vocab_size": teacher.vocab_size}


TEXTS = (
    Kind(
        "convbert",
        "attention and convolutions that depend on their input",
        HEADED,
        of_text,
        _convbert,
        heads=True,
        source="Jiang et al., arXiv 2008.02496",
    ),
    Kind(
        "fnet",
        "Fourier transforms over tokens in place of attention; they read padding too",
        HEADED,
        of_text,
        _bare,
        source="Lee-Thorp et al., arXiv 2105.03824",
    ),
    Kind(
        "text_cnn",
        "convolutions over tokens",
        VECTORS,
        of_text,
        _bare,
        model_class="TextCnnModel",
        source="ConvNeXt's block: Liu et al., arXiv 2201.03545",
    ),
    Kind(
        "text_mixer",
        "perceptrons over tokens and over channels",
        VECTORS,
        of_text,
        _bare,
        model_class="TextMixerModel",
        source="Tolstikhin et al., arXiv 2105.01601",
    ),
    Kind(
        "static",
        "a table of token vectors, averaged over a text",
        VECTORS,
        _table,
        _static,
        vectors=True,
        model_class="StaticModel",
        source="Model2Vec, github.com/MinishLab/model2vec",
    ),
)
