"""The families that students may be of beside their teacher's own, in one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.sizes import nearest
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.models.blueprint import class_named

Fields = Mapping[str, Any]
"""Fields of a configuration."""

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
"""The sizes that a declaration scales, by the names of an `Architecture`."""


@dataclass(frozen=True)
class Kind:
    """The declaration of a family that students may be of beside their teacher's own.

    Attributes:
        model_type: The ``model_type`` of its configurations.
        does: What its layers do, in a few words.
        tasks: The tasks that it has models for.
        whole: Its sizes at the ratio 1, from the teacher's; a size that it lacks is left out.
        fields: The fields of a student's configuration, from its sizes and the teacher's fields.
        heads: Whether it has attention heads, of the teacher's `head_dim` each.
        vectors: Whether its embedding holds vectors of whole texts, so that the sentence vectors
            of single tokens fill it and not the teacher's embedding.
        model_class: Its model class for every task; empty for transformers' own.
        source: Where it was published.
    """

    model_type: str
    does: str
    tasks: frozenset[Task]
    whole: Callable[[Architecture], Mapping[str, int]]
    fields: Callable[[Architecture, Fields], dict[str, Any]]
    heads: bool = False
    vectors: bool = False
    model_class: str = ""
    source: str = ""

    def register(self) -> None:
        """Make a model class of protege's own known to transformers."""
        if self.model_class:
            class_named(self.model_class)

    def sizes_at(
        self, teacher: Architecture, ratios: Mapping[str, float], step: int
    ) -> Architecture:
        """Return the student at ratios of the sizes in `SIZES`; widths are multiples of `step`."""
        whole = self.whole(teacher)
        sizes: dict[str, Any] = dict.fromkeys(SIZES, 0)
        for name, full in whole.items():
            multiple = 1 if name == "num_hidden_layers" else step
            if name == "hidden_size" and self.heads:
                multiple = lcm(step, teacher.head_dim)
            sizes[name] = _scaled(full, ratios[name], multiple)
        heads = sizes["hidden_size"] // teacher.head_dim if self.heads else 0
        return Architecture(
            model_type=self.model_type,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=teacher.head_dim if self.heads else 0,
            **sizes,
        )


def _scaled(full: int, ratio: float, multiple: int) -> int:
    """Scale a size to the nearest multiple; a ratio of 1 leaves it as it is."""
    if ratio == 1.0:
        return full
    return min(full, max(multiple, nearest(full, ratio / multiple) * multiple))


def of_text(teacher: Architecture) -> Mapping[str, int]:
    """Return the teacher's own depth, widths and vocabulary."""
    return {name: getattr(teacher, name) for name in SIZES}
