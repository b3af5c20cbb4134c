"""The students of a declaration, as boxes of sizes under each combination of policies."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import LayerPolicy, WidthPolicy
from protege.spaces.architecture.sizes import DEPTHS, RATIOS
from protege.spaces.errors import Infeasible
from protege.spaces.families.family import family_of
from protege.spaces.space.boxes import Box, Factor, SizeTuple

Policies = tuple[Sequence[LayerPolicy], Sequence[WidthPolicy], Sequence[Any]]


def factors_of(
    teacher: Architecture, ratios: Mapping[str, Sequence[float]], multiple_of: int
) -> tuple[Factor, ...]:
    """Return the sizes that ratios give: the depths, the attention, and every other size.

    Hidden size and heads depend on each other, and in some families the feed-forward width on the
    hidden size.
    """
    together = [["layers", "decoder_layers"], ["hidden", "heads", "kv_heads"]]
    alone = ["intermediate", "experts", "moe_intermediate", "vocab"]
    if family_of(teacher.model_type).ffn_multiple:
        together[1].append(alone.pop(0))
    whole = dict.fromkeys(RATIOS, 1.0)
    found = []
    for names in (*together, *([name] for name in alone)):
        sizes = tuple(RATIOS[name] for name in names)
        values: dict[SizeTuple, None] = {}
        for given in product(*(ratios[name] for name in names)):
            chosen = whole | dict(zip(names, given, strict=True))
            with suppress(Infeasible):
                scaled = teacher.scaled_sizes(chosen, multiple_of)
                values[tuple(scaled[size] for size in sizes)] = None
        found.append(Factor(sizes, tuple(values)))
    return tuple(found)


def boxes_of(
    teacher: Architecture,
    factors: tuple[Factor, ...],
    policies: Policies,
    fits: Callable[[Architecture], bool],
) -> tuple[Box, ...]:
    """Return all students with these sizes and policies except the teacher.

    A student that keeps all layers has no layer policy, and one that keeps all widths no width
    policy (see `Architecture.with_policies`). Of resolved layer policies that keep the same layers
    only the first is used. ``fits`` says whether a student can be cut. It may depend on one factor
    and the policies, not on combinations of factors.
    """
    depths, *rest = factors
    own = tuple(factor.of(teacher) for factor in rest)
    whole = [factor.only({value}.__contains__) for factor, value in zip(rest, own, strict=True)]
    full = depths.only({depths.of(teacher)}.__contains__)
    cut = [
        (one, depths.only(kept.__contains__)) for one, kept in _depths(teacher, depths, policies[0])
    ]
    boxes = []
    for (layer_policy, some), width_policy, healing in product(cut, *policies[1:]):
        like = replace(teacher, layer_policy=layer_policy, healing=healing)
        boxes.append(Box(replace(like, width_policy=width_policy), (some, *rest), own))
        if width_policy == policies[1][0]:
            boxes.append(Box(like, (some, *whole)))
    for width_policy, healing in product(*policies[1:]):
        like = replace(teacher, width_policy=width_policy, healing=healing)
        boxes.append(Box(like, (full, *rest), own))
    fitting = (_fitting(box, teacher, fits) for box in boxes)
    return tuple(box for box in fitting if box.count)


def _depths(
    teacher: Architecture, depths: Factor, policies: Sequence[LayerPolicy]
) -> list[tuple[LayerPolicy, set[SizeTuple]]]:
    """Return for each layer policy the depths below the teacher's at which it is used."""
    used: list[tuple[LayerPolicy, set[SizeTuple]]] = [(policy, set()) for policy in policies]
    for value in depths.known - {depths.of(teacher)}:
        sizes: dict[str, Any] = dict(zip(DEPTHS, value, strict=True))
        shape = replace(teacher, **sizes)
        kept: set[tuple[tuple[int, ...], ...]] = set()
        for policy, at in used:
            try:
                layers = teacher.layers_kept(shape, policy)
            except Infeasible:
                continue
            if not (policy.is_resolved and layers in kept):
                at.add(value)
            if policy.is_resolved:
                kept.add(layers)
    return used


def _fitting(box: Box, teacher: Architecture, fits: Callable[[Architecture], bool]) -> Box:
    """Return the box without values that make students that cannot be cut."""
    own = [factor.of(teacher) for factor in box.factors]

    def kept(place: int) -> Callable[[SizeTuple], bool]:
        return lambda value: fits(box.at([*own[:place], value, *own[place + 1 :]]))

    factors = tuple(factor.only(kept(place)) for place, factor in enumerate(box.factors))
    return replace(box, factors=factors)
