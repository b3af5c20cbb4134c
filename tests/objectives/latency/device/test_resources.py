"""What is counted of a process: what it takes, and not what was there or what libraries map."""

import json
import mmap
import sys
from pathlib import Path

import pytest
import torch

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.device.resources import (
    CALLS,
    Growth,
    footprint,
    import_runtime,
    program_bytes,
    resident_bytes,
)

MB = 10**6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere peaks only ever grow")


def test_memory_that_is_let_go_of_still_is_the_peak_until_the_next_one_begins() -> None:
    growth = Growth()
    held = torch.ones(10 * MB)
    del held
    assert growth.peak_mb() == pytest.approx(40, abs=2)
    assert growth.peak_mb() < 1


def test_memory_that_is_never_written_is_not_taken() -> None:
    growth = Growth()
    promised = torch.empty(25 * MB)
    assert growth.peak_mb() < 1
    promised.fill_(1)
    assert growth.peak_mb() == pytest.approx(100, abs=2)


def test_a_mapped_file_counts_whole_however_little_of_it_was_read(tmp_path: Path) -> None:
    growth = Growth()
    path = tmp_path / "weights"
    path.write_bytes(bytes(20 * MB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[0] == 0
        some = growth.peak_mb()
        assert sum(mapped[::4096]) == 0
        assert growth.peak_mb() == pytest.approx(some, abs=1)
        assert some == pytest.approx(20, abs=1)


def test_a_library_that_is_mapped_does_not_count(tmp_path: Path) -> None:
    growth = Growth()
    path = tmp_path / "libsomething.so.1"
    path.write_bytes(bytes(20 * MB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[::4096]) == 0
        assert growth.peak_mb() < 1


def test_loading_and_running_have_peaks_of_their_own() -> None:
    calls = []

    def load() -> object:
        kept, _passing = torch.ones(5 * MB), torch.ones(10 * MB)

        def call() -> float:
            calls.append(1)
            return float((kept + 1).sum())

        return call

    peaks = footprint(load)  # type: ignore[arg-type]
    assert peaks["load_peak_mb"] == pytest.approx(60, abs=3)
    assert peaks["run_peak_mb"] == pytest.approx(40, abs=3)
    assert len(calls) == CALLS


def test_another_process_is_read_by_its_number() -> None:
    assert resident_bytes("self") > 10 * MB
    assert resident_bytes("1") > 0


def test_what_a_program_needs_is_imported_and_its_example_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = tmp_path / "prefill"
    stage.mkdir()
    (tmp_path / MANIFEST).write_text(json.dumps({"runtime": "onnxruntime", "stages": {}}))
    (stage / "inputs.npz").write_bytes(bytes(500))
    (stage / "model.onnx").write_bytes(bytes(300))
    (stage / "model.onnx.data").write_bytes(bytes(4000))
    assert program_bytes(str(tmp_path)) == 4300
    pytest.importorskip("onnxruntime")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    import_runtime(str(tmp_path))
    assert "onnxruntime" in sys.modules
