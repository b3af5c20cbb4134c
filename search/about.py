"""The record of a study: its identity, and what reports need."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from protege.objectives import Latency, Objective, Retention, Stopwatch
from protege.objectives.latency.device.receiving import cpu_model
from protege.search.records.goals import Goals
from protege.search.running.racing import Race
from protege.search.storage.locating import database_path
from protege.spaces import SearchSpace, Teacher


class Declared(Protocol):
    """The declaration of a study; `protege.search.Search` is one."""

    name: str
    teacher: Teacher
    space: SearchSpace
    objectives: Sequence[Objective]
    storage: str | Path
    folder: str | Path
    seed: int
    race: Race | None
    artifacts: str
    private: bool
    stopwatch: Stopwatch


def identity(search: Declared, goals: Goals) -> dict[str, Any]:
    """Return the identity of a study; it can be resumed only with the same."""
    data = [one.data.fingerprint for one in search.objectives if isinstance(one, Retention)]
    return {
        "teacher": search.teacher.fingerprint,
        "data": data,
        "seed": search.seed,
        "space": search.space.declaration(),
        "objectives": [goal.declared for goal in goals.goals],
    }


def about(search: Declared, goals: Goals, heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record of the study apart from its trials, as JSON values."""
    own = search.teacher
    latencies = [one for one in search.objectives if isinstance(one, Latency)]
    return {
        "name": search.name,
        "folder": _folder(search),
        "artifacts": search.artifacts,
        "private": search.private,
        "seed": search.seed,
        "race": search.race and asdict(search.race),
        "goals": [goal.record() for goal in goals.goals],
        "workloads": {one.name: asdict(one.workload) for one in latencies},
        "teacher": {
            "source": own.source,
            "fingerprint": own.fingerprint,
            "hub_id": own.hub_id,
            "task": str(own.task),
            "auto_class": own.task.auto_class,
            "auto_processor": own.task.auto_processor,
            "key": own.architecture.key(),
            "architecture": own.architecture.fields(),
        },
        "naive": next((one.key() for one in search.space.baselines[1:]), None),
        "space": repr(search.space),
        "students": len(search.space),
        "heads": list(heads),
        "processor": cpu_model(),
        "seconds": search.stopwatch.snapshot(),
    }


def _folder(search: Declared) -> str:
    """Return the run folder, relative to the database if possible, so that both can be moved."""
    folder, database = Path(search.folder).resolve(), database_path(search.storage)
    if database is not None and folder.is_relative_to(beside := database.parent.resolve()):
        return str(folder.relative_to(beside))
    return str(folder)
