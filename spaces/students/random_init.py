"""Randomly initialised students: the baseline that shows what a student gains from its teacher."""

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces.errors import BadInput
from protege.spaces.families.family import Family
from protege.spaces.models.layout import Layout
from protege.spaces.students.selection import Selection
from protege.spaces.students.student import Initialisation, Student


def redrawn(student: Student, family: Family, how: Initialisation, seed: int) -> Student:
    """Replace a student's weights by random ones, in place; its tokens stay the same.

    Returns:
        The student with the new weights, which keeps none of the teacher's units but tokens.

    Raises:
        BadInput: The initialisation is unknown.
    """
    if how not in get_args(Initialisation):
        expected = " or ".join(map(repr, get_args(Initialisation)))
        raise BadInput(f"how={how!r}: expected {expected}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        model = type(student.model)(student.model.config)
        if how == "xavier":
            for matrix in _matrices(family, model):
                nn.init.xavier_uniform_(matrix)
        student.model.load_state_dict(model.state_dict())
        if student.embedder is not None and student.embedder.projection is not None:
            _draw_projection(student.embedder.projection, student.model, how)
    nothing = Selection(hidden=(), stacks={}, vocab=student.kept.vocab)
    return replace(student, kept=nothing, initialised=how)


def _draw_projection(projection: nn.Linear, model: PreTrainedModel, how: Initialisation) -> None:
    """Initialise a sentence encoder's projection as a linear layer of the model; zero its bias."""
    model._init_weights(projection)  # noqa: SLF001 - there is no public method for it
    nn.init.zeros_(projection.bias)
    if how == "xavier":
        nn.init.xavier_uniform_(projection.weight)


def _matrices(family: Family, model: PreTrainedModel) -> Iterator[Tensor]:
    """Yield the weight matrices, without embeddings and heads that are tied to them."""
    looked_up = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    parameters = dict(model.named_parameters())
    for slot in Layout.of(family, model).slots:
        weight = parameters.get(slot.name)
        # an axis "one" marks a single learned vector (class token, position) stored as a matrix
        if weight is None or weight.ndim < 2 or id(weight) in looked_up or "one" in slot.axes:
            continue
        yield from weight if slot.axes[0] == "experts" and weight.ndim == 3 else (weight,)
