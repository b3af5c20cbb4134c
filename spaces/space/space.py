"""The search space: all students that a declaration allows and that can be built."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from protege.spaces.architecture.architecture import RATIOS, Architecture
from protege.spaces.architecture.policies import Healing, LayerPolicy, WidthPolicy, check_healing
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.space.anchors import anchors
from protege.spaces.space.knobs import (
    SIZES,
    WITH_DATA,
    WITHOUT_DATA,
    Knob,
    Params,
    Value,
    name_of,
    value_of,
)
from protege.spaces.space.ratios import Choice, Ratios, spread
from protege.spaces.teacher import Teacher

DEPENDENT = (
    "num_attention_heads",
    "num_key_value_heads",
    "layer_policy",
    "width_policy",
    "healing",
)
"""Knobs that usually follow from others and are left out if they do."""


def _any(_: Architecture) -> bool:
    """Accept every architecture; used while no teacher is given."""
    return True


@dataclass(frozen=True)
class SearchSpace:
    """Ratios to the teacher's sizes, and policies; its members are the students they make.

    A size takes one ratio (fixed), a `Range` or a `Choice` of ratios; a policy takes one value or a
    `Choice` of them.

    Every space contains the baselines: the teacher, and the naive half, which keeps every second
    layer and the first half of the units. A study begins with the space's `anchors`.

    Attributes:
        layers: Ratios of `num_hidden_layers`; in an encoder-decoder, of the encoder.
        decoder_layers: Ratios of `num_decoder_layers`, for encoder-decoders.
        hidden: Ratios of `hidden_size`.
        heads: Ratios of `num_attention_heads`; dropped evenly from every key-value group.
        kv_heads: Ratios of `num_key_value_heads`; dropped as whole groups.
        intermediate: Ratios of `intermediate_size`.
        experts: Ratios of `num_experts`; at least as many stay as a token is routed to.
        moe_intermediate: Ratios of `moe_intermediate_size`, the width of each expert.
        vocab: Ratios of `vocab_size`; special tokens, bytes and characters stay.
        layer_policy: One policy or several to choose from; None for the best known default (see
            `WITH_DATA`).
        width_policy: Likewise.
        healing: One healing method or several to choose from; None for the best known default.
        multiple_of: Widths are rounded to multiples of it; hardware prefers 8, 16, 32 or 64.
        teacher: The teacher's architecture; set by `of`.
        fits: Returns whether a student can be cut from the teacher; set by `of`.
    """

    layers: Ratios = 1.0
    decoder_layers: Ratios = 1.0
    hidden: Ratios = 1.0
    heads: Ratios = 1.0
    kv_heads: Ratios = 1.0
    intermediate: Ratios = 1.0
    experts: Ratios = 1.0
    moe_intermediate: Ratios = 1.0
    vocab: Ratios = 1.0
    layer_policy: LayerPolicy | Choice | None = None
    width_policy: WidthPolicy | Choice | None = None
    healing: Healing | Choice | None = None
    multiple_of: int = 8
    teacher: Architecture | None = field(default=None, repr=False)
    fits: Callable[[Architecture], bool] = field(default=_any, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in RATIOS:
            spread(name, getattr(self, name), Fraction(1, 8))
        width: object = self.multiple_of
        if not isinstance(width, int) or width < 1:
            raise BadInput(f"multiple_of={width!r}: expected a whole number above 0")
        for name in ("layer_policy", "width_policy", "healing"):
            declared = getattr(self, name)
            if isinstance(declared, tuple | list):
                spelling = Choice(*declared)
                raise BadInput(f"{name}={declared!r}: expected one policy, or {spelling!r}")
            names = [name_of(one) for one in _several(declared) if one is not None]
            if len(set(names)) < len(names) or declared == Choice():
                raise BadInput(
                    f"{name} with {names}: expected one or more policies with distinct names"
                )
        for healing in _several(self.healing or "none"):
            check_healing(healing)

    def of(self, teacher: Teacher | Architecture, *, has_data: bool = True) -> "SearchSpace":
        """Bind this space to a teacher.

        Args:
            teacher: The teacher.
            has_data: Whether default policies may use data.

        Raises:
            BadInput: The space contains no student except the teacher itself.
        """
        own = teacher.architecture if isinstance(teacher, Teacher) else teacher
        fits = teacher.can_be if isinstance(teacher, Teacher) else self.fits
        usual = WITH_DATA if has_data else WITHOUT_DATA
        chosen = {name: one for name, one in usual.items() if getattr(self, name) is None}
        bound = replace(self, teacher=own, fits=fits, **chosen)
        if not bound._declared:  # noqa: SLF001 - same class
            raise BadInput(
                f"{self!r} has no student of {bound.teacher}: no ratio in it gives sizes that the "
                "family accepts and that differ from the teacher's; widen a range or add a policy"
            )
        return bound

    def resolved(self, calibration: Calibration | None) -> "SearchSpace":
        """Return this space with resolved layer policies; policies that keep the same layers merge.

        The declaration stays the same.

        Raises:
            BadInput: The calibration lacks what a policy needs.
        """
        used = {member.layer_policy for member in self.members}
        own: Any = self.layer_policy
        resolved = [p.resolved(calibration) if p in used else p for p in _several(own)]
        return replace(self, layer_policy=_like(own, resolved))

    @property
    def is_resolved(self) -> bool:
        """Whether all layer policies are resolved."""
        return all(member.layer_policy.is_resolved for member in self.members)

    def declaration(self) -> dict[str, Any]:
        """Return what was declared by field; it identifies a study."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.repr and getattr(self, f.name) != f.default
        }

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(self.members)

    def __contains__(self, architecture: object) -> bool:
        return architecture in self._numbers

    def __repr__(self) -> str:
        declared = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)
            if f.repr and getattr(self, f.name) != f.default
        )
        if self.teacher is None:
            return f"SearchSpace({declared})"
        knobs = "; ".join(f"{k.name} {' '.join(map(str, k.values))}" for k in self.knobs)
        return f"SearchSpace({declared}): {len(self)} students of {self.teacher}: {knobs}"

    @cached_property
    def anchors(self) -> tuple[Architecture, ...]:
        """The first architectures of a study; see `protege.spaces.space.anchors`."""
        return anchors(self)

    @cached_property
    def baselines(self) -> tuple[Architecture, ...]:
        """The teacher and the naive half."""
        teacher = self._teacher
        named = ("layers", "decoder_layers", "hidden", "intermediate", "moe_intermediate")
        half = {name: 0.5 for name in named if getattr(teacher, RATIOS[name])}
        choices = [{**half, "heads": 0.5, "kv_heads": 0.5}, half]
        for ratios in choices:
            try:
                naive = teacher.scaled(multiple_of=self.multiple_of, **ratios)  # type: ignore[arg-type]
            except Infeasible:
                continue
            if self.fits(naive):
                return (teacher, naive)
        return (teacher,)

    @cached_property
    def members(self) -> tuple[Architecture, ...]:
        """All distinct architectures, the baselines first."""
        return tuple(dict.fromkeys((*self.baselines, *self._declared)))

    @cached_property
    def by_key(self) -> dict[str, Architecture]:
        """The members by `Architecture.key`."""
        return {member.key(): member for member in self.members}

    @cached_property
    def smallest(self) -> tuple[Architecture, ...]:
        """The members with Pareto-minimal sizes."""
        shapes = {tuple(member.sizes().values()): member for member in reversed(self.members)}
        sizes = np.array(list(shapes))
        least = [
            member
            for mine, member in zip(sizes, shapes.values(), strict=True)
            if not ((sizes <= mine).all(1) & (sizes < mine).any(1)).any()
        ]
        return tuple(least)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """The dimensions in which members differ, without those that follow from others."""
        names = [*SIZES, "layer_policy", "width_policy", "healing"]
        table = [tuple(value_of(member, name) for name in names) for member in self.members]
        for dependent in DEPENDENT:
            column = names.index(dependent)
            rest = {row[:column] + row[column + 1 :] for row in table}
            if len(rest) == len(table):
                table = [row[:column] + row[column + 1 :] for row in table]
                names.pop(column)
        columns = zip(names, zip(*table, strict=True), strict=True)
        knobs = (
            Knob(name, tuple(sorted(set(column)) if name in SIZES else dict.fromkeys(column)))
            for name, column in columns
        )
        return tuple(knob for knob in knobs if len(knob.values) > 1)

    def params(self, architecture: Architecture) -> dict[str, Value]:
        """Return the member's value of every knob."""
        return {knob.name: value_of(architecture, knob.name) for knob in self.knobs}

    def at(self, params: Params) -> Architecture:
        """Return the member with exactly these values.

        Raises:
            Infeasible: The space has no such member.
        """
        found = self.nearest(params)
        if self.params(found) != {knob.name: params[knob.name] for knob in self.knobs}:
            raise Infeasible(f"{dict(params)}: no member of the space; the nearest is {found}")
        return found

    def nearest(
        self, params: Params, excluding: Collection[Architecture] = frozenset()
    ) -> Architecture:
        """Return the member nearest to the values.

        The distance is the sum over knobs: for a size its difference divided by the size's range,
        for a policy 1 if it differs.

        Raises:
            Infeasible: Every member is excluded.
        """
        distance = np.abs(self._points - self._point(params)).sum(1)
        taken = [self._numbers[member] for member in excluding if member in self._numbers]
        distance[taken] = np.inf
        best = int(distance.argmin())
        if np.isinf(distance[best]):
            raise Infeasible(f"all {len(self)} members of the space have been tried")
        return self.members[best]

    def farthest(self, excluded: Collection[Architecture]) -> Architecture:
        """Return the member with the largest distance to its nearest excluded member.

        Raises:
            Infeasible: Every member is excluded.
        """
        distance = np.full(len(self), np.inf)
        for number in {self._numbers[member] for member in excluded}:
            distance = np.minimum(distance, np.abs(self._points - self._points[number]).sum(1))
            distance[number] = -np.inf
        best = int(distance.argmax())
        if np.isneginf(distance[best]):
            raise Infeasible(f"all {len(self)} members of the space have been tried")
        return self.members[best]

    @property
    def _teacher(self) -> Architecture:
        if self.teacher is None:
            raise BadInput("this space has no teacher yet: use space.of(teacher)")
        return self.teacher

    @cached_property
    def _declared(self) -> tuple[Architecture, ...]:
        """All distinct students of the declaration, without the teacher."""
        teacher = self._teacher
        declared = [spread(n, getattr(self, n), self._step(n)) for n in RATIOS]
        shapes: dict[Architecture, None] = {}
        for ratios in product(*declared):
            try:
                chosen: dict[str, Any] = dict(zip(RATIOS, ratios, strict=True))
                shape = teacher.scaled(multiple_of=self.multiple_of, **chosen)
            except Infeasible:
                continue
            shapes[shape] = None
        students = (student for shape in shapes for student in self._under_policies(shape))
        return tuple(dict.fromkeys(s for s in students if s != teacher and self.fits(s)))

    def _step(self, name: str) -> Fraction:
        """Return the default step of a range: one layer, one expert, or an eighth of a width."""
        whole = name in {"layers", "decoder_layers", "experts"}
        return Fraction(1, getattr(self._teacher, RATIOS[name]) or 1) if whole else Fraction(1, 8)

    def _under_policies(self, shape: Architecture) -> Iterator[Architecture]:
        """Yield the shape with every combination of policies.

        Of resolved layer policies that keep the same layers only the first is used.
        """
        teacher = self._teacher
        kept: set[tuple[tuple[int, ...], ...]] = set()
        for layer_policy in _several(self.layer_policy):
            try:
                layers = teacher.layers_kept(shape, layer_policy)
            except Infeasible:
                continue
            if layers in kept and layer_policy.is_resolved:
                continue
            if layer_policy.is_resolved:
                kept.add(layers)
            for width_policy, healing in product(
                _several(self.width_policy), _several(self.healing)
            ):
                yield teacher.with_policies(shape, layer_policy, width_policy, healing)

    @cached_property
    def _numbers(self) -> dict[Architecture, int]:
        return {member: number for number, member in enumerate(self.members)}

    @cached_property
    def _points(self) -> npt.NDArray[np.float64]:
        """The members as points, ``(members, dimensions)``."""
        return np.stack([self._point(self.params(member)) for member in self.members])

    def _point(self, params: Params) -> npt.NDArray[np.float64]:
        """Return a point: sizes scaled to [0, 1], policies one-hot with weight 0.5."""
        point: list[float] = []
        for knob in self.knobs:
            value = params[knob.name]
            if knob.is_size:
                low, high = int(knob.values[0]), int(knob.values[-1])
                point.append((int(value) - low) / (high - low))
            else:  # two policies differ in two dimensions, so their distance is 1
                point += [0.5 * (value == name) for name in knob.values]
        return np.array(point)


def _several(declared: Any) -> tuple[Any, ...]:
    return declared.values if isinstance(declared, Choice) else (declared,)


def _like(declared: Any, policies: list[Any]) -> Any:
    """Return policies in the form in which they were declared: one value, or a choice."""
    return Choice(*policies) if isinstance(declared, Choice) else policies[0]
