"""Energy is read right from whatever a machine has, on trees of files such as kernels show."""

import sys
import time
from pathlib import Path
from threading import Event, Thread
from types import ModuleType, SimpleNamespace

import pytest
import torch

from protege.objectives.latency.device.meters import Counter, NoMeter, Sampled, energy, meter

RANGE_UJ = 262_143_328_850


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name("being-written")  # whoever reads meanwhile sees the one or the other
    scratch.write_text(f"{content}\n")
    scratch.replace(path)


def zone(sysfs: Path, number: str, name: str, energy_uj: int = 0) -> Path:
    place = sysfs / "class" / "powercap" / f"intel-rapl:{number}"
    write(place / "name", name)
    write(place / "max_energy_range_uj", RANGE_UJ)
    write(place / "energy_uj", energy_uj)
    return place / "energy_uj"


class Machine:
    """A processor of so many watts, and a clock that calls and rests move on."""

    def __init__(self, sysfs: Path, start_uj: int = 0) -> None:
        self.counter = zone(sysfs, "0", "package-0", start_uj)
        self.uj, self.now_s = start_uj, 0.0

    def spend(self, seconds: float, watts: float) -> None:
        self.now_s += seconds
        self.uj = (self.uj + round(watts * seconds * 1e6)) % RANGE_UJ
        write(self.counter, self.uj)

    def call(self) -> None:
        self.spend(0.25, watts=10)

    def rest(self, seconds: float) -> None:
        self.spend(seconds, watts=4)

    def clock(self) -> float:
        return self.now_s


@pytest.mark.parametrize("before_the_end_uj", [10**12, 37_000_000, 1_000_000])
def test_windows_tell_calls_from_rest_also_where_the_counter_starts_again(
    tmp_path: Path, before_the_end_uj: int
) -> None:
    machine = Machine(tmp_path, max(0, RANGE_UJ - before_the_end_uj))
    question = {"window_s": 5, "windows": 3, "sysfs": str(tmp_path)}
    found = energy(machine.call, "cpu", question, machine.clock, machine.rest)
    assert found["meter"] == "RAPL: package-0"
    assert found["windows"] == [[pytest.approx(50_000), 5, 20]] * 3
    assert [window[:2] for window in found["idle"]] == [[pytest.approx(20_000), 5]] * 2


def test_a_counter_that_runs_beside_is_read_on_the_clock_on_the_wall(tmp_path: Path) -> None:
    counter, done = zone(tmp_path, "0", "package-0"), Event()
    start_s = time.perf_counter()

    def run() -> None:
        while not done.wait(0.002):
            write(counter, round((time.perf_counter() - start_s) * 3e6))  # 3 W

    thread = Thread(target=run)
    thread.start()
    try:
        question = {"window_s": 0.2, "windows": 2, "sysfs": str(tmp_path)}
        found = energy(lambda: time.sleep(0.01), "cpu", question)
    finally:
        done.set()
        thread.join()
    for mj, seconds, _ in [*found["windows"], *found["idle"]]:
        assert mj / seconds == pytest.approx(3000, rel=0.2)


def test_packages_and_memory_are_added_and_no_part_of_them_twice(tmp_path: Path) -> None:
    files = [
        zone(tmp_path, number, name)
        for number, name in {
            "0": "package-0",
            "0:0": "core",
            "0:1": "dram",
            "1": "package-1",
            "2": "psys",
        }.items()
    ]
    found = meter("cpu", str(tmp_path))
    for power, file in enumerate(files):
        write(file, 10**power * 1000)
    assert found.name == "RAPL: package-0, dram, package-1"
    assert found.mj() == pytest.approx(1 + 100 + 1000)


def test_a_counter_nobody_but_root_may_read_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "0", "package-0")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(NoMeter, match=r"only root may read \(sudo chmod a\+r .*energy_uj\)"):
        meter("cpu", str(tmp_path))


