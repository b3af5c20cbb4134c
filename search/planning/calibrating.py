"""The calibration of a study: measured once before the first student, then cached."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from protege.objectives.candidate import Prepared
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.machine.stopwatch import Stopwatch
from protege.search.planning.calibration_cost import check_calibration_cost
from protege.search.planning.needs import Needs, cuts_heads
from protege.search.records.heads import HEAD_TOKENS, HeadScores
from protege.spaces import Cache, Calibration, SearchSpace, Teacher
from protege.spaces.architecture.layer_policies import Closest
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.blocks import Room
from protege.spaces.calibration.closest import closest_layers
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest
from protege.spaces.residual.graph import ResidualGraph
from protege.spaces.residual.states import ResidualStates, tokens_for


def with_calibration(prepared: Prepared, space: SearchSpace) -> Prepared:
    """Return the record with the calibration that the space needs, from the cache if it is there.

    Raises:
        BadInput: This machine has too little memory.
    """
    if prepared.distillation is None or not space.looks_at_data:
        return prepared
    with prepared.stopwatch.phase("measuring importance"):
        own = prepared.teacher.architecture
        learnt, needs = prepared.data.learnt, Needs.of(space, own)
        found = calibrated(prepared.teacher, learnt, needs, prepared.cache, prepared.stopwatch)
    return replace(prepared, calibration=found)


def compute_outputs(prepared: Prepared) -> None:
    """Compute the teacher's outputs that every trial needs, so that the cache has them.

    Raises:
        DiskFull: The disk is full.
    """
    if prepared.distillation is None:
        return
    settings, data = prepared.settings, prepared.data
    with prepared.stopwatch.phase("caching teacher outputs"):
        data.outputs(data.selected)
        if settings.steps and settings.answers == "cached" and not settings.hidden_losses:
            data.outputs(data.learnt, settings.tuned(data.task))


def head_scores(prepared: Prepared, space: SearchSpace) -> list[HeadScores]:
    """Return the importance of the teacher's heads, if students have fewer of them."""
    found = prepared.calibration
    if found is None or not cuts_heads(space, prepared.teacher):
        return []
    needs = Needs.of(space, prepared.teacher.architecture)
    return [HeadScores.of(prepared.teacher, found, by) for by in needs.heads_by]


CALIBRATION_TOKENS = 65_536
"""Maximum number of real tokens of the calibration."""

BATCH = 32
"""Sequences per batch of a calibration."""

VERSION = 4
"""Version of the cached results; raise it when the same call would give other results."""


def calibrated(
    teacher: Teacher,
    learnt: TaskInputs,
    needs: Needs,
    cache: Cache,
    stopwatch: Stopwatch,
    tokens: int = CALIBRATION_TOKENS,
) -> Calibration:
    """Return the calibration of a study, from the cache if possible.

    Token frequencies are counted over all training data, as rare tokens hardly occur in the
    calibration data.

    Raises:
        BadInput: This machine has too little memory.
    """
    sequences = learnt.up_to(tokens)
    known: dict[str, Any] = {"teacher": teacher.fingerprint, "version": VERSION}
    key = {**known, "sequences": sequences.fingerprint, **asdict(needs)}

    def measure() -> dict[str, Tensor]:
        room = Room.here(cache.folder)
        check_calibration_cost(teacher, sequences, needs, room, stopwatch.tell)
        return calibrate(teacher, sequences, needs, stopwatch.announce, room).tensors()

    found = Calibration(cache.tensors("calibration", key, measure)).counting(learnt.ids)
    if needs.streams:
        found = replace(found, streams=_streams(teacher, learnt, cache, stopwatch.announce))
    if Closest.name not in needs.layers:
        return found

    def compare() -> dict[str, Tensor]:
        few, announce = CalibrationBatches(sequences), stopwatch.announce
        return closest_layers(teacher, found, few, needs.depths, announce)

    closest = cache.tensors("layers", key, compare)
    return replace(found, importance={**found.importance, **closest})


def calibrate(
    teacher: Teacher,
    sequences: TaskInputs,
    needs: Needs,
    announce: Callable[[str], None],
    room: Room | None = None,
) -> Calibration:
    """Measure what students of a space need to be cut and healed.

    Ablation of heads reads only the first sequences, as it takes one pass per head. Without `room`,
    second moments take the memory and disk of this machine.
    """
    quick: list[HeadsBy] = [criterion for criterion in needs.heads_by if criterion != "ablation"]
    plan = CalibrationPlan(quick, needs.criteria, needs.grams, needs.layers, needs.depths)
    found = Calibration.measured(teacher, CalibrationBatches(sequences), plan, announce, room)
    if "ablation" not in needs.heads_by:
        return found
    few = read(sequences.up_to(HEAD_TOKENS["ablation"]))
    return found.with_heads(teacher, few, "ablation", announce)


@dataclass(frozen=True)
class CalibrationBatches:
    """The batches of a calibration; can be iterated repeatedly.

    Attributes:
        inputs: The sequences.
        size: Sequences per batch.
    """

    inputs: TaskInputs
    size: int = BATCH

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return read(self.inputs, self.size)

    def __len__(self) -> int:
        return math.ceil(len(self.inputs) / self.size)


def read(inputs: TaskInputs, size: int = BATCH) -> Iterator[dict[str, Tensor]]:
    """Yield the model inputs of each batch."""
    for batch in inputs.in_order(size):
        yield dict(batch.inputs)


def _streams(
    teacher: Teacher, learnt: TaskInputs, cache: Cache, announce: Callable[[str], None]
) -> ResidualStates:
    """Return the teacher's residual states on one batch of a few sequences."""
    few = learnt.batch(learnt.alike(tokens_for(teacher.architecture.hidden_size)))
    batch = dict(few.inputs)
    key = {
        "teacher": teacher.fingerprint,
        "version": VERSION,
        "batch": digest(*map(tensor_bytes, batch.values())),
    }

    wired = cache.record("wiring", key, lambda: ResidualGraph.of(teacher, batch).record())
    wiring = ResidualGraph.of_record(wired)

    def compute_states() -> dict[str, Tensor]:
        announce("caching hidden states")
        return ResidualStates.of(teacher, batch, wiring).tensors()

    return ResidualStates.of_tensors(wiring, cache.tensors("streams", key, compute_states))
