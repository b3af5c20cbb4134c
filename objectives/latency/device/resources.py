"""What a model needs in memory: what its process grows by, beside what imports took."""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from protege.objectives.latency.device.programs import MANIFEST, hush_openvino

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 3
"""A runtime that plans its memory does so after its first call, and holds to it from the second."""

_IMPORTS = {
    "onnxruntime": ("numpy", "onnxruntime"),
    "openvino": ("numpy", "openvino"),
    "executorch": ("numpy", "torch", "executorch.runtime"),
}
_PROC = Path("/proc/self")


class Growth:
    """How far this process has grown since it imported what it needs.

    Pages of shared libraries are left out: they come in when code runs for the first time, be it
    before or after the start, and all processes that run it share them. A file of weights that is
    mapped counts as a whole, though a call may ask for a few rows of it: in time all of them are
    read, and how many come in with one depends on how the system happens to have cached the file.
    Without ``/proc`` the system tells no more than the most that a process ever had.
    """

    def __init__(self) -> None:
        gc.collect()
        _give_back()  # or the model would be put into what imports have left free, and not be seen
        self._aside = _aside_bytes()
        self._start = resident_bytes() if _restart_peak() else _peak_bytes()

    def peak_mb(self) -> float:
        """The most since the start, or since this was last asked for, in MB of 10**6 bytes."""
        grown = _peak_bytes() - self._start + _aside_bytes() - self._aside
        _restart_peak()
        return round(max(0, grown) / 1e6, 3)


def footprint(load: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Peaks of loading a model and of calling it: ``load_peak_mb`` and ``run_peak_mb``.

    Args:
        load: Gives a call of the model; whatever it needs is imported already.
    """
    growth = Growth()
    call = load()
    load_mb = growth.peak_mb()
    for _ in range(CALLS):
        call()
    return {"load_peak_mb": load_mb, "run_peak_mb": growth.peak_mb()}


def import_runtime(folder: str) -> None:
    """Import what a program needs to run, all of it, so that it is not taken for the model's."""
    manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    hush_openvino()
    for name in _IMPORTS[manifest["runtime"]]:
        import_module(name)


def program_bytes(folder: str) -> int:
    """The size of a program's files: of what would be deployed, not of what it is timed on."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.name not in {MANIFEST, "inputs.npz"})


def resident_bytes(process: str = "self") -> int:
    """What of a process is in memory; the most that ever was of this one without ``/proc``."""
    return _status("VmRSS", process) or _ever()


def _peak_bytes() -> int:
    return _status("VmHWM") or _ever()


def _ever() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str, process: str = "self") -> int:
    """A figure of a process in bytes; 0 where the system has none."""
    with suppress(OSError):
        for line in (_PROC.parent / process / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _restart_peak() -> bool:
    """Let the peak begin at what is in memory now; whether the system could."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _aside_bytes() -> int:
    """What is mapped of files and not yet in memory, less what is in memory of libraries."""
    total, name = 0, ""
    with suppress(OSError):
        for line in (_PROC / "smaps").read_text().splitlines():
            words = line.split()
            if words[0][-1] != ":":  # a mapping begins: addresses, rights, and the file's name
                name = words[5] if len(words) > 5 else ""
            elif words[0] in {"Size:", "Rss:"}:
                total += _counts(name)[words[0]] * int(words[1]) * 1024
    return total


def _counts(name: str) -> dict[str, int]:
    """How a mapping's size and what is in memory of it count."""
    if ".so" in Path(name).name:
        return {"Size:": 0, "Rss:": -1}
    if name.startswith("/") and not name.startswith(("/dev/", "/memfd:")):
        return {"Size:": 1, "Rss:": -1}
    return {"Size:": 0, "Rss:": 0}


def _give_back() -> None:
    """Return freed memory to the system, where its C library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
