"""Load the baselines of a study before its trials, and measure them by its objectives."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from protege.objectives import Candidate, Objective
from protege.objectives.baselines.baseline import Baseline, Given, names_of
from protege.objectives.candidate import Prepared
from protege.search.records.baseline import BaselineRecord
from protege.search.records.failure import Failure, ends_study
from protege.search.records.trial import storable
from protege.search.running.stopping import StopRequest

_LOG = logging.getLogger("protege")


@dataclass
class Comparison:
    """The baselines of a study and their records, in the order of their declaration."""

    baselines: list[Baseline] = field(default_factory=list)
    records: list[BaselineRecord] = field(default_factory=list)

    def load(self, given: Sequence[Given], prepared: Prepared) -> None:
        """Load the declared baselines and check that they can be compared with students.

        Raises:
            BadInput: One cannot be loaded, is for another task, or its outputs cannot be compared.
        """
        for one, name in zip(given, names_of(given), strict=True):
            with prepared.stopwatch.phase("baselines"):
                baseline = Baseline.load(one, name, prepared.teacher, prepared.cache)
                if prepared.distillation is not None:
                    baseline.check(prepared.data)
            self.baselines.append(baseline)

    def recall(self, known: Sequence[Mapping[str, Any]]) -> None:
        """Take over measurements of an earlier run for baselines whose weights are the same."""
        found = {one.key: one.measurements for one in map(BaselineRecord.of_record, known)}
        self.records = [
            BaselineRecord(
                name=one.name,
                source=one.source,
                key=one.own.fingerprint,
                architecture=one.architecture.fields(),
                measurements=found.get(one.own.fingerprint, {}),
            )
            for one in self.baselines
        ]

    def measure(
        self, objectives: Sequence[Objective], prepared: Prepared, leave: StopRequest
    ) -> Iterator[BaselineRecord]:
        """Measure each baseline by each objective that has no measurement of it yet.

        An objective that cannot measure a baseline is noted with the reason, and tried again in the
        next run.

        Args:
            objectives: The objectives.
            prepared: What all trials share.
            leave: Ends the measurements before the next one when it is set.

        Yields:
            Each record after each objective.

        Raises:
            DiskFull: The disk is full.
            Unavailable: A device that all trials need is not available.
        """
        for place, baseline in enumerate(self.baselines):
            candidate = Candidate.of_baseline(prepared, baseline)
            for objective in sorted(objectives, key=lambda one: one.stage):
                if leave.reason or objective.name in self.records[place].measurements:
                    continue
                prepared.stopwatch.show(f"baseline {baseline.name}: {objective.name}")
                self.records[place] = _with(self.records[place], objective, candidate)
                yield self.records[place]


def _with(record: BaselineRecord, objective: Objective, candidate: Candidate) -> BaselineRecord:
    """Return the record with an objective's measurement, or with the reason why there is none."""
    name = objective.name
    try:
        found = storable(name, objective.measure(candidate))
    except Exception as error:
        if ends_study(error, of_teacher=False):
            raise
        reason = Failure.of(error).reason
        _LOG.warning("protege: baseline %s has no %s: %s", record.name, name, reason)
        return replace(record, reasons={**record.reasons, name: reason})
    return replace(record, measurements={**record.measurements, name: found})
