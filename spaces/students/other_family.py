"""Build a student of another family: what fits comes from its teacher, the rest is drawn."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.pooling import POOLER, Embedder
from protege.spaces.checkpoints.processors import tokenizer_of, with_tokenizer
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import Infeasible
from protege.spaces.models.blueprint import Blueprint, class_named
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.others.kinds import Kind
from protege.spaces.others.table import check_task, kind_of
from protege.spaces.others.token_vectors import (
    SMOOTHING,
    directions_of,
    frequency_weights,
    principal,
    special_ids,
)
from protege.spaces.residual.least_squares import Fit
from protege.spaces.students.selection import Selection
from protege.spaces.students.student import Student
from protege.spaces.vocabulary.tokenizer import choose_tokens, shrunk

MAPPINGS = {
    Task.FEATURES: modeling_auto.MODEL_MAPPING_NAMES,
    Task.SENTENCES: modeling_auto.MODEL_MAPPING_NAMES,
    Task.IMAGE_FEATURES: modeling_auto.MODEL_MAPPING_NAMES,
    Task.FILL_MASK: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    Task.GENERATION: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    Task.TEXTS: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    Task.TOKENS: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    Task.QUESTIONS: modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    Task.IMAGES: modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
"""The classes of transformers for each task, by ``model_type``."""

BY_CHANNEL = ("position_embeddings.weight", "token_type_embeddings.weight")
"""Further embeddings, by the ends of their names, which are projected as those of tokens are."""


def blueprint_of(teacher: LaidOutModel, architecture: Architecture) -> Blueprint:
    """Return class and configuration of the student.

    Raises:
        Infeasible: The configuration class refuses the sizes.
        Unsupported: The family has no model for the teacher's task.
    """
    kind = kind_of(architecture.model_type)
    check_task(kind, teacher.task)
    return Blueprint.of(_class_name(kind, teacher.task), _configured(kind, teacher, architecture))


def made_otherwise(teacher: LaidOutModel, architecture: Architecture) -> Student:
    """Build a student of another family.

    Embeddings come from the teacher, projected by least squares where the student is narrower; so
    do norms and heads of the same name and shape. All other matrices are drawn by Xavier's rule
    (see `Initialisation`), by a seed that depends on the architecture only.

    Raises:
        Infeasible: The configuration class refuses the sizes.
        Unsupported: The family has no model for the teacher's task.
    """
    kind = kind_of(architecture.model_type)
    processor, rows = teacher.processor, None
    if 0 < architecture.vocab_size < teacher.architecture.vocab_size:
        # without counts the first tokens stay: vocabularies are sorted by frequency
        counts = torch.arange(teacher.architecture.vocab_size, 0, -1, dtype=torch.float32)
        rows = choose_tokens(teacher.tokenizer, counts, architecture.vocab_size)
        processor = with_tokenizer(processor, shrunk(teacher.tokenizer, rows))
    narrowed = replace(architecture, vocab_size=len(rows) if rows else architecture.vocab_size)
    config = _configured(kind, teacher, narrowed)
    if kind.vectors and rows is not None:
        config.left_out = special_ids(tokenizer_of(processor))  # renumbered
    model = _drawn(class_named(_class_name(kind, teacher.task)), config, architecture.key())
    taken, readout = _fill(model, teacher, kind, rows)
    return Student(
        model=model.eval(),
        processor=processor,
        architecture=architecture,
        kept=Selection((), {}, vocab=rows),
        embedder=_embedder(teacher, model, readout, vectors=kind.vectors),
        is_sentence_transformer=teacher.task is Task.SENTENCES or kind.vectors,
        initialised="xavier",
        taken=tuple(taken),
    )


def _class_name(kind: Kind, task: Task) -> str:
    named: Any = MAPPINGS[task]
    found = kind.model_class or named[kind.model_type]
    return found if isinstance(found, str) else str(found[0])


def _configured(kind: Kind, teacher: LaidOutModel, own: Architecture) -> PretrainedConfig:
    kind.register()
    fields = kind.fields(own, teacher.config.to_dict())
    if kind.vectors:
        fields["left_out"] = special_ids(teacher.tokenizer)
    try:
        config: PretrainedConfig = CONFIG_MAPPING[kind.model_type](**fields)
    except Exception as error:
        raise Infeasible(f"{kind.model_type} student: {error}") from error
    return config


def _drawn(kind: type[PreTrainedModel], config: PretrainedConfig, key: str) -> PreTrainedModel:
    """Return a model with random weights, the same for the same key."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        model = kind(config)
        for matrix in _matrices(model):
            nn.init.xavier_uniform_(matrix)
    return model


