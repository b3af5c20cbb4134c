"""The search space: all students that a declaration allows and that can be built."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

from protege.spaces.architecture.architecture import Architecture, default_recipe
from protege.spaces.architecture.policies import (
    Findings,
    First,
    Healing,
    LayerPolicy,
    Uniform,
    WidthPolicy,
    check_healing,
)
from protege.spaces.architecture.sizes import RATIOS
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.plain_text import html_table
from protege.spaces.space.anchors import anchors
from protege.spaces.space.boxes import Box, Factor
from protege.spaces.space.declared import boxes_of, factors_of
from protege.spaces.space.knobs import POLICIES, name_of
from protege.spaces.space.members import Members
from protege.spaces.space.other_family import OtherFamily
from protege.spaces.space.ratios import Choice, Ratios, spread


class Model(Protocol):
    """What a space needs of a teacher."""

    @property
    def architecture(self) -> Architecture:
        """Its sizes."""

    def can_be(self, architecture: Architecture) -> bool:
        """Return whether a student of an architecture can be cut from it."""
        ...


def _any(_: Architecture) -> bool:
    """Accept every architecture; used while no teacher is given."""
    return True


@checks_fields
@dataclass(frozen=True)
class SearchSpace(Members):
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
        layer_policy: One policy or several to choose from; by default ``Closest()`` with data, the
            best known, and ``Ends()`` without.
        width_policy: Likewise; by default ``Surgeon()`` with data and ``Magnitude()`` without.
        healing: One healing method or several to choose from; by default ``"sequential"`` with data
            and ``"none"`` without.
        others: Other families whose students are on the same front.
        multiple_of: Widths are rounded to multiples of it; hardware prefers 8, 16, 32 or 64.
        listed: Number of members up to which all of them are compared. In a larger space proposals
            come from a seeded sample, the anchors and the neighbours of the best so far.
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
    others: tuple[OtherFamily, ...] | list[OtherFamily] = ()
    listed: int = field(default=20_000, repr=False)
    teacher: Architecture | None = field(default=None, repr=False)
    fits: Callable[[Architecture], bool] = field(default=_any, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in RATIOS:
            spread(name, getattr(self, name), Fraction(1, 8))
        width: object = self.multiple_of
        if not isinstance(width, int) or width < 1:
            raise BadInput(f"multiple_of={width!r}: expected a whole number above 0")
        for name in POLICIES:
            declared = getattr(self, name)
            if isinstance(declared, tuple | list):
                spelling = Choice(*declared)
                raise BadInput(f"{name}={declared!r}: expected one policy, or {spelling!r}")
            _check_policies(name, declared)
            names = [name_of(one) for one in _several(declared) if one is not None]
            if len(set(names)) < len(names) or declared == Choice():
                raise BadInput(
                    f"{name} with {names}: expected one or more policies with distinct names"
                )
        for healing in _several(self.healing or "none"):
            check_healing(healing)
        _check_others(self.others)

    def of(self, teacher: Model | Architecture, *, has_data: bool = True) -> "SearchSpace":
        """Bind this space to a teacher.

        Args:
            teacher: The teacher.
            has_data: Whether default policies may use data.

        Raises:
            BadInput: The space contains no student except the teacher itself.
            Unsupported: Another family has no model for the teacher's task.
        """
        own = teacher if isinstance(teacher, Architecture) else teacher.architecture
        fits = self.fits if isinstance(teacher, Architecture) else teacher.can_be
        usual = default_recipe(has_data=has_data).items()
        chosen = {name: policy for name, policy in usual if getattr(self, name) is None}
        bound = replace(self, teacher=own, fits=fits, **chosen)
        if not (*bound.other_boxes, *bound.boxes):
            raise BadInput(
                f"{self!r} has no student of {bound.teacher}: no ratio in it gives sizes that the "
                "family accepts and that differ from the teacher's; widen a range or add a policy"
            )
        return bound

    def resolved(self, calibration: Findings | None) -> "SearchSpace":
        """Return this space with resolved layer policies; policies that keep the same layers merge.

        The declaration stays the same.

        Raises:
            BadInput: The calibration lacks what a policy needs.
        """
        used = {member.layer_policy for member in self.representatives}
        own: Any = self.layer_policy
        resolved = [p.resolved(calibration) if p in used else p for p in _several(own)]
        return replace(self, layer_policy=_like(own, resolved))

    @property
    def is_resolved(self) -> bool:
        """Whether all layer policies are resolved."""
        return all(member.layer_policy.is_resolved for member in self.representatives)

    def declaration(self) -> dict[str, Any]:
        """Return what was declared by field; it identifies a study."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.repr and getattr(self, f.name) != f.default
        }

    def __repr__(self) -> str:
        declared = ", ".join(f"{name}={value!r}" for name, value in self.declaration().items())
        if self.teacher is None:
            return f"SearchSpace({declared})"
        knobs = "; ".join(map(str, self.knobs))
        return f"SearchSpace({declared}): {len(self)} students of {self.teacher}: {knobs}"

    def _repr_html_(self) -> str:
        if self.teacher is None:
            rows = [{"": name, "declared": repr(one)} for name, one in self.declaration().items()]
            return html_table(rows, "SearchSpace, not yet of a teacher")
        shown = (str(knob).partition(" ") for knob in self.knobs)
        rows = [{"": name, "values": values} for name, _, values in shown]
        return html_table(rows, f"SearchSpace: {len(self):,} students of {self.teacher}")

    @cached_property
    def anchors(self) -> tuple[Architecture, ...]:
        """The first architectures of a study; see `protege.spaces.space.anchors`."""
        return anchors(self)

    @cached_property
    def baselines(self) -> tuple[Architecture, ...]:
        teacher = self._teacher
        named = ("layers", "decoder_layers", "hidden", "intermediate", "moe_intermediate")
        half: dict[str, Any] = {name: 0.5 for name in named if getattr(teacher, RATIOS[name])}
        choices = [{**half, "heads": 0.5, "kv_heads": 0.5}, half]
        plain: Any = {"layer_policy": Uniform(), "width_policy": First(), "healing": "none"}
        for ratios in choices:
            try:
                naive = teacher.scaled(multiple_of=self.multiple_of, **ratios, **plain)
            except Infeasible:
                continue
            if self.fits(naive):
                return (teacher, naive)
        return (teacher,)

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        ratios = {name: spread(name, getattr(self, name), self._step(name)) for name in RATIOS}
        return factors_of(self._teacher, ratios, self.multiple_of)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        chosen: Any = tuple(_several(getattr(self, name)) for name in POLICIES)
        return boxes_of(self._teacher, self.factors, chosen, self.fits)

    @cached_property
    def other_boxes(self) -> tuple[Box, ...]:
        return tuple(one.box(self._teacher, self.multiple_of, self.fits) for one in self.others)

    @property
    def _teacher(self) -> Architecture:
        if self.teacher is None:
            raise BadInput("this space has no teacher yet: use space.of(teacher)")
        return self.teacher

    def _step(self, name: str) -> Fraction:
        """Return the default step of a range: one layer, one expert, or an eighth of a width."""
        whole = name in {"layers", "decoder_layers", "experts"}
        return Fraction(1, getattr(self._teacher, RATIOS[name]) or 1) if whole else Fraction(1, 8)


