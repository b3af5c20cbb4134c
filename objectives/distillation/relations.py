"""Self-attention relations: how alike tokens are to each other, in student and teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from protege.objectives.distillation.inside import Pair, Watch, matched, numbered
from protege.spaces import BadInput, Student, Teacher
from protege.spaces.models.attention import KINDS, Attention, Projection, attention_of
from protege.spaces.models.layout import Layout


@dataclass(frozen=True)
class AttentionRelations:
    """MiniLMv2's relations of queries, of keys and of values (Wang et al., arXiv 2012.15828).

    Of one layer each kind's vectors are joined over heads and split anew into relation heads, as
    many in student as in teacher, so that heads and widths may differ. A relation is the softmax of
    their scaled products with each other. The loss is the divergence of the student's relations
    from the teacher's, in nats, in the mean over relation heads and real tokens, summed over the
    three kinds; in a model of two stacks, in the mean over both. Nothing is projected or trained
    along.

    Vectors are taken as projections write them, before positions turn them or norms scale them; in
    decoders too a token is related to all others, for nothing is predicted from it. Memory is
    ``4 * sequences * relation_heads * tokens**2`` bytes, a few times for each kind.

    Attributes:
        weight: What it counts in the sum of all terms.
        relation_heads: In how many each kind is split; it has to divide all widths. The paper takes
            48 for 12 heads and 64 for 16. If not given, the most that the teacher has heads of the
            kind and that divide both widths.
        layer: The student's layer, of each stack; negative ones are counted from its end.
        teacher_layer: The teacher's, likewise; the one that the student's comes from if not given.
            Of teachers of 24 layers the paper found one of the upper middle the best.
    """

    weight: float = 1.0
    relation_heads: int | None = None
    layer: int = -1
    teacher_layer: int | None = None

    def __post_init__(self) -> None:
        if self.relation_heads is not None and self.relation_heads < 1:
            raise BadInput(f"relation_heads={self.relation_heads}: expected at least one, or None")

    def watch(self, student: Student, teacher: Teacher) -> Watch:
        return _RelationWatch(student, teacher, self)


@dataclass(frozen=True)
class _Site:
    """The self-attention of one stack that is compared.

    Attributes:
        stack: The stack.
        student: The student's.
        teacher: The teacher's.
        heads: Relation heads by kind.
    """

    stack: str
    student: Attention
    teacher: Attention
    heads: Mapping[str, int]

    def projections(self) -> Iterator[tuple[tuple[str, int], Projection, Projection]]:
        """The student's and the teacher's projections, with what their place is called."""
        both = zip(self.student.projections, self.teacher.projections, strict=True)
        for number, (mine, theirs) in enumerate(both):
            yield (self.stack, number), mine, theirs


class _RelationWatch:
    def __init__(self, student: Student, teacher: Teacher, asked: AttentionRelations) -> None:
        layout = Layout.of(teacher.family, student.model)
        self._sites = []
        for match in matched(student, teacher, [asked.layer]):
            stack, number = match.stack, match.teacher
            if asked.teacher_layer is not None:
                depth = teacher.layout.depths[stack]
                number = numbered(asked.teacher_layer, depth, f"teacher's {stack}")
            mine = attention_of(layout, student.model, stack, match.student)
            theirs = attention_of(teacher.layout, teacher.model, stack, number)
            heads = _relation_heads(mine, theirs, asked.relation_heads)
            self._sites.append(_Site(stack, mine, theirs, heads))
        self._pair = Pair(student, teacher)
        for site in self._sites:
            within = site.student.module, site.teacher.module
            for place, own, other in site.projections():
                self._pair.listen(place, own.module, other.module, within)

    def parameters(self) -> list[nn.Parameter]:
        return []

    def loss(self, mask: Tensor) -> Tensor:
        return torch.stack([self._of(site, mask) for site in self._sites]).mean()

    def close(self) -> None:
        self._pair.close()

    def _of(self, site: _Site, mask: Tensor) -> Tensor:
        """The divergence in one stack, summed over kinds."""
        terms = []
        for place, own, other in site.projections():
            given, answer = self._pair.heard(place)
            real = self._pair.real(site.stack, given, mask)
            mine, theirs = own.split(given), other.split(answer)
            terms += [
                relation_divergence(mine[kind], theirs[kind], heads, real)
                for kind, heads in site.heads.items()
                if kind in mine
            ]
        return torch.stack(terms).sum()


def relation_divergence(student: Tensor, teacher: Tensor, heads: int, real: Tensor) -> Tensor:
    """KL(teacher, student) of relations, in nats, in the mean over heads and real tokens.

    Args:
        student: Queries, keys or values of all heads, ``(sequences, tokens, width)``.
        teacher: Likewise, ``(sequences, tokens, other width)``.
        heads: Relation heads; they divide both widths.
        real: Which tokens are real, ``(sequences, tokens)``; no other is related to any.
    """
    with torch.autocast(student.device.type, enabled=False):
        logs, theirs = (_log_relations(vectors, heads, real) for vectors in (student, teacher))
    by_token = kl_div(logs, theirs, reduction="none", log_target=True).sum(-1)
    weights = real[:, None].to(by_token.dtype)  # of every relation head the same
    return (by_token * weights).sum() / (heads * weights.sum()).clamp(min=1)


def _log_relations(vectors: Tensor, heads: int, real: Tensor) -> Tensor:
    """Logarithms of the relations, ``(sequences, heads, tokens, tokens)``."""
    split = vectors.unflatten(-1, (heads, -1)).transpose(1, 2)
    products = split @ split.transpose(-1, -2) / split.shape[-1] ** 0.5
    # the least finite number, for infinities less infinities are no numbers
    least = torch.finfo(products.dtype).min
    return log_softmax(products.masked_fill(~real[:, None, None], least), dim=-1)


def _relation_heads(mine: Attention, theirs: Attention, asked: int | None) -> dict[str, int]:
    """Relation heads by kind.

    Raises:
        BadInput: A width cannot be split into as many as are asked for.
    """
    found = {}
    for kind in KINDS:
        own, other = mine.widths[kind], theirs.widths[kind]
        shared = [n for n in range(1, min(own, other) + 1) if own % n == other % n == 0]
        if asked is not None and asked not in shared:
            raise BadInput(
                f"relation_heads={asked}: {kind} have {other} channels in the teacher and {own} in "
                f"the student; expected one of {', '.join(map(str, shared))}"
            )
        found[kind] = asked or max(n for n in shared if n <= theirs.heads[kind])
    return found
