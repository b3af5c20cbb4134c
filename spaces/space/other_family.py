"""The declaration of another family in a search space."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.others.kinds import SIZES
from protege.spaces.others.table import kind_of
from protege.spaces.space.boxes import Box, Factor
from protege.spaces.space.ratios import Ratios, spread

RATIOS = dict(zip(("layers", "hidden", "intermediate", "vocab"), SIZES, strict=True))
"""The ratios of an `OtherFamily`, and the size that each one scales."""


@checks_fields
@dataclass(frozen=True)
class OtherFamily:
    """Students of another family than the teacher's, on the same front.

    Their embeddings, and norms and heads that fit, come from the teacher; the rest is drawn at
    random. A ratio scales a size of the family's model at the ratio 1: that of the teacher for
    families of texts, and of the smallest published model for families of images.

    Attributes:
        model_type: The family; see ``docs/other-families.md`` for those there are.
        layers: Ratios of the number of layers.
        hidden: Ratios of the width.
        intermediate: Ratios of the feed-forward width.
        vocab: Ratios of the vocabulary.

    Raises:
        BadInput: The family is unknown, has no such size, or a ratio is outside (0, 1].
    """

    model_type: str
    layers: Ratios = 1.0
    hidden: Ratios = 1.0
    intermediate: Ratios = 1.0
    vocab: Ratios = 1.0

    def __post_init__(self) -> None:
        kind_of(self.model_type)
        for name in RATIOS:
            spread(name, getattr(self, name), Fraction(1, 8))

    def box(
        self, teacher: Architecture, multiple_of: int, fits: Callable[[Architecture], bool]
    ) -> Box:
        """Return its students.

        Args:
            teacher: The teacher's sizes.
            multiple_of: Widths are rounded to multiples of it.
            fits: Returns whether a student can be made; it may depend on one size, not on
                combinations of sizes.

        Raises:
            BadInput: None of the students can be made, or the family lacks a size that was given.
        """
        kind = kind_of(self.model_type)
        whole = kind.whole(teacher)
        for name, size in RATIOS.items():
            if size not in whole and getattr(self, name) != 1.0:
                raise BadInput(f"other family {self.model_type!r} has no {name} to take a ratio of")
        like = kind.sizes_at(teacher, dict.fromkeys(SIZES, 1.0), multiple_of)
        factors = []
        for names, scaled in _FACTORS.items():
            values: dict[tuple[int, ...], None] = {}
            for ratio in self._ratios(scaled, whole.get(RATIOS[scaled], 0)) if scaled else (1.0,):
                one = kind.sizes_at(
                    teacher, {**dict.fromkeys(SIZES, 1.0), **_of(scaled, ratio)}, multiple_of
                )
                if _made(one, fits):
                    values[tuple(getattr(one, name) for name in names)] = None
            factors.append(Factor(names, tuple(sorted(values))))
        box = Box(like, tuple(factors))
        if not box.count:
            raise BadInput(
                f"other family {self.model_type!r}: none of its students of {teacher} can be made"
            )
        return box

    def _ratios(self, name: str, full: int) -> list[float]:
        step = Fraction(1, full) if name == "layers" and full else Fraction(1, 8)
        return spread(name, getattr(self, name), step)


_FACTORS = {
    ("num_hidden_layers", "num_decoder_layers"): "layers",
    ("hidden_size", "num_attention_heads", "num_key_value_heads"): "hidden",
    ("intermediate_size",): "intermediate",
    ("num_experts",): "",
    ("moe_intermediate_size",): "",
    ("vocab_size",): "vocab",
}
"""The sizes that vary together, as in `SearchSpace.factors`, and the ratio that sets them."""


def _of(name: str, ratio: float) -> dict[str, float]:
    return {RATIOS[name]: ratio} if name else {}


def _made(one: Architecture, fits: Callable[[Architecture], bool]) -> bool:
    try:
        return fits(one)
    except Infeasible:
        return False