def _matrices(model: nn.Module) -> Iterator[Tensor]:
    """Yield the weights of linear layers and convolutions."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            yield module.weight


def _fill(
    model: PreTrainedModel, teacher: LaidOutModel, kind: Kind, rows: Any
) -> tuple[list[str], Fit | None]:
    """Copy what fits from the teacher.

    Returns:
        The names of the tensors that come from it, and the map from the student's last state to
        the teacher's; None if they have equal widths.
    """
    theirs, own = dict(teacher.model.named_parameters()), dict(model.named_parameters())
    taken: list[str] = []
    readout = None
    embedding: Any = (
        teacher.model.get_input_embeddings() if teacher.architecture.vocab_size else None
    )
    with torch.no_grad():
        for name in _same(own, theirs):
            own[name].copy_(theirs[name])
            taken.append(name)
        if embedding is not None:
            table: Any = model.get_input_embeddings()
            vectors, basis = _vectors(teacher, kind, embedding, table.weight.shape[1])
            table.weight.copy_(vectors if rows is None else vectors[list(rows)])
            taken.append(_name_of(model, table.weight))
            taken += _further(own, theirs, basis)
            if kind.vectors or len(basis) > basis.shape[1]:
                readout = Fit(basis)
    return sorted(set(taken)), readout


def _same(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """Return the names of norms of embeddings and of heads that fit as they are."""
    ends = ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias")
    heads = ("classifier.", "qa_outputs.", "lm_head.", "score.")
    return [
        name
        for name, tensor in own.items()
        if (name.endswith(ends) or name.startswith(heads))
        and name in theirs
        and theirs[name].shape == tensor.shape
    ]


def _further(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], basis: Tensor) -> list[str]:
    """Project further embeddings; return their names."""
    taken = []
    for end in BY_CHANNEL:
        mine = next((name for name in own if name.endswith(end)), None)
        given = next((name for name in theirs if name.endswith(end)), None)
        if mine is None or given is None or len(own[mine]) != len(theirs[given]):
            continue
        own[mine].copy_(theirs[given] @ basis)
        taken.append(mine)
    return taken


def _vectors(
    teacher: LaidOutModel, kind: Kind, embedding: nn.Embedding, width: int
) -> tuple[Tensor, Tensor]:
    """Return the vectors of all tokens, ``(tokens, width)``, and what they are in the teacher's."""
    if kind.vectors:
        vectors, basis = principal(teacher.token_vectors, width)
        special = teacher.tokenizer.all_special_ids
        weights = frequency_weights(len(vectors), special, SMOOTHING)
        return vectors * weights.unsqueeze(1), basis
    whole = embedding.weight.detach()
    if width >= whole.shape[1]:
        return whole, torch.eye(whole.shape[1], width)
    basis = directions_of(whole.double(), width).float()
    return whole @ basis, basis


def _name_of(model: nn.Module, tensor: Tensor) -> str:
    return next(name for name, one in model.named_parameters() if one is tensor)


def _embedder(
    teacher: LaidOutModel, model: PreTrainedModel, readout: Fit | None, *, vectors: bool
) -> Embedder | None:
    """Add the teacher's pooling with a linear layer to the teacher's vectors."""
    pooling = teacher.pooling
    if pooling is None:
        return None
    # the vectors of a static embedding are projected already
    weight, bias = (None, None) if vectors else pooling.projection or (None, None)
    basis = torch.eye(model.config.hidden_size) if readout is None else readout.weight
    if weight is not None:
        basis = weight @ basis
    layer = skip_init(nn.Linear, basis.shape[1], len(basis))
    layer.load_state_dict(
        {"weight": basis, "bias": torch.zeros(len(basis)) if bias is None else bias}
    )
    mode = "mean" if pooling.mode in {POOLER, "cls"} else pooling.mode
    return Embedder(model, replace(pooling, mode=mode, projection=None), layer).eval()
