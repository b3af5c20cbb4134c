"""How much memory and disk this process may still take."""

import shutil
from pathlib import Path

_NO_LIMIT = 1 << 60
"""A limit at least this large is none: cgroup v1 writes a huge number where there is no limit."""


def available_bytes(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the memory that can be taken without swapping, or None where the system hides it.

    The smaller of what the machine has free and what the process's cgroups still allow. Page cache
    counts as free: the kernel drops it when memory is asked for.

    Args:
        proc: Where Linux describes the machine and this process.
        cgroups: Where Linux shows the limits of containers and batch jobs.
    """
    machine = _field(proc / "meminfo", "MemAvailable:")
    left = [_left_in(one) for one in _own_cgroups(proc / "self" / "cgroup", cgroups)]
    return min((one for one in (machine, *left) if one is not None), default=None)


def resident_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the resident memory of this process, mapped files included; 0 where it is hidden."""
    return _field(status, "VmRSS:") or 0


def free_disk_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(existing).free


def gigabytes(count: float) -> str:
    """Format bytes for people, in GB."""
    return f"{count / 1e9:.1f} GB"


def _field(path: Path, name: str) -> int | None:
    """Read a field of a ``/proc`` file that is given in kB, in bytes."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(name))
    return next((int(value) * 1024 for value in found), None)


def _own_cgroups(own: Path, cgroups: Path) -> list[Path]:
    """List the cgroup folders whose memory limits hold for this process, innermost first."""
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
            # inside a container the path may be the host's: the root is then the container's own
            found += [one for one in (inner, *inner.parents) if one.is_relative_to(root)]
    return found


def _left_in(cgroup: Path) -> int | None:
    """Return what a cgroup still allows, or None where it has no limit."""
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