def _several(declared: Any) -> tuple[Any, ...]:
    return declared.values if isinstance(declared, Choice) else (declared,)


def _check_others(declared: object) -> None:
    """Check that other families are given as such, each once.

    Raises:
        BadInput: They are not.
    """
    if not isinstance(declared, tuple | list) or not all(
        isinstance(one, OtherFamily) for one in declared
    ):
        raise BadInput(f"others={declared!r}: expected a list such as [OtherFamily('convbert')]")
    named = [one.model_type for one in declared]
    if len(set(named)) < len(named):
        raise BadInput(f"others with {', '.join(named)}: expected each family once")


def _check_policies(name: str, declared: Any) -> None:
    """Check that no policy is given by its name or its class.

    Raises:
        BadInput: One is.
    """
    for one in _several(declared):
        if isinstance(one, type) or (isinstance(one, str) and name != "healing"):
            shown = one.__name__ if isinstance(one, type) else repr(one)
            usual = "Closest()" if name == "layer_policy" else "Surgeon()"
            raise BadInput(f"{name}={shown}: expected a policy, such as {usual}")


def _like(declared: Any, policies: list[Any]) -> Any:
    """Return policies in the form in which they were declared: one value, or a choice."""
    return Choice(*policies) if isinstance(declared, Choice) else policies[0]
