"""The record of a study that reports need."""

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable

from protege.objectives import Workload
from protege.objectives.latency.device.receiving import cpu_model
from protege.objectives.objective import Predictable
from protege.search.records.objectives import ObjectiveRecords
from protege.search.session.identity import SearchDeclaration
from protege.search.storage.locating import database_path
from protege.spaces import SearchSpace, Teacher

PACKAGES = ("protege", "torch", "transformers", "tokenizers", "optuna", "numpy", "onnxruntime")
"""Packages whose versions a study records, if installed."""


@runtime_checkable
class Predicted(Predictable, Protocol):
    """An objective that reports predict from sizes and the workload."""

    @property
    def workload(self) -> Workload:
        """Shape of a call."""


def about(search: SearchDeclaration, objectives: ObjectiveRecords) -> dict[str, Any]:
    """Return what of the declaration reports need, as JSON values."""
    timed = [one for one in search.objectives if isinstance(one, Predicted)]
    return {
        "name": search.name,
        "folder": _folder(search),
        "artifacts": search.artifacts,
        "private": search.private,
        "seed": search.seed,
        "race": search.race and asdict(search.race),
        "goals": [objective.record() for objective in objectives.records],
        "workloads": {one.name: asdict(one.workload) for one in timed},
        "teacher": _model(search.teacher),
        "answers_from": None if search.answers_from is None else _model(search.answers_from),
        "processor": cpu_model(),
        "host": {"system": platform.platform(), "cores": os.cpu_count()},
        "versions": versions(),
    }


def _model(teacher: Teacher) -> dict[str, Any]:
    return {
        "source": teacher.source,
        "fingerprint": teacher.fingerprint,
        "hub_id": teacher.hub_id,
        "task": str(teacher.task),
        "auto_class": teacher.task.auto_class,
        "auto_processor": teacher.task.auto_processor,
        "key": teacher.architecture.key(),
        "architecture": teacher.architecture.fields(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):  # run from a checkout that is not installed
            found[package] = version(package)
    return found


def of_run(
    space: SearchSpace, heads: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Return what a run adds to the record."""
    return {
        "space": repr(space),
        "students": len(space),
        "naive": next((one.key() for one in space.baselines[1:]), None),
        "heads": list(heads),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": dict(seconds),
    }


def _folder(search: SearchDeclaration) -> str:
    """Return the run folder, relative to the database if possible, so that both can be moved."""
    folder, database = search.run_folder.path.resolve(), database_path(search.place)
    if database is not None and folder.is_relative_to(beside := database.parent.resolve()):
        return str(folder.relative_to(beside))
    return str(folder)
