"""What is needed to repeat a study: versions, seed, fingerprints, host and declaration."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from protege.search.analysis.result import StudyResult
from protege.search.records.plain import printable
from protege.search.report.parts import Cell, Table, TableColumn
from protege.search.report.sections.section import Captioned, Section


def provenance(front: StudyResult) -> pd.DataFrame:
    """Return what a study recorded of itself, as ``part``, ``name`` and ``value``.

    The declaration of space, distillation and objectives has a row for each value that is not the
    default, with the path of its field as the name. Data is named by its fingerprint.
    """
    rows = [
        (part, printable(name), printable(value))
        for part, own in _parts(front)
        for name, value in own.items()
        if value
    ]
    return pd.DataFrame(rows, columns=["part", "name", "value"])


def to_repeat(front: StudyResult) -> Section:
    """Return the section that holds `provenance`, folded."""
    rows = [
        [Cell(part), Cell(name), Cell(value)] for part, name, value in provenance(front).to_numpy()
    ]
    columns = [
        TableColumn("Of", "text"),
        TableColumn("Name", "text"),
        TableColumn("Value", "sentence"),
    ]
    words = (
        "The record of the study: with the same values, versions and data it can be run again. "
        "Latencies depend on the host."
    )
    table = Captioned("Record of the study", Table(columns, rows))
    return Section("record", "To repeat this study", [words, table], folded=True)


def _parts(front: StudyResult) -> Iterator[tuple[str, dict[str, str]]]:
    about, identity = front.about, front.identity
    teacher = about.get("teacher", {})
    yield (
        "Study",
        {
            "name": front.name,
            "id": front.run,
            "seed": str(about.get("seed", "")),
            "last run": str(about.get("date", "")),
            "ended because": str(about.get("ended", "")),
            "race": _flat(about.get("race")),
        },
    )
    yield (
        "Teacher",
        {
            "hub id": str(teacher.get("hub_id") or ""),  # a path may be private
            "fingerprint": str(teacher.get("fingerprint", "")),
            "task": str(teacher.get("task", "")),
        },
    )
    yield "Versions", {name: str(value) for name, value in about.get("versions", {}).items()}
    host = {"processor": about.get("processor", ""), **about.get("host", {})}
    yield "Host", {name: str(value) for name, value in host.items()}
    yield "Workload", {name: _flat(one) for name, one in about.get("workloads", {}).items()}
    for part in ("space", "distillation", "objectives"):
        yield part.capitalize(), dict(_leaves(identity.get(part) or {}))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every plain value in a document."""
    if isinstance(value, Mapping) and not set(value) <= {"kind"}:
        for name, one in value.items():
            if name != "kind":
                yield from _leaves(one, f"{path}.{name}" if path else str(name))
            elif path:
                yield path, str(one)
    else:
        yield path, _flat(value)


def _flat(value: Any) -> str:
    """Return a plain value as one line."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(one)}" for name, one in value.items())
    return json.dumps(value)
