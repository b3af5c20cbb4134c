"""What a study knows of its teacher before the first student is cut: measured once, then cached."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from protege.objectives.distillation.questions import Questions
from protege.search.heads import calibrate, criteria, unit_criteria
from protege.spaces import Cache, Calibration, SearchSpace, Teacher
from protege.spaces.cache import digest, tensor_bytes
from protege.spaces.layers import FINDINGS
from protege.spaces.policies import Criterion, HeadsBy
from protege.spaces.streams import Streams, tokens_for
from protege.spaces.widths import Rotation
from protege.spaces.wiring import Wiring

CALIBRATION_TOKENS = 65_536
"""Real tokens of the calibration, at most: one pass over them."""

VERSION = 2
"""Of what is cached; one more whenever the same call would find something else."""


@dataclass(frozen=True)
class Needs:
    """What the members of a space ask of a calibration.

    Attributes:
        heads_by: What attention heads are ranked by.
        criteria: What units of any kind are ranked by.
        layers: The layer policies that look at data.
        streams: Whether students are healed or rotated.
    """

    heads_by: list[HeadsBy]
    criteria: list[Criterion]
    layers: list[str]
    streams: bool

    @classmethod
    def of(cls, space: SearchSpace) -> "Needs":
        """What the members of the space need, whether or not it is resolved."""
        policies = {member.layer_policy.name for member in space.members}
        return cls(
            heads_by=criteria(space),
            criteria=unit_criteria(space),
            layers=sorted(policies & FINDINGS.keys()),
            streams=any(
                member.healing != "none" or isinstance(member.width_policy, Rotation)
                for member in space.members
            ),
        )


def calibrated(
    teacher: Teacher,
    learnt: Questions,
    needs: Needs,
    cache: Cache,
    announce: Callable[[str], None],
) -> Calibration:
    """The calibration of a study, from what its students learn from.

    Tokens are counted in all there is: rare ones hardly show in what one pass may read.
    """
    sequences = learnt.up_to(CALIBRATION_TOKENS)
    known: dict[str, Any] = {"teacher": teacher.fingerprint, "version": VERSION}
    key = {**known, "sequences": sequences.fingerprint, **asdict(needs)}
    found = Calibration(
        cache.tensors(
            "calibration",
            key,
            lambda: calibrate(
                teacher,
                sequences,
                needs.heads_by,
                announce,
                needs.criteria,
                needs.layers,
                grams=needs.streams,
            ).tensors(),
        )
    ).counting(learnt.ids)
    if not needs.streams:
        return found
    return replace(found, streams=_streams(teacher, learnt, cache, announce))


def _streams(
    teacher: Teacher, learnt: Questions, cache: Cache, announce: Callable[[str], None]
) -> Streams:
    """What runs through the teacher on a few sequences, as one batch."""
    few = learnt.batch(learnt.alike(tokens_for(teacher.architecture.hidden_size)))
    batch = dict(few.inputs)
    key = {
        "teacher": teacher.fingerprint,
        "version": VERSION,
        "batch": digest(*map(tensor_bytes, batch.values())),
    }

    wired = cache.record("wiring", key, lambda: Wiring.of(teacher, batch).record())
    wiring = Wiring.of_record(wired)

    def remember() -> dict[str, Tensor]:
        announce("teacher's streams")
        return Streams.of(teacher, batch, wiring).tensors()

    return Streams.of_tensors(wiring, cache.tensors("streams", key, remember))
