"""Distribute second moments over passes so that they fit into memory."""

import math
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from protege.spaces.files.memory import available_bytes, free_disk_bytes

GRAM_BYTES = 2 * 2**30
"""Minimum memory for the second moments of one pass; a quarter of the free memory if larger.

SmolLM2-135M needs 0.4 GB in all, the feed-forward networks of a 1.1B Llama 2.8 GB.
"""

RANKING_BYTES = 48
"""Bytes of working memory for each pair of units in `removal_ranks`, which computes in fp64."""

DISK_SHARE = 3
"""Divisor of the free disk space: one share for scratch, one for the cache, one stays free."""

Shapes = Mapping[str, tuple[int, int]]
"""Layers and units of each site, by name, such as ``decoder.ffn``."""


@dataclass(frozen=True)
class Blocks:
    """The plan of which pass collects which second moments.

    Attributes:
        passes: For each pass, the layers of each site whose second moments it collects. The first
            pass also collects everything that takes little memory.
        on_disk: Whether moments are memory-mapped files because they do not fit into memory.
        left_out: Sites whose moments fit neither into memory nor on disk.
        bytes: Memory for the moments of the largest pass.
        disk_bytes: Disk space for the moments.
    """

    passes: tuple[Mapping[str, Collection[int]], ...] = ({},)
    on_disk: bool = False
    left_out: tuple[str, ...] = ()
    bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Room:
    """Limits of memory and disk for second moments.

    Attributes:
        memory: Bytes of memory in one pass.
        free: Bytes of free memory for ranking one layer.
        disk: Bytes of disk space.
        folder: Folder of scratch files.
    """

    memory: int = GRAM_BYTES
    free: float = math.inf
    disk: float = math.inf
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    @classmethod
    def here(cls, folder: Path | None = None) -> "Room":
        """Return this machine's limits; scratch files go to its temporary folder by default."""
        folder = Path(tempfile.gettempdir()) if folder is None else folder
        free = available_bytes()
        memory = GRAM_BYTES if free is None else max(GRAM_BYTES, free // 4)
        disk = free_disk_bytes(folder) // DISK_SHARE
        return cls(memory, math.inf if free is None else free, disk, folder)


def blocks(shapes: Shapes, room: Room) -> Blocks:
    """Distribute the second moments of sites over as few passes as memory allows.

    If all fit into the memory of one pass, nothing goes to disk.
    """
    shapes, left_out = _affordable(shapes, room)
    items = [
        (4 * units**2, name, layer)
        for name, (layers, units) in sorted(shapes.items(), key=lambda one: one[1][1])
        for layer in range(layers)
    ]
    passes: list[dict[str, list[int]]] = [{}]
    used, most = 0, 0
    for size, name, layer in items:
        if used + size > room.memory and used:
            passes.append({})
            used = 0
        passes[-1].setdefault(name, []).append(layer)
        used += size
        most = max(most, used)
    on_disk = len(passes) > 1
    disk = sum(size for size, _, _ in items) if on_disk else 0
    return Blocks(tuple(passes), on_disk, left_out, most, disk)


def _affordable(shapes: Shapes, room: Room) -> tuple[Shapes, tuple[str, ...]]:
    """Split sites into those that fit into the limits and the names of the others."""
    kept: dict[str, tuple[int, int]] = {}
    total = 0
    for name, (layers, units) in sorted(shapes.items(), key=lambda one: one[1][1]):
        size = 4 * layers * units**2
        ranked = RANKING_BYTES * units**2 <= room.free or not name.endswith(".ffn")
        one_fits = 4 * units**2 <= room.memory
        all_fit = total + size <= max(room.memory, room.disk)
        if ranked and one_fits and all_fit:
            kept[name] = (layers, units)
            total += size
    return kept, tuple(name for name in shapes if name not in kept)
