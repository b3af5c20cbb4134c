"""Columns of a data set in memory, for metrics."""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from protege.objectives.data.example import Picture
from protege.objectives.data.files import File
from protege.objectives.data.images import undecoded
from protege.objectives.data.records import Columns, class_names, plain, shown
from protege.spaces.errors import BadInput
from protege.spaces.files.hashing import digest_of

Data = str | Path | Iterable[Mapping[str, Any]]
"""A file in JSON, JSON lines, CSV, TSV or Parquet; a dataset of `datasets`; or mappings."""


@dataclass(frozen=True)
class Table:
    """Columns of a data set, each under the role that it has for a metric.

    Attributes:
        fingerprint: Hash of all values.
        columns: The values of each column by role. Images are a `Picture`, recordings a mapping
            with ``array`` and ``sampling_rate``.
        classes: The class names of the column ``label``; empty if the data set has none.
    """

    fingerprint: str
    columns: Mapping[str, tuple[Any, ...]] = field(repr=False, compare=False)
    classes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, data: Data, **roles: str | None) -> "Table":
        """Read the columns of a data set.

        Args:
            data: The data set.
            roles: The name of the column for each role; None leaves the role out.

        Raises:
            BadInput: The data cannot be read, is empty, or a column or a value is missing.
        """
        named = {role: name for role, name in roles.items() if name is not None}
        found: dict[str, list[Any]] = {role: [] for role in named}
        features = getattr(data, "features", None) or {}
        for where, row in _rows(data, list(named.values())):
            for role, name in named.items():
                found[role].append(_value(role, row[name], f"{where}, column {name!r}"))
        if not all(found.values()):
            raise BadInput(f"{shown(data)}: empty; expected rows with {', '.join(named.values())}")
        parts = (_bytes(one) for role in sorted(found) for one in found[role])
        classes = class_names(features.get(named.get("label")))
        columns = {role: tuple(values) for role, values in found.items()}
        return cls(digest_of(parts), columns, classes)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def texts(self, role: str) -> list[str]:
        """Return a column of texts."""
        return [str(one) for one in self.columns[role]]

    def numbers(self, role: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Return a column of numbers, ``(rows,)``.

        Raises:
            BadInput: A value is no finite number.
        """
        try:
            found = np.array([float(one) for one in self.columns[role]])
        except (TypeError, ValueError) as error:
            raise BadInput(f"column for {role}: not all values are numbers ({error})") from None
        if not np.isfinite(found).all():
            raise BadInput(f"column for {role}: not all values are finite numbers")
        return found


def _rows(data: Data, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its place in the data; check that it has the columns."""
    if isinstance(data, str | Path):
        rows = File.of(Path(data), Columns(names[0], names[-1]), None, None).records()
    elif isinstance(data, Mapping):
        known = ", ".join(map(str, data))
        raise BadInput(f"several datasets, {known}; expected one of them: dataset[name]")
    else:
        given: Any = data
        for name in names:
            given = undecoded(given, name)
        rows = ((f"row {number}", row) for number, row in enumerate(given))
    for where, row in rows:
        if not isinstance(row, Mapping):
            raise BadInput(f"{where}: expected values by column; found {shown(row)}")
        for name in names:
            if name not in row:
                known = ", ".join(map(str, row))
                raise BadInput(f"{where}: no column {name!r}; there are: {known}")
        yield where, row


def _value(role: str, value: Any, where: str) -> Any:
    """Convert a value by the role of its column."""
    if value is None:
        raise BadInput(f"{where}: no value")
    if role == "image":
        return Picture.of(value, where)
    return _recording(value, where) if role == "audio" else plain(value)


def _recording(value: Any, where: str) -> Mapping[str, Any]:
    """Convert a WAV file, its bytes, samples or a mapping with samples to a recording."""
    if isinstance(value, Mapping) and value.get("array") is not None:
        return {"array": np.asarray(value["array"], np.float32), **_rate(value["sampling_rate"])}
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | str | Path):
        from scipy.io import wavfile

        try:
            rate, samples = wavfile.read(BytesIO(value) if isinstance(value, bytes) else value)
        except (OSError, ValueError, struct.error) as error:
            raise BadInput(f"{where}: not a WAV file that can be read ({error})") from None
        if samples.dtype.kind == "i":
            samples = samples / -float(np.iinfo(samples.dtype).min)
        mono = samples if samples.ndim == 1 else samples.mean(1)
        return {"array": mono.astype(np.float32), **_rate(rate)}
    raise BadInput(
        f"{where}: of type {type(value).__name__}; expected a WAV file, or a mapping with array "
        "and sampling_rate"
    )


def _rate(value: Any) -> dict[str, int]:
    return {"sampling_rate": int(value)}


def _bytes(value: Any) -> bytes:
    """Return the bytes that identify a value."""
    if isinstance(value, Picture):
        return value.content
    if isinstance(value, Mapping) and isinstance(value.get("array"), np.ndarray):
        return f"{value['sampling_rate']} ".encode() + bytes(value["array"].tobytes())
    return json.dumps(value, sort_keys=True, default=str).encode() + b"\0"
