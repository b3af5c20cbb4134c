"""Read the machine state that speed depends on: temperatures, clocks, throttling."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

_CPU = Path("/sys/devices/system/cpu")
_NOW = 0xF
"""The bits of a Raspberry Pi's throttling state for now; the others are since boot."""

_SLOWED = {
    "hardware slowdown",
    "software thermal slowdown",
    "hardware thermal slowdown",
    "hardware power brake",
}
"""Slowdowns of a GPU that is hot or short of power; a power cap is a setting and not listed."""


def snapshot() -> dict[str, Any]:
    """Return temperatures, clocks, governors, throttle counts and load, as far as available."""
    found: dict[str, Any] = {
        "temperatures_c": _temperatures(),
        "mhz": _megahertz("scaling_cur_freq"),
        "max_mhz": _megahertz("scaling_max_freq"),
        "governors": sorted(set(_texts(_CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")))),
        "throttle_counts": _throttle_counts(),
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


def _megahertz(name: str) -> Any:
    """Return the median over cores in MHz; an empty list if the kernel does not report it."""
    values = sorted(int(text) for text in _texts(_CPU.glob(f"cpu[0-9]*/cpufreq/{name}")))
    return values[len(values) // 2] / 1000 if values else []


def _throttle_counts() -> dict[str, int]:
    found = {}
    for path in sorted(_CPU.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")):
        text = _text(path)
        if text.isdigit():
            found[f"{path.parent.parent.name}:{path.name}"] = int(text)
    return found


def _pi_state() -> int | None:
    if shutil.which("vcgencmd") is None:
        return None
    try:
        said = subprocess.run(
            ["vcgencmd", "get_throttled"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout
        return int(said.strip().partition("=")[2], 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _texts(paths: Any) -> list[str]:
    return [text for text in map(_text, sorted(paths)) if text]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
