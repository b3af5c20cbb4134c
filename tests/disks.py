"""Disks so small that tests can fill them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A disk of so many megabytes; the test is skipped without."""
    # not in pytest's folder: there a disk that a killed run leaves mounted fails later runs
    folder = Path(mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        folder.rmdir()
        pytest.skip("a small disk to fill cannot be mounted here; it takes root")
    try:
        yield folder
    finally:
        # lazily: this process may still have a file open there
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def make_read_only(disk: Path) -> None:
    """From now on nothing can be written to a disk that `small_disk` made."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
