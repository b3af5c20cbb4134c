import json
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.latency.device.environment import snapshot, throttled


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_snapshot_reads_what_the_kernel_tells(tmp_path: Path) -> None:
    cores = {
        "cpu0/cpufreq/scaling_cur_freq": "1200000\n",
        "cpu1/cpufreq/scaling_cur_freq": "1800000\n",
        "cpu0/cpufreq/scaling_governor": "powersave\n",
        "cpu1/cpufreq/scaling_governor": "powersave\n",
        "cpu0/thermal_throttle/core_throttle_count": "7\n",
    }
    found = snapshot(written(tmp_path, cores))
    assert found["mhz"] == 1800.0
    assert found["governors"] == ["powersave"]
    assert found["throttle_counts"] == {"cpu0:core_throttle_count": 7}
    assert "max_mhz" not in found
    assert json.loads(json.dumps(found)) == found


def test_a_snapshot_of_this_machine_is_json() -> None:
    found = snapshot()
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({}, {}, ""),
        ({"throttle_counts": {"a": 1}}, {"throttle_counts": {"a": 1}}, ""),
        (
            {"throttle_counts": {"a": 1}},
            {"throttle_counts": {"a": 3}},
            "during the measurement (a)",
        ),
        ({}, {"throttle_counts": {"a": 3}}, ""),  # it may have been so since it was switched on
        ({}, {"pi_throttled": 0x50000}, ""),  # since it was switched on, not now
        ({}, {"pi_throttled": 0x50005}, "under-voltage now"),
        ({"max_mhz": 1800}, {"max_mhz": 1500}, "fell from 1800 to 1500 MHz"),
        ({"max_mhz": 1500}, {"max_mhz": 1800}, ""),
        ({}, {"gpu": {"slowed_by": ["power cap"]}}, ""),
        ({}, {"gpu": {"slowed_by": ["hardware slowdown"]}}, "GPU was throttled: hardware slowdown"),
    ],
)
def test_throttling_is_told_by_what_changed(
    before: dict[str, Any], after: dict[str, Any], why: str
) -> None:
    found = throttled(before, after)
    assert why in found
    assert bool(found) is bool(why)
