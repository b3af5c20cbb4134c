"""What is counted of a process: what it takes, and not what was there or what libraries map.

Peaks are read in fresh processes, as they are for models: what an earlier test let go of may still
be its process's, or be handed out again.
"""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.device.resources import (
    CALLS,
    import_runtime,
    program_bytes,
    resident_bytes,
)

MB = 10**6

_BEGIN = """
import json, mmap, sys
from protege.objectives.latency.device.resources import Growth, footprint
MB = 10**6

def told(*figures):
    print(json.dumps(figures))
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere peaks only ever grow")


def told(body: str, *more: str) -> list[float]:
    """What a fresh process tells, with nothing of protege in it but what goes to a device."""
    command = [sys.executable, "-c", _BEGIN + dedent(body), *more]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(figure) for figure in json.loads(done.stdout)]


@linux
def test_memory_that_is_let_go_of_still_is_the_peak_until_the_next_one_begins() -> None:
    first, second = told("""
        growth = Growth()
        held = b"x" * (40 * MB)
        del held
        told(growth.peak_mb(), growth.peak_mb())
    """)
    assert first == pytest.approx(40, abs=2)
    assert second < 1


@linux
def test_memory_that_is_never_written_is_not_taken() -> None:
    before, after = told("""
        growth = Growth()
        promised = mmap.mmap(-1, 100 * MB)
        before = growth.peak_mb()
        promised.write(b"x" * MB * 100)
        told(before, growth.peak_mb())
    """)
    assert before < 1
    assert after == pytest.approx(200, abs=4)  # what was written, and a copy to write


MAPPED = """
    growth = Growth()
    with open(sys.argv[1], "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped[0]
        some = growth.peak_mb()
        sum(mapped[at] for at in range(0, len(mapped), 4096))
        told(some, growth.peak_mb())
"""


@linux
def test_a_mapped_file_counts_whole_however_little_of_it_was_read(open_folder: Path) -> None:
    (open_folder / "weights").write_bytes(bytes(20 * MB))  # on a disk: in memory it is shared
    some, every = told(MAPPED, str(open_folder / "weights"))
    assert some == pytest.approx(20, abs=1)
    assert every == pytest.approx(some, abs=1)


@linux
def test_a_library_that_is_mapped_does_not_count(open_folder: Path) -> None:
    (open_folder / "libsomething.so.1").write_bytes(bytes(20 * MB))
    assert max(told(MAPPED, str(open_folder / "libsomething.so.1"))) < 1


@linux
def test_loading_and_running_have_peaks_of_their_own() -> None:
    load_mb, run_mb, calls = told("""
        calls = []

        def load():
            kept, passing = b"x" * (20 * MB), b"x" * (40 * MB)

            def call():
                calls.append(kept + b"x" * (10 * MB))
                calls[-1] = None

            return call

        peaks = footprint(load)
        told(peaks["load_peak_mb"], peaks["run_peak_mb"], len(calls))
    """)
    assert load_mb == pytest.approx(60, abs=3)
    assert run_mb == pytest.approx(60, abs=3)  # what is kept, ten more, and all of it once again
    assert calls == CALLS


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
