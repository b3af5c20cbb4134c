"""Training checkpoints, from which an interrupted trial resumes."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from protege.objectives.measurement import Measurement
from protege.spaces.files.cache import read_tensors, write_tensors

_RUNGS = "rungs"


@dataclass(frozen=True)
class Rung:
    """The measurements of a student at one step of its training.

    Attributes:
        step: Training steps done.
        measurements: The measurements at this step, by objective name.
        published: Those of the best step so far, which count if training ends here.
        is_last: Whether training ends here.
    """

    step: int
    measurements: Mapping[str, Measurement]
    published: Mapping[str, Measurement]
    is_last: bool = False

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Rung":
        """Read a rung from what `dataclasses.asdict` made, after a JSON round trip."""
        found, best = (
            {name: Measurement.of_record(one) for name, one in record[part].items()}
            for part in ("measurements", "published")
        )
        return cls(record["step"], found, best, record["is_last"])


@dataclass
class Checkpoint:
    """The checkpoint file of one training, with the rungs passed so far.

    Attributes:
        path: The file; None disables checkpoints.
        key: Identity of the training as canonical JSON; files with another key are ignored.
        every_s: Minimum seconds between checkpoints.
        clock: Returns the time in seconds.
        rungs: The rungs passed so far.
    """

    path: Path | None
    key: str
    every_s: float
    clock: Callable[[], float] = perf_counter
    rungs: list[Rung] = field(default_factory=list)
    _safe: float = field(default=0.0, init=False)

    def read(self) -> Mapping[str, Tensor]:
        """Load `rungs` and return the training state; empty if there is no valid file."""
        found = read_tensors(self.path, self.key) if self.path else None
        if found is None:
            return {}
        records = json.loads(bytes(found.pop(_RUNGS).tolist()))
        self.rungs = [*map(Rung.of_record, records)]
        return found

    def begin(self) -> None:
        """Count the seconds from now on; call it when training starts."""
        self._safe = self.clock()

    def save(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write the training state if the last checkpoint is `every_s` seconds old.

        Raises:
            DiskFull: The disk is full.
        """
        if self.path is None or self.clock() - self._safe < self.every_s:
            return
        text = json.dumps([asdict(one) for one in self.rungs]).encode()
        # in the same file as the tensors, so that both are always from the same step
        records = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        write_tensors(self.path, self.key, {**state(), _RUNGS: records})
        self._safe = self.clock()
