"""Tensors on disk that are computed block by block and memory-mapped."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protege.spaces.errors import DiskFull
from protege.spaces.files.atomic import write_text
from protege.spaces.files.cache import Cache, tensor_bytes
from protege.spaces.files.hashing import Key, canonical, digest, text_checksum
from protege.spaces.files.locks import POLL_S, WARN_S, locked, locked_at_once, log_waiting

RECORD = "record.json"

Block = dict[str, Tensor]
"""Some rows of each column, by column name; the first dimension is the rows."""


def rows(
    cache: Cache, kind: str, key: Key, starts: Sequence[int], compute: Callable[[int], Block]
) -> Block:
    """Return the rows of a key from a `BlockFile` in the cache; compute missing blocks."""
    path = cache.path(kind, key, "rows")
    return cache.opened(path, lambda: BlockFile(path, canonical(key), starts).filled(compute))


@dataclass(frozen=True)
class Column:
    """The name of a column's type, such as ``float16``, and the shape of one row."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Column":
        """Return the column of a tensor of rows."""
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape[1:]))

    @property
    def type(self) -> torch.dtype:
        """The torch type."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return math.prod(self.shape) * self.type.itemsize


@dataclass(frozen=True)
class BlockFile:
    """A folder with one file of raw values per column, and a record of the finished blocks.

    The record holds a checksum of every finished block, so a killed process loses only its current
    block, and truncated or altered blocks are computed again.

    Attributes:
        folder: The folder; safe to delete while no process reads it.
        key: The inputs that the rows are computed from, as canonical JSON.
        starts: The first row of every block, and the total number of rows.
    """

    folder: Path
    key: str
    starts: Sequence[int]

    def filled(self, compute: Callable[[int], Block]) -> Block:
        """Compute missing blocks by their numbers and return all rows, memory-mapped.

        Several processes that call this share the work: each takes the first block that nobody
        computes. The blocks of a killed process are taken by the others.

        Raises:
            DiskFull: The disk has no room for a block.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self._lock):
            columns, checksums = self._read_record()
            numbers = range(len(self.starts) - 1)
            kept = {
                n: one
                for n, one in checksums.items()
                if n in numbers and one == self._checksum(columns, n)
            }
            if kept != checksums:
                self._write_record(columns, kept)
        waited_s = 0.0
        while missing := self._missing():
            if any(self._computed(number, compute) for number in missing):
                waited_s = 0.0
                continue
            time.sleep(POLL_S)
            waited_s += POLL_S
            if waited_s >= WARN_S[0]:
                log_waiting(self._block_lock(missing[0]))
                waited_s = WARN_S[0] - WARN_S[1]
        columns, _ = self._read_record()
        return {name: self._mapped(name, column) for name, column in columns.items()}

    def _missing(self) -> list[int]:
        """Return the numbers of the blocks that are not finished."""
        with locked(self._lock):
            _, checksums = self._read_record()
        return [number for number in range(len(self.starts) - 1) if number not in checksums]

    def _computed(self, number: int, compute: Callable[[int], Block]) -> bool:
        """Compute a block and store it; return False if another process does or did."""
        place = self._block_lock(number)
        with locked_at_once(place) as mine:
            if not mine or number not in self._missing():
                return False
            block = compute(number)
            with locked(self._lock):
                _, checksums = self._read_record()
                columns = {name: Column.of(rows) for name, rows in block.items()}
                self._write(number, block)
                checksums[number] = digest(*map(tensor_bytes, block.values()))
                self._write_record(columns, checksums)
            # whoever holds this file all the same finds the block finished
            place.unlink(missing_ok=True)
        return True

    def _write(self, number: int, block: Mapping[str, Tensor]) -> None:
        try:
            for name, rows in block.items():
                path = self._path(name)
                path.touch()
                with path.open("r+b") as file:
                    file.seek(self.starts[number] * Column.of(rows).row_bytes)
                    file.write(tensor_bytes(rows))
        except OSError as error:
            if "No space left" in str(error):
                raise DiskFull(
                    f"{self.folder}: no space left on the device; make room, then run the same "
                    "line again, or run the teacher at every step: Distillation("
                    'answers="online")'
                ) from error
            raise

    def _mapped(self, name: str, column: Column) -> Tensor:
        # a private mapping, so that a reader cannot change the file
        flat = torch.from_file(
            str(self._path(name)),
            shared=False,
            size=self.starts[-1] * math.prod(column.shape),
            dtype=column.type,
        )
        return flat.reshape(self.starts[-1], *column.shape)

    def _checksum(self, columns: Mapping[str, Column], number: int) -> str | None:
        """Return the checksum of a block on disk; None if it is truncated."""
        begin, rows = self.starts[number], self.starts[number + 1] - self.starts[number]
        parts = []
        for name, column in columns.items():
            try:
                with self._path(name).open("rb") as file:
                    file.seek(begin * column.row_bytes)
                    parts.append(file.read(rows * column.row_bytes))
            except OSError:
                return None
            if len(parts[-1]) < rows * column.row_bytes:
                return None
        return digest(*parts)

    def _read_record(self) -> tuple[dict[str, Column], dict[int, str]]:
        try:
            stored = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
            record = stored["record"]
            if record["key"] != self.key or stored["checksum"] != text_checksum(record):
                return {}, {}
            columns = {
                name: Column(dtype, tuple(shape)) for name, dtype, shape in record["columns"]
            }
            return columns, {int(number): sum_ for number, sum_ in record["checksums"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            return {}, {}

    def _write_record(self, columns: Mapping[str, Column], checksums: Mapping[int, str]) -> None:
        record: dict[str, Any] = {
            "key": self.key,
            "columns": [[name, one.dtype, list(one.shape)] for name, one in columns.items()],
            "checksums": {str(number): checksum for number, checksum in checksums.items()},
        }
        stored = {"record": record, "checksum": text_checksum(record)}
        write_text(self.folder / RECORD, json.dumps(stored))

    @property
    def _lock(self) -> Path:
        """The lock of the record, held while it is read and written."""
        return self.folder / "lock"

    def _block_lock(self, number: int) -> Path:
        """The lock of a block, held by the process that computes it."""
        return self.folder / f"lock-{number}"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"


def on_disk(shape: tuple[int, ...], folder: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor of zeros in an unlinked file, which vanishes with the tensor.

    The folder is created if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".values-") as file:
        flat = torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype)
    return flat.reshape(shape)
