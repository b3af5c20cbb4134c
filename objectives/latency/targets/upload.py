"""The files sent to a device: the runner, and exported programs as archives, named by hash."""

import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO

from protege.objectives.latency.device.programs import MANIFEST
from protege.spaces.files.hashing import digest

_PACKAGE = "protege.objectives.latency.device"
_MAIN = f"import sys\nfrom {_PACKAGE}.main import main\nsys.exit(main())\n"
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Upload:
    """A file to upload to a device.

    Attributes:
        name: Its name on the device, which contains a hash of its content.
        sha256: The SHA-256 of its content.
        folder: The program's folder; None for the runner.
    """

    name: str
    sha256: str
    folder: Path | None = None

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Write the content to a temporary file and yield it, open for reading."""
        with tempfile.TemporaryFile() as file:
            if self.folder is None:
                file.write(runner())
            else:
                _pack(self.folder, file)
            file.seek(0)
            yield file


def program_upload(folder: Path) -> Upload:
    """Return an exported program as an archive; equal files give equal bytes."""
    sha256 = _sha256(folder, (folder / MANIFEST).stat().st_mtime_ns)
    return Upload(f"{sha256[:16]}.tar", sha256, folder)


def runner_upload() -> Upload:
    """Return the runner."""
    return Upload(runner_name(), hashlib.sha256(runner()).hexdigest())


@cache
def runner() -> bytes:
    """Return the runner as an executable zip archive for Python 3.8 and one runtime.

    Equal sources give equal bytes.
    """
    folders = _PACKAGE.split(".")
    packages = ["/".join(folders[:depth]) for depth in range(1, len(folders))]
    sources = {"__main__.py": _MAIN} | {f"{package}/__init__.py": "" for package in packages}
    for source in files(_PACKAGE).iterdir():
        if source.name.endswith(".py"):
            sources["/".join([*folders, source.name])] = source.read_text(encoding="utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, source_text in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(name, _FIXED_DATE), source_text)
    return buffer.getvalue()


def runner_name() -> str:
    """Return the runner's file name, which contains a hash of its content."""
    return f"protege-runner-{digest(runner())}.pyz"


@cache
def _sha256(folder: Path, _written_ns: int) -> str:
    """Hash a program's archive; cached until it is exported again."""
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
