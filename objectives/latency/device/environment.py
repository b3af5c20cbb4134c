"""Read the machine state that speed depends on: temperatures, clocks, throttling."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

_NOW = 0xF
"""The bits of a Raspberry Pi's throttling state for now; the others are since boot."""

_SLOWED = {
    "hardware slowdown",
    "software thermal slowdown",
    "hardware thermal slowdown",
    "hardware power brake",
}
"""Slowdowns of a GPU that is hot or short of power; a power cap is a setting and not listed."""


def snapshot(cpus: Path = Path("/sys/devices/system/cpu")) -> dict[str, Any]:
    """Return temperatures, clocks, governors, throttle counts and load, as far as available."""
    throttled = sorted(cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    counts = {f"{path.parent.parent.name}:{path.name}": _text(path) for path in throttled}
    found: dict[str, Any] = {
        "temperatures_c": _temperatures(),
        "mhz": _megahertz(cpus, "scaling_cur_freq"),
        "max_mhz": _megahertz(cpus, "scaling_max_freq"),
        "governors": sorted(set(_texts(cpus, "scaling_governor"))),
        "throttle_counts": {name: int(text) for name, text in counts.items() if text.isdigit()},
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }
    state = _pi_state()
    if state is not None:
        found["pi_throttled"] = state
    return {name: value for name, value in found.items() if value not in ({}, [])}


def throttled(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return why the machine was throttled between two snapshots; empty if it was not."""
    earlier, later = before.get("throttle_counts", {}), after.get("throttle_counts", {})
    risen = [name for name, count in later.items() if count > earlier.get(name, count)]
    if risen:
        return f"throttled during the measurement ({', '.join(sorted(risen))})"
    if int(after.get("pi_throttled", 0)) & _NOW:
        return "throttled or under-voltage now (vcgencmd get_throttled)"
    slowed = _SLOWED & set(after.get("gpu", {}).get("slowed_by", []))
    if slowed:
        return f"the GPU was throttled: {', '.join(sorted(slowed))}"
    if "max_mhz" in before and "max_mhz" in after and after["max_mhz"] < before["max_mhz"]:
        return f"its maximum clock fell from {before['max_mhz']:g} to {after['max_mhz']:g} MHz"
    return ""


def _temperatures() -> dict[str, float]:
    found = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        name, value = _text(zone / "type"), _text(zone / "temp")
        if value.lstrip("-").isdigit():
            found[f"{zone.name}:{name}"] = int(value) / 1000
    return found


def _megahertz(cpus: Path, name: str) -> Any:
    """Return the median over cores in MHz; an empty list if the kernel does not report it."""
    values = sorted(int(text) for text in _texts(cpus, name))
    return values[len(values) // 2] / 1000 if values else []


def _pi_state() -> int | None:
    with suppress(OSError, ValueError, subprocess.SubprocessError):  # mostly, no such command
        said = subprocess.check_output(
            ["vcgencmd", "get_throttled"], stderr=subprocess.DEVNULL, timeout=5
        )
        return int(said.decode().strip().partition("=")[2], 16)
    return None


def _texts(cpus: Path, name: str) -> list[str]:
    return [text for text in map(_text, sorted(cpus.glob(f"cpu[0-9]*/cpufreq/{name}"))) if text]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
