"""Students with random weights: what a student owes to its teacher shows beside one of these."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces.errors import BadInput
from protege.spaces.families import Family
from protege.spaces.models.layout import Layout
from protege.spaces.students.selection import Kept
from protege.spaces.students.student import Initialisation, Student


def redrawn(student: Student, family: Family, how: Initialisation, seed: int) -> Student:
    """The student with random weights in place of its teacher's; of these it keeps nothing.

    What it keeps are tokens, where it has fewer: its tokenizer still is the teacher's.

    Args:
        student: Whose weights are replaced in place.
        family: Its table.
        how: How they are drawn.
        seed: Of the draw; the random state outside is left as it was.

    Raises:
        BadInput: There is no such initialisation.
    """
    if how not in get_args(Initialisation):
        expected = " or ".join(map(repr, get_args(Initialisation)))
        raise BadInput(f"how={how!r}: expected {expected}")
    with _seeded(seed), torch.no_grad():
        model = type(student.model)(student.model.config)
        if how == "xavier":
            for matrix in _matrices(family, model):
                nn.init.xavier_uniform_(matrix)
        student.model.load_state_dict(model.state_dict())
        if student.embedder is not None and student.embedder.projection is not None:
            _redraw(student.embedder.projection, student.model, how)
    nothing = Kept(hidden=(), stacks={}, vocab=student.kept.vocab)
    return replace(student, kept=nothing, initialised=how)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers drawn inside on the CPU follow the seed; those after it are as without."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _redraw(projection: nn.Linear, model: PreTrainedModel, how: Initialisation) -> None:
    """Draw a sentence encoder's last layer as a linear layer of the model; its bias is zero."""
    model._init_weights(projection)  # noqa: SLF001 - the class's own way, which has no other name
    nn.init.zeros_(projection.bias)
    if how == "xavier":
        nn.init.xavier_uniform_(projection.weight)


def _matrices(family: Family, model: PreTrainedModel) -> Iterator[Tensor]:
    """Weights that multiply a vector; a head that shares an embedding's rows is the embedding."""
    looked_up = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    parameters = dict(model.named_parameters())
    for slot in Layout.of(family, model).slots:
        weight = parameters.get(slot.name)
        # a single row is a token or a position of its own, stored as a matrix or more
        if weight is None or weight.ndim < 2 or id(weight) in looked_up or "one" in slot.axes:
            continue
        yield from weight if slot.axes[0] == "experts" and weight.ndim == 3 else (weight,)
