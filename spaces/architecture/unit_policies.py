"""Width policies that rank channels, heads and neurons by weights or by data."""

from dataclasses import dataclass
from typing import ClassVar, get_args

from protege.spaces.architecture.policies import Criterion, HeadsBy
from protege.spaces.errors import BadInput


class RankedByData:
    """A width policy that ranks units by a calibration on data."""

    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False


@dataclass(frozen=True)
class Activation(RankedByData):
    """The units most active on calibration data (Minitron, arXiv 2407.14679).

    Attributes:
        heads_by: The criterion for attention heads: ``activation``, ``gradient`` or ``ablation``
            (see `head_importance`), or ``wanda`` (see `Wanda`).
    """

    heads_by: HeadsBy = "activation"

    def __post_init__(self) -> None:
        if self.heads_by not in get_args(HeadsBy):
            known = ", ".join(get_args(HeadsBy))
            raise BadInput(f"heads_by={self.heads_by!r}: expected one of {known}")

    @property
    def name(self) -> str:
        return "activation" if self.heads_by == "activation" else f"heads-by-{self.heads_by}"

    def criterion(self, unit: str) -> Criterion:
        return self.heads_by if unit in {"heads", "cross_heads"} else "activation"


@dataclass(frozen=True)
class Magnitude:
    """The units with the largest weights, by root of the sum of squares; needs no data."""

    name: ClassVar[str] = "magnitude"
    needs_calibration: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True

    def criterion(self, _unit: str) -> Criterion:
        return "magnitude"


@dataclass(frozen=True)
class Wanda(RankedByData):
    """The heads and neurons that contribute most to their output projection (arXiv 2306.11695).

    The score is a unit's magnitude on calibration data times the norm of the weights that read it.
    Channels of the residual stream and experts are ranked by activity.
    """

    name: ClassVar[str] = "wanda"

    def criterion(self, unit: str) -> Criterion:
        return "wanda" if unit in {"heads", "cross_heads", "ffn"} else "activation"


@dataclass(frozen=True)
class Surgeon(RankedByData):
    """Optimal Brain Surgeon ranking of feed-forward neurons (ZipLM, arXiv 2302.04089).

    Neurons are removed one by one, each time the one that the refitted others replace best (see
    `removal_ranks`). Feed-forward networks too wide for a second moment are ranked as by `Wanda`,
    as are heads; channels of the residual stream and experts by activity.
    """

    name: ClassVar[str] = "surgeon"

    def criterion(self, unit: str) -> Criterion:
        return "surgeon" if unit == "ffn" else Wanda().criterion(unit)


@dataclass(frozen=True)
class Rotation(RankedByData):
    """The principal directions of the residual stream, rotated into its channels.

    One orthogonal map rotates the whole model. The family must have an RMSNorm or LayerNorm before
    each block (see `Directions`). Heads and neurons are ranked as by `Wanda`. A tied output head
    becomes untied, which adds parameters, unless ``tied`` is set; then its rows are fitted to the
    head, and the student needs healing.

    Attributes:
        tied: Whether a tied output head stays tied.
    """

    tied: bool = False

    @property
    def name(self) -> str:
        return "rotation-tied" if self.tied else "rotation"

    def criterion(self, unit: str) -> Criterion:
        return Wanda().criterion(unit)


@dataclass(frozen=True)
class Taylor(RankedByData):
    """The units with the largest first-order effect on the loss (LLM-Pruner, arXiv 2305.11627).

    Uses the Taylor importance of Molchanov et al. (2019, arXiv 1906.10771); see
    `taylor_importance`. Experts and their neurons are ranked by activity.
    """

    name: ClassVar[str] = "taylor"

    def criterion(self, unit: str) -> Criterion:
        if unit in {"heads", "cross_heads"}:
            return "gradient"
        return "taylor" if unit in {"hidden", "ffn"} else "activation"
