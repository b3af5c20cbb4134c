"""Measure a model's memory as the growth of its process after imports."""

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
"""Calls until the memory is stable: some runtimes plan their memory after the first call."""

_IMPORTS = {
    "onnxruntime": ("numpy", "onnxruntime"),
    "openvino": ("numpy", "openvino"),
    "executorch": ("numpy", "torch", "executorch.runtime"),
}
_PROC = Path("/proc/self")


class Growth:
    """The growth of this process's memory since creation, to be created after imports.

    Pages of shared libraries are not counted: they are loaded when code first runs and shared by
    all processes. A mapped file of weights counts as a whole, even if a call reads only some rows:
    eventually all are read, and how many are loaded with one depends on the system's file cache.
    Without ``/proc`` the baseline is the highest memory that the process ever had.
    """

    def __init__(self) -> None:
        gc.collect()
        _trim()  # otherwise the model would reuse freed memory of imports and not be counted
        self._aside = _aside_bytes()
        self._start = resident_bytes() if _restart_peak() else _peak_bytes()

    def peak_mb(self) -> float:
        """Return the peak since creation or the last call, in MB of 10**6 bytes."""
        grown = _peak_bytes() - self._start + _aside_bytes() - self._aside
        _restart_peak()
        return round(max(0, grown) / 1e6, 3)


def footprint(load: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Measure peak memory of loading and calling a model: ``load_peak_mb`` and ``run_peak_mb``.

    Args:
        load: Loads the model and returns a call of it; all its imports are already done.
    """
    growth = Growth()
    call = load()
    load_mb = growth.peak_mb()
    for _ in range(CALLS):
        call()
    return {"load_peak_mb": load_mb, "run_peak_mb": growth.peak_mb()}


def import_runtime(folder: str) -> None:
    """Import all that a program needs, so that it does not count as the model's memory."""
    manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    hush_openvino()
    for name in _IMPORTS[manifest["runtime"]]:
        import_module(name)


def program_bytes(folder: str) -> int:
    """Return the size in bytes of a program's deployed files, without manifest and inputs."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.name not in {MANIFEST, "inputs.npz"})


def resident_bytes(process: str = "self") -> int:
    """Return a process's resident bytes; without ``/proc`` the peak of this process."""
    return _status("VmRSS", process) or _ever()


def _peak_bytes() -> int:
    return _status("VmHWM") or _ever()


def _ever() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str, process: str = "self") -> int:
    """Return a field of ``/proc/PID/status`` in bytes; 0 if there is none."""
    with suppress(OSError):
        for line in (_PROC.parent / process / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _restart_peak() -> bool:
    """Reset the peak to the current resident size; return whether the system supports it."""
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _aside_bytes() -> int:
    """Return the mapped but not resident bytes of files, minus resident bytes of libraries."""
    total, name = 0, ""
    with suppress(OSError):
        for line in (_PROC / "smaps").read_text().splitlines():
            words = line.split()
            if words[0][-1] != ":":  # the first line of a mapping ends with the file's name
                name = words[5] if len(words) > 5 else ""
            elif words[0] in {"Size:", "Rss:"}:
                total += _counts(name)[words[0]] * int(words[1]) * 1024
    return total


def _counts(name: str) -> dict[str, int]:
    """Return the factors by which a mapping's size and resident size count."""
    if ".so" in Path(name).name:
        return {"Size:": 0, "Rss:": -1}
    if name.startswith("/") and not name.startswith(("/dev/", "/memfd:")):
        return {"Size:": 1, "Rss:": -1}
    return {"Size:": 0, "Rss:": 0}


def _trim() -> None:
    """Return freed memory to the system if the C library supports it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
