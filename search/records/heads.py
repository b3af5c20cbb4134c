"""The importance of a teacher's attention heads, as a study records it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from protege.spaces.architecture.policies import HeadsBy

if TYPE_CHECKING:
    import pandas as pd

    from protege.spaces import Calibration, Teacher

HEAD_TOKENS: dict[HeadsBy, int] = {
    "activation": 16_384,
    "gradient": 16_384,
    "ablation": 2048,
    "wanda": 16_384,
}
"""Default number of real tokens to measure heads on; ablation runs one pass per head."""


@dataclass(frozen=True)
class HeadScores:
    """The importance of a teacher's attention heads by one criterion.

    Attributes:
        by: The criterion; see `head_importance`.
        kv_heads: Key-value heads of each layer; as many query heads share each of them.
        sites: For every site, such as ``decoder.cross_heads``, its layers' heads in order.
    """

    by: HeadsBy
    kv_heads: int
    sites: Mapping[str, Sequence[Sequence[float]]]

    @classmethod
    def of(cls, teacher: "Teacher", calibration: "Calibration", by: HeadsBy) -> "HeadScores":
        """Return a calibration's scores of the heads by one criterion."""
        ending = "" if by == "activation" else f".{by}"
        sites = {
            f"{stack}.{unit}": values.tolist()
            for stack in teacher.layout.depths
            for unit in ("heads", "cross_heads")
            if (values := calibration.importance.get(f"{stack}.{unit}{ending}")) is not None
        }
        return cls(by, teacher.architecture.num_key_value_heads, sites)

    def record(self) -> dict[str, Any]:
        """Return the scores as JSON values, rounded to five digits."""
        short = {
            site: [[float(f"{value:.5g}") for value in row] for row in rows]
            for site, rows in self.sites.items()
        }
        return asdict(self) | {"sites": short}

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One row per head: ``site``, ``layer``, ``head``, ``kv_group``, ``importance``."""
        import pandas as pd

        rows = [
            (site, layer, head, self.group(site, head, len(values)), value)
            for site, layers in self.sites.items()
            for layer, values in enumerate(layers)
            for head, value in enumerate(values)
        ]
        return pd.DataFrame(rows, columns=["site", "layer", "head", "kv_group", "importance"])

    def group(self, site: str, head: int, heads: int) -> int:
        """Return the key-value head of a query head; in cross-attention each has its own."""
        return head if site.endswith("cross_heads") else head * self.kv_heads // heads
