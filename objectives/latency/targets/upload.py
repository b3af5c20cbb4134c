"""Programs as they travel: an archive each, the same bytes for the same files, named by hash."""

import hashlib
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.targets.packing import runner, runner_name


@dataclass(frozen=True)
class Parcel:
    """What is sent to a device and kept there.

    Attributes:
        name: What it is kept as; names its content.
        sha256: Of what is sent.
        folder: The program's folder; none for the runner.
    """

    name: str
    sha256: str
    folder: Path | None = None

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """What is sent, as a file on this machine."""
        with tempfile.TemporaryFile() as file:
            if self.folder is None:
                file.write(runner())
            else:
                _pack(self.folder, file)
            file.seek(0)
            yield file


def program_parcel(folder: Path) -> Parcel:
    """The parcel of an exported program."""
    sha256 = _sha256(folder, (folder / MANIFEST).stat().st_mtime_ns)
    return Parcel(f"{sha256[:16]}.tar", sha256, folder)


def runner_parcel() -> Parcel:
    """The parcel of the runner."""
    return Parcel(runner_name(), hashlib.sha256(runner()).hexdigest())


@cache
def _sha256(folder: Path, _written_ns: int) -> str:
    """The hash of a folder's archive; once a process, unless it was exported anew."""
    with tempfile.TemporaryFile() as file:
        _pack(folder, file)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(folder: Path, file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                archive.addfile(entry, content)
