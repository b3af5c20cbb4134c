"""Import the trials of earlier studies of the same teacher."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.receiving import cpu_model
from protege.search.analysis.result import StudyResult
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.results import copy_weights, weights_folder
from protege.search.session.identity import differences
from protege.search.storage.storage import OptunaStudy
from protege.search.study.importing import import_trial, importable_trials
from protege.search.study.study import trials_of
from protege.spaces import Mismatch, SearchSpace


def import_earlier(
    front: StudyResult,
    study: OptunaStudy,
    space: SearchSpace,
    objectives: ObjectiveRecords,
    identity: Mapping[str, Any],
    folder: Path,
) -> int:
    """Import the trials of an earlier run whose architectures are members of this space.

    Repeated calls import what was added since. Weights of trials on the front are copied.

    Args:
        front: The earlier study.
        study: The study to add to.
        space: Its resolved space.
        objectives: Its objectives.
        identity: Its identity; that of the earlier study may differ in space and limits only.
        folder: Its run folder.

    Returns:
        The number of imported trials.

    Raises:
        Mismatch: The identities differ, or latency was measured on another processor.
    """
    _check_is_alike(front.name, front.identity, identity)
    _check_is_here(front)
    found = importable_trials(study, space, front.trials)
    on_front = {
        one.number for one in objectives.front([*trials_of(study), *(own for _, own in found)])
    }
    for there, own in found:
        if own.number in on_front:
            copy_weights(front.weights(front.trial(there)), weights_folder(folder, own.number))
        import_trial(study, space, objectives, own, front.name)
    return len(found)


def _check_is_alike(name: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    apart = {"space": None}
    found = differences({**there, **apart}, json.loads(json.dumps({**here, **apart})))
    if found:
        raise Mismatch(
            f"earlier study {name!r} was made otherwise ({found[0]}); only studies that differ in "
            "their space and limits alone can be taken over"
        )


def _check_is_here(front: StudyResult) -> None:
    there, here = front.about["processor"], cpu_model()
    if front.about["workloads"] and there != here:
        raise Mismatch(
            f"earlier study {front.name!r} measured latency beside a {there}, here is a {here}; "
            "take it over where it was measured"
        )
