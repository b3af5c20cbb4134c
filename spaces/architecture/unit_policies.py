"""Width policies that look at weights or at data: by what they rank channels, heads and neurons."""

from dataclasses import dataclass
from typing import ClassVar, get_args

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import Criterion, HeadsBy
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Activation:
    """The units most active on calibration data (Minitron, arXiv 2407.14679).

    Attributes:
        heads_by: What attention heads are ranked by instead, if not by how active they are: the
            loss's gradient, or what the model loses without them (see `head_importance`), or what
            they add to it (see `Wanda`).
    """

    heads_by: HeadsBy = "activation"
    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False

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
    """The units with the largest weights, in the root of their sum of squares; looks at no data."""

    name: ClassVar[str] = "magnitude"
    needs_calibration: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True

    def criterion(self, _unit: str) -> Criterion:
        return "magnitude"


@dataclass(frozen=True)
class Wanda:
    """The heads and neurons that add most to what reads them (Wanda, arXiv 2306.11695).

    How large a unit is on calibration data, times the norm of the weights that read it. Channels of
    the residual stream, which everything reads, and experts are ranked by activity.
    """

    name: ClassVar[str] = "wanda"
    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False

    def criterion(self, unit: str) -> Criterion:
        return "wanda" if unit in {"heads", "cross_heads", "ffn"} else "activation"


@dataclass(frozen=True)
class Surgeon:
    """The neurons that the others could least make up for (OBS; ZipLM, arXiv 2302.04089).

    The last in the order in which they are best removed, all others refitted at each step (see
    `removal_ranks`); those of a feed-forward too wide for its second moment go by activity. Heads
    as by `Wanda`, channels of the residual stream and experts by activity.
    """

    name: ClassVar[str] = "surgeon"
    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False

    def criterion(self, unit: str) -> Criterion:
        return "surgeon" if unit == "ffn" else Wanda().criterion(unit)


@dataclass(frozen=True)
class Rotation:
    """The strongest directions of the residual stream, turned into its channels.

    One orthogonal map for the whole model, for families whose stream can be turned: RMSNorm or
    LayerNorm before each block (see `Directions`). Heads and neurons as by `Wanda`. A teacher
    whose head shares the embedding's rows makes students with a head of their own, whose weights
    count; or one that goes on sharing rows fitted to the head, which only healing makes good.

    Attributes:
        tied: Whether a shared head stays shared.
    """

    tied: bool = False
    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return "rotation-tied" if self.tied else "rotation"

    def criterion(self, unit: str) -> Criterion:
        return Wanda().criterion(unit)


@dataclass(frozen=True)
class Taylor:
    """The units that the loss changes fastest with (LLM-Pruner, arXiv 2305.11627).

    The first-order importance of Molchanov et al. (2019, arXiv 1906.10771); see
    `taylor_importance`. Experts and their neurons are ranked by activity.
    """

    name: ClassVar[str] = "taylor"
    needs_calibration: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = False

    def criterion(self, unit: str) -> Criterion:
        if unit in {"heads", "cross_heads"}:
            return "gradient"
        return "taylor" if unit in {"hidden", "ffn"} else "activation"


def rotation_of(student: Architecture, teacher: Architecture) -> Rotation | None:
    """How the residual stream is turned; none where its channels are kept, or none is dropped."""
    policy = student.width_policy
    narrower = student.hidden_size < teacher.hidden_size
    return policy if isinstance(policy, Rotation) and narrower else None
