"""Available memory and disk space."""

import shutil
from pathlib import Path

_NO_LIMIT = 1 << 60
"""A limit at least this large means no limit, as in cgroup v1."""


def available_bytes(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the bytes of memory available without swapping, or None if unknown.

    The minimum of the machine's free memory and what the process's cgroups allow. Page cache counts
    as free. ``proc`` and ``cgroups`` are the mount points of the kernel's file systems.
    """
    machine = _field(proc / "meminfo", "MemAvailable:")
    left = [_left_in(one) for one in _own_cgroups(proc / "self" / "cgroup", cgroups)]
    return min((one for one in (machine, *left) if one is not None), default=None)


def resident_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return this process's resident memory in bytes, with mapped files; 0 if unknown."""
    return _field(status, "VmRSS:") or 0


def unmapped_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return this process's resident memory in bytes, without mapped files; 0 if unknown."""
    return max(0, resident_bytes(status) - (_field(status, "RssFile:") or 0))


def free_disk_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free


def gigabytes(count: float) -> str:
    """Format a number of bytes in GB."""
    return f"{count / 1e9:.1f} GB"


def _field(path: Path, name: str) -> int | None:
    """Read a kB field of a ``/proc`` file and return bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(name))
    return next((int(value) * 1024 for value in found), None)


def _own_cgroups(own: Path, cgroups: Path) -> list[Path]:
    """List the cgroup folders whose memory limits apply to this process, innermost first."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in {"", "memory"} or "memory" in controllers.split(","):
            root = cgroups / "memory" if controllers else cgroups
            inner = root / path.lstrip("/")
            # in a container the path may be the host's; then only the mounted root exists
            found += [one for one in (inner, *inner.parents) if one.is_relative_to(root)]
    return found


def _left_in(cgroup: Path) -> int | None:
    """Return the bytes that a cgroup still allows, or None if it has no limit."""
    names = (
        ("memory.max", "memory.current", {"inactive_file", "active_file"}),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            {"total_inactive_file", "total_active_file"},
        ),
    )
    for limit_name, used_name, page_cache in names:
        try:
            limit = int((cgroup / limit_name).read_text(encoding="ascii"))
            used = int((cgroup / used_name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        if limit < _NO_LIMIT:
            return max(0, limit - used + _reclaimable(cgroup / "memory.stat", page_cache))
    return None


def _reclaimable(stat: Path, page_cache: set[str]) -> int:
    """Return the bytes of page cache that a cgroup can drop."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return sum(int(count) for field, count in found if field in page_cache)
