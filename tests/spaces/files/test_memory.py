"""The memory that is left is the least of what the machine and the cgroups leave."""

from pathlib import Path

import pytest

from protege.spaces.files.memory import (
    available_bytes,
    free_disk_bytes,
    gigabytes,
    resident_bytes,
    unmapped_bytes,
)
from protege.spaces.remaining import Remaining, duration


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 10 GB free, whose cgroups are in a folder of the test's own."""
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    10000000 kB\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def cgroup(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def free(machine: Path, places: str) -> int | None:
    """The memory that is left to a process in the cgroups that ``/proc/self/cgroup`` names."""
    (machine / "self" / "cgroup").write_text(places)
    return available_bytes(machine, machine / "cgroup")


def test_without_a_limit_it_is_what_the_machine_has(machine: Path) -> None:
    cgroup(machine / "cgroup" / "job", memory__max="max\n", memory__current="5\n")
    assert free(machine, "0::/job\n") == 10_000_000 * 1024


def test_the_tightest_of_nested_limits_counts(machine: Path) -> None:
    stat = "anon 7\ninactive_file 100\nactive_file 50\n"
    cgroup(machine / "cgroup", memory__max="max")
    cgroup(machine / "cgroup/a", memory__max="4000", memory__current="1500", memory__stat=stat)
    cgroup(machine / "cgroup/a/b", memory__max="9000", memory__current="1500")
    assert free(machine, "0::/a/b\n") == 4000 - 1500 + 150


def test_the_first_version_of_cgroups_is_read_too(machine: Path) -> None:
    cgroup(
        machine / "cgroup/memory/slurm",
        memory__limit_in_bytes="3000",
        memory__usage_in_bytes="1000",
        memory__stat="total_inactive_file 20\ninactive_file 9\n",
    )
    none = str(0x7FFFFFFFFFFFF000)
    cgroup(
        machine / "cgroup/memory",
        memory__limit_in_bytes=none,
        memory__usage_in_bytes="1000",
    )
    assert free(machine, "5:cpu:/slurm\n4:memory:/slurm\n") == 2020


def test_in_a_container_the_root_of_its_cgroups_is_its_own(machine: Path) -> None:
    cgroup(machine / "cgroup", memory__max="2048", memory__current="48")
    assert free(machine, "0::/docker/on/the/host\n") == 2000


def test_nothing_is_known_where_the_system_hides_it(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert free(machine, "") is None
    assert available_bytes(machine / "nowhere", machine / "cgroup") is None
    assert resident_bytes(machine / "nowhere") == 0


def test_this_process_is_measured(tmp_path: Path) -> None:
    assert resident_bytes() > unmapped_bytes() > 1e7
    assert free_disk_bytes(tmp_path / "not" / "there") > 0


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_told_in_one_unit(seconds: float, told: str) -> None:
    assert duration(seconds) == told
    assert gigabytes(2.79e9) == "2.8 GB"


def test_what_is_left_follows_from_what_is_done() -> None:
    now, told = [100.0], list[str]()
    work = Remaining(told.append, "ranking units by taylor", clock=lambda: now[0])
    work.passing(0.001)  # a moment after it began
    now[0] = 160.0
    work.passing(0.25)
    work.passing(0.26)  # a moment after the last
    now[0] = 340.0
    work.at(1.0)
    assert told == ["ranking units by taylor 25%, about 3 min left", "ranking units by taylor 100%"]
