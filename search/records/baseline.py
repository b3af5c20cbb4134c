"""The record of a baseline: a model of another origin that students are compared with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from protege.objectives.measurement import Measurement
from protege.spaces.errors import without_secrets


@dataclass(frozen=True)
class BaselineRecord:
    """The measurements of one baseline.

    Attributes:
        name: Its name.
        source: The folder or hub id, or what it was made from.
        key: The fingerprint of its weights.
        architecture: Sizes by name.
        measurements: By objective name.
        reasons: By objective name, why an objective could not be measured.
    """

    name: str
    source: str
    key: str
    architecture: Mapping[str, Any]
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the record as JSON values; passwords and tokens in its reasons are hidden."""
        reasons = {name: without_secrets(reason) for name, reason in self.reasons.items()}
        return asdict(self) | {"reasons": reasons}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "BaselineRecord":
        """Read a record from what `record` returned."""
        found = record["measurements"].items()
        measurements = {name: Measurement.of_record(one) for name, one in found}
        return cls(**{**record, "measurements": measurements})
