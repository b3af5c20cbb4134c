"""Import the trials of earlier studies of the same teacher."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.receiving import cpu_model
from protege.search.front.front import Front
from protege.search.records.goals import Goals
from protege.search.records.results import artifact, copied
from protege.search.storage.run_folder import located
from protege.search.storage.storage import StoredStudy, read_study
from protege.search.study.importing import adopt, adoptable
from protege.search.study.ledger import trials_of
from protege.spaces import Mismatch, SearchSpace


def take_over(
    run: str | Path,
    study: StoredStudy,
    space: SearchSpace,
    goals: Goals,
    identity: Mapping[str, Any],
    folder: Path,
) -> int:
    """Import the trials of an earlier run whose architectures are members of this space.

    Repeated calls import what was added since. Weights of trials on the front are copied.

    Args:
        run: The earlier run: its folder, its ``study.db``, or a storage URL.
        study: The study to add to.
        space: Its resolved space.
        goals: Its goals.
        identity: Its identity; that of the earlier study may differ in space and limits only.
        folder: Its run folder.

    Returns:
        The number of imported trials.

    Raises:
        BadInput: There is no such run, or it has no finished trial.
        Mismatch: The identities differ, or latency was measured on another processor.
    """
    front = Front.read(run)
    made_with = read_study(located(run).storage, front.name).user_attrs["identity"]
    _check_is_alike(front.name, made_with, identity)
    _check_is_here(front)
    found = adoptable(study, space, front.trials)
    on_front = {one.number for one in goals.front([*trials_of(study), *(own for _, own in found)])}
    for there, own in found:
        if own.number in on_front:
            copied(front.weights(front.trial(there)), artifact(folder, own.number))
        adopt(study, space, goals, own, front.name)
    return len(found)


def _check_is_alike(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for part in sorted({*there, *here} - {"space"}):
        one, other = there.get(part), here.get(part)
        if part == "objectives":
            one, other = map(_without_limits, (one, other))
        if one != other:
            raise Mismatch(
                f"earlier study {name!r} was made with another {part}: {one}, here it is {other}; "
                "only studies that differ in their space and limits alone can be taken over"
            )


def _check_is_here(front: Front) -> None:
    there, here = front.about["processor"], cpu_model()
    if front.about["workloads"] and there != here:
        raise Mismatch(
            f"earlier study {front.name!r} measured latency beside a {there}, here is a {here}; "
            "take it over where it was measured"
        )


def _without_limits(declared: Sequence[str] | None) -> list[str]:
    """Return declared objectives without their limits."""
    return [re.sub(r"\b(limit\w*)=[^,)]*", r"\1", text) for text in declared or ()]
