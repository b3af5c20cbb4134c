"""The memory that is left is the least of what the machine and the cgroups leave."""

from pathlib import Path

import pytest

from protege.spaces.files import memory
from protege.spaces.files.memory import (
    available_bytes,
    free_disk_bytes,
    gigabytes,
    resident_bytes,
)
from protege.spaces.remaining import Remaining, duration


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 10 GB free, whose cgroups are in a folder of the test's own."""
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    10000000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def cgroup(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def places(monkeypatch: pytest.MonkeyPatch, machine: Path, text: str) -> None:
    """Have the process be in the cgroups that the text of ``/proc/self/cgroup`` names."""
    (machine / "own").write_text(text)
    found = memory._own_cgroups(machine / "own")
    monkeypatch.setattr(memory, "_own_cgroups", lambda: found)


def test_without_a_limit_it_is_what_the_machine_has(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup(machine / "cgroup" / "job", memory__max="max\n", memory__current="5\n")
    places(monkeypatch, machine, "0::/job\n")
    assert available_bytes() == 10_000_000 * 1024


def test_the_tightest_of_nested_limits_counts(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = "anon 7\ninactive_file 100\nactive_file 50\n"
    cgroup(machine / "cgroup", memory__max="max")
    cgroup(machine / "cgroup/a", memory__max="4000", memory__current="1500", memory__stat=stat)
    cgroup(machine / "cgroup/a/b", memory__max="9000", memory__current="1500")
    places(monkeypatch, machine, "0::/a/b\n")
    assert available_bytes() == 4000 - 1500 + 150


def test_the_first_version_of_cgroups_is_read_too(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    places(monkeypatch, machine, "5:cpu:/slurm\n4:memory:/slurm\n")
    assert available_bytes() == 2020


def test_in_a_container_the_root_of_its_cgroups_is_its_own(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroup(machine / "cgroup", memory__max="2048", memory__current="48")
    places(monkeypatch, machine, "0::/docker/on/the/host\n")
    assert available_bytes() == 2000


def test_nothing_is_known_where_the_system_hides_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "meminfo").unlink()
    assert memory._own_cgroups(machine / "nowhere") == []
    places(monkeypatch, machine, "")
    assert available_bytes() is None
    assert resident_bytes(machine / "nowhere") == 0


def test_this_process_is_measured(tmp_path: Path) -> None:
    assert resident_bytes() > 1e7
    assert free_disk_bytes(tmp_path / "not" / "there") > 0


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_told_in_one_unit(seconds: float, told: str) -> None:
    assert duration(seconds) == told
    assert gigabytes(2.79e9) == "2.8 GB"


def test_what_is_left_follows_from_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [100.0], list[str]()
    monkeypatch.setattr("protege.spaces.remaining.time.monotonic", lambda: now[0])
    work = Remaining(told.append, "units by taylor")
    work.passing(0.001)  # a moment after it began
    now[0] = 160.0
    work.passing(0.25)
    work.passing(0.26)  # a moment after the last
    now[0] = 340.0
    work.at(1.0)
    assert told == ["units by taylor 25%, about 3 min left", "units by taylor 100%"]