@pytest.mark.parametrize(
    ("device", "missing"),
    [
        ("cpu", r"^no RAPL \(.*intel-rapl:\*\), no Jetson sensors \(.*ina3221\*\)$"),
        ("cuda", r"^no NVIDIA GPU \(.+\), no Jetson sensors \(.*ina3221\*\)$"),
    ],
)
def test_what_was_looked_for_is_told_where_there_is_nothing(
    tmp_path: Path, device: str, missing: str
) -> None:
    with pytest.raises(NoMeter, match=missing):
        meter(device, str(tmp_path))


def rail(sysfs: Path, number: int, name: str, millivolts: int, milliamperes: int) -> None:
    place = sysfs / "bus" / "i2c" / "drivers" / "ina3221" / "1-0040" / "hwmon" / "hwmon3"
    write(place / f"in{number}_label", name)
    write(place / f"in{number}_input", millivolts)
    write(place / f"curr{number}_input", milliamperes)


def test_a_jetson_is_read_where_its_power_comes_in(tmp_path: Path) -> None:
    rail(tmp_path, 1, "VDD_IN", 5000, 1200)
    rail(tmp_path, 2, "VDD_CPU_GPU_CV", 5000, 400)
    found = meter("cuda", str(tmp_path))
    assert isinstance(found, Sampled)
    assert found.name == "INA3221: VDD_IN"
    assert found._read() == pytest.approx(6000)


def test_a_jetson_that_tells_no_whole_is_the_sum_of_its_rails(tmp_path: Path) -> None:
    place = tmp_path / "bus" / "i2c" / "drivers" / "ina3221x"
    for number, name in enumerate(("GPU", "CPU", "SOC")):
        chip = place / "1-0040" / "iio:device0"
        write(chip / f"rail_name_{number}", name)
        write(chip / f"in_power{number}_input", 1000 * (number + 1))
    found = meter("cpu", str(tmp_path))
    assert isinstance(found, Sampled)
    assert (found.name, found._read()) == ("INA3221: CPU, GPU, SOC", 6000)


def test_power_between_two_looks_is_the_mean_of_them() -> None:
    looks = iter([(0.0, 1000.0), (2.0, 3000.0), (3.0, 3000.0)])
    now: dict[str, float] = {}

    def clock() -> float:
        now["s"], now["mw"] = next(looks)
        return now["s"]

    found = Sampled("a sensor", lambda: now["mw"], clock)
    assert found.mj() == 4000
    assert found.mj() == 7000


def test_a_sensor_of_power_is_looked_at_throughout_a_window(tmp_path: Path) -> None:
    rail(tmp_path, 1, "VDD_IN", 5000, 200)
    question = {"window_s": 0.3, "windows": 1, "sysfs": str(tmp_path)}
    turn = iter([1000, 200, 200])

    def call() -> None:
        # power is high in the middle of the window alone: its ends would not tell
        time.sleep(0.1)
        rail(tmp_path, 1, "VDD_IN", 5000, next(turn, 200))

    ((mj, seconds, _),) = energy(call, "cpu", question)["windows"]
    assert 1100 < mj / seconds < 5000


def test_a_graphics_card_is_read_by_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    card, module = SimpleNamespace(mj=7_000_000), ModuleType("pynvml")
    vars(module).update(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-4711": card}.__getitem__,
        nvmlDeviceGetName=lambda _: "a card",
        nvmlDeviceGetTotalEnergyConsumption=lambda one: one.mj,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    uuids = {1: SimpleNamespace(uuid="4711")}
    monkeypatch.setattr(torch.cuda, "get_device_properties", uuids.__getitem__)
    found = meter("cuda")
    card.mj += 250
    assert (found.name, found.mj()) == ("a card", 250)


def test_a_counter_starts_at_nought_and_may_start_again() -> None:
    values = iter([[90.0], [95.0], [3.0]])
    found = Counter("a counter", values.__next__, [100.0])
    assert found.mj() == 5
    assert found.mj() == 13
