"""Where a training stands, on disk: a student whose process was killed goes on from there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor

from protege.objectives.measurement import Measurement, Rung
from protege.spaces.files.cache import read_tensors, write_tensors

WORTH_SECONDS = 20.0
"""Nothing is written where less than this would be lost: a small student is soon retrained, and a
large one takes a second to write."""

_RUNGS = "rungs"


@dataclass
class Checkpoint:
    """A file that holds one student's training at a halt, and what it was worth at rungs so far.

    Attributes:
        path: Where it is; without one nothing is kept.
        key: What training it is, as canonical JSON; a file of another one is not read.
        rungs: What the student was worth at the rungs it has passed.
    """

    path: Path | None
    key: str
    rungs: list[Rung] = field(default_factory=list)
    _safe: float = field(default=0.0, init=False)

    def read(self) -> Mapping[str, Tensor]:
        """The training's state, and `rungs` with it; empty if there is none that is whole."""
        found = read_tensors(self.path, self.key) if self.path else None
        if found is None:
            return {}
        records = json.loads(bytes(found.pop(_RUNGS).tolist()))
        self.rungs = [
            Rung(
                one["step"],
                Measurement.of_record(one["measurement"]),
                one["is_last"],
                Measurement.of_record(one["best"]),
            )
            for one in records
        ]
        return found

    def begin(self) -> None:
        """From now on there is something to lose; a student may wait long for its training."""
        self._safe = monotonic()

    def save(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Store the training where it halts, if losing it would cost enough.

        Raises:
            DiskFull: There is no room for it.
        """
        if self.path is None or monotonic() - self._safe < WORTH_SECONDS:
            return
        text = json.dumps([asdict(one) for one in self.rungs]).encode()
        # beside the tensors, so that they and what they are worth are never of two rungs
        records = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        write_tensors(self.path, self.key, {**state(), _RUNGS: records})
        self._safe = monotonic()
