"""A loss on self-attention relations between the tokens of a text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from protege.objectives.distillation.losses.hooked import (
    AttachedLoss,
    PairedHooks,
    matched,
    numbered,
)
from protege.spaces import BadInput, Student, Teacher, Unsupported
from protege.spaces.models.attention import KINDS, Attention, Projection, attention_of
from protege.spaces.models.layout import Layout
from protege.spaces.others.table import is_other


@dataclass(frozen=True)
class AttentionRelations:
    """The query, key and value relations of MiniLMv2 (Wang et al., arXiv 2012.15828).

    The queries of one layer are concatenated over heads and split into relation heads, equally many
    in student and teacher, so that attention heads and widths may differ; likewise keys and values.
    A relation is the softmax of the scaled dot products between the vectors of all tokens. The loss
    is the KL divergence between the teacher's and the student's relations in nats, averaged over
    relation heads and real tokens, summed over queries, keys and values, and averaged over stacks.
    There are no projections to learn.

    Vectors are the outputs of the linear projections, before rotary embeddings and norms. In
    decoders, too, a token is related to later ones, since nothing is predicted from relations. A
    relation takes ``4 * sequences * relation_heads * tokens**2`` bytes, several times for each
    kind.

    Attributes:
        weight: Weight in the sum of all terms.
        relation_heads: Number of relation heads, which must divide all widths. The paper uses 48
            for 12 heads and 64 for 16. None is the largest common divisor of both widths that is
            at most the teacher's number of heads.
        layer: The student's layer in each stack; negative numbers count from the end.
        teacher_layer: The teacher's layer, likewise; None is the layer that the student's was
            copied from. For teachers of 24 layers an upper middle layer is best in the paper.
    """

    weight: float = 1.0
    relation_heads: int | None = None
    layer: int = -1
    teacher_layer: int | None = None

    def __post_init__(self) -> None:
        if self.relation_heads is not None and self.relation_heads < 1:
            raise BadInput(f"relation_heads={self.relation_heads}: expected at least one, or None")

    def attach(self, student: Student, teacher: Teacher) -> AttachedLoss:
        if is_other(student.architecture):
            raise Unsupported(
                f"losses on attention of {student.model.config.model_type}: it attends otherwise "
                "than its teacher; leave the losses out, or the family"
            )
        return _AttachedRelations(student, teacher, self)


@dataclass(frozen=True)
class _Site:
    """The compared self-attention modules of one stack.

    Attributes:
        stack: The stack.
        student: The student's self-attention.
        teacher: The teacher's self-attention.
        heads: Number of relation heads by kind: query, key, value.
    """

    stack: str
    student: Attention
    teacher: Attention
    heads: Mapping[str, int]

    def projections(self) -> Iterator[tuple[tuple[str, int], Projection, Projection]]:
        """Yield the key of recorded outputs, the student's and the teacher's projection."""
        both = zip(self.student.projections, self.teacher.projections, strict=True)
        for number, (mine, theirs) in enumerate(both):
            yield (self.stack, number), mine, theirs


class _AttachedRelations:
    def __init__(self, student: Student, teacher: Teacher, settings: AttentionRelations) -> None:
        layout = Layout.of(teacher.family, student.model)
        self._sites = []
        for match in matched(student, teacher, [settings.layer]):
            stack, number = match.stack, match.teacher
            if settings.teacher_layer is not None:
                depth = teacher.layout.depths[stack]
                number = numbered(settings.teacher_layer, depth, f"teacher's {stack}")
            mine = attention_of(layout, student.model, stack, match.student)
            theirs = attention_of(teacher.layout, teacher.model, stack, number)
            heads = _relation_heads(mine, theirs, settings.relation_heads)
            self._sites.append(_Site(stack, mine, theirs, heads))
        self._hooks = PairedHooks(student, teacher)
        for site in self._sites:
            within = site.student.module, site.teacher.module
            for place, own, other in site.projections():
                self._hooks.record(place, own.module, other.module, within)

    def parameters(self) -> list[nn.Parameter]:
        return []

    def loss(self, mask: Tensor) -> Tensor:
        return torch.stack([self._of(site, mask) for site in self._sites]).mean()

    def close(self) -> None:
        self._hooks.close()

    def _of(self, site: _Site, mask: Tensor) -> Tensor:
        """Compute the divergence in one stack, summed over kinds."""
        terms = []
        for place, own, other in site.projections():
            given, answer = self._hooks.outputs(place)
            real = self._hooks.real(site.stack, given, mask)
            mine, theirs = own.split(given), other.split(answer)
            terms += [
                relation_divergence(mine[kind], theirs[kind], heads, real)
                for kind, heads in site.heads.items()
                if kind in mine
            ]
        return torch.stack(terms).sum()


def relation_divergence(student: Tensor, teacher: Tensor, heads: int, real: Tensor) -> Tensor:
    """Compute KL(teacher, student) of relations, averaged over heads and real tokens.

    Args:
        student: Queries, keys or values of all heads, ``(sequences, tokens, width)``.
        teacher: The same of the teacher, ``(sequences, tokens, teacher width)``.
        heads: Number of relation heads; divides both widths.
        real: Mask of real tokens, ``(sequences, tokens)``.

    Returns:
        Nats, a scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        logs, theirs = (_log_relations(vectors, heads, real) for vectors in (student, teacher))
    by_token = kl_div(logs, theirs, reduction="none", log_target=True).sum(-1)
    weights = real[:, None].to(by_token.dtype)  # broadcasts over relation heads
    return (by_token * weights).sum() / (heads * weights.sum()).clamp(min=1)


def _log_relations(vectors: Tensor, heads: int, real: Tensor) -> Tensor:
    """Compute log-relations, ``(sequences, heads, tokens, tokens)``."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)
    products = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
    # finite, since inf - inf would give NaN
    least = torch.finfo(products.dtype).min
    return log_softmax(products.masked_fill(~real[:, None, None], least), dim=-1)


def _relation_heads(mine: Attention, theirs: Attention, requested: int | None) -> dict[str, int]:
    """Choose the number of relation heads by kind.

    Raises:
        BadInput: The requested number does not divide a width.
    """
    found = {}
    for kind in KINDS:
        own, other = mine.widths[kind], theirs.widths[kind]
        shared = [n for n in range(1, min(own, other) + 1) if own % n == other % n == 0]
        if requested is not None and requested not in shared:
            raise BadInput(
                f"relation_heads={requested}: {kind} have {other} channels in the teacher and "
                f"{own} in the student; expected one of {', '.join(map(str, shared))}"
            )
        found[kind] = requested or max(n for n in shared if n <= theirs.heads[kind])
    return found
