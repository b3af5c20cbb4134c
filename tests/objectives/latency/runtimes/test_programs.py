import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from protege.objectives.latency import SavedModel, Workload
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.runtimes.programs import Programs, Unexportable
from protege.objectives.latency.runtimes.runtimes import RUNTIMES, Runtime
from protege.spaces.errors import BadInput, DiskFull
from protege.spaces.models.blueprint import Blueprint

Encoder = Callable[[int], Blueprint]

INTERPRETER = f"""#!{sys.executable} -IS
import json, os, pathlib, sys, time
if "-c" in sys.argv:
    print(json.dumps(dict.fromkeys(sys.argv[4:], VERSION)))
    sys.exit()
job = json.load(sys.stdin)
folder = pathlib.Path(job["folder"])
with pathlib.Path(__file__).with_suffix(".log").open("a") as log:
    print(job["model"]["model_class"], file=log)
(folder / "weights").write_bytes(b"0" * 1000)
ACT
(folder / "program.json").write_text("{{}}")
"""
"""Stands for an interpreter that exports: it writes something, and what it was asked for."""


def exporting_runtime(folder: Path, act: str = "", version: str = "1") -> Runtime:
    """A runtime whose interpreter does that before a program is whole."""
    folder.mkdir(exist_ok=True)
    python = folder / "python"
    python.write_text(INTERPRETER.replace("ACT", act).replace("VERSION", repr(version)))
    python.chmod(0o755)
    return replace(RUNTIMES["onnxruntime"], python=str(python))


def exports(runtime: Runtime) -> int:
    log = Path(runtime.python).with_suffix(".log")
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_nothing_is_exported_twice(tmp_path: Path, encoder: Encoder) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin"), Programs(tmp_path / "programs")

    def path_of(layers: int, workload: Workload) -> Path:
        return programs.of(encoder(layers), workload, runtime, "float32")

    tokens = Workload(1, 8, new_tokens=4)
    first = path_of(1, tokens)
    assert (first / MANIFEST).exists()
    assert path_of(1, tokens) == path_of(1, Workload(1, 8, new_tokens=2)) == first
    assert exports(runtime) == 1
    newer = exporting_runtime(tmp_path / "newer", version="2")
    others = [
        path_of(2, tokens),
        path_of(1, Workload(1, 8)),
        path_of(1, Workload(2, 8, new_tokens=4)),
        programs.of(encoder(1), tokens, newer, "float32"),
        programs.of(encoder(1), tokens, runtime, "int8"),
    ]
    assert len({first, *others}) == 6


def test_who_comes_second_waits_for_the_first(tmp_path: Path, encoder: Encoder) -> None:
    runtime = exporting_runtime(tmp_path / "bin", "time.sleep(0.3)")
    programs = Programs(tmp_path / "programs")

    def path_of(_number: int) -> Path:
        return programs.of(encoder(1), Workload(1, 8), runtime, "float32")

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(path_of, range(4)))) == 1
    assert exports(runtime) == 1


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        ("print('no op for it', file=sys.stderr); sys.exit(1)", "no op for it$"),
        ("os.kill(os.getpid(), 9)", "exit code -9$"),
    ],
)
def test_what_cannot_be_exported_is_told_and_leaves_nothing(
    act: str, cause: str, tmp_path: Path, encoder: Encoder
) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin", act), Programs(tmp_path / "programs")
    message = rf"^BertModel could not be exported for onnxruntime in float32: {cause}"
    with pytest.raises(Unexportable, match=message):
        programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    assert not [path for path in programs.folder.iterdir() if path.is_dir()]


def test_an_export_that_hangs_is_ended(tmp_path: Path, encoder: Encoder) -> None:
    runtime = exporting_runtime(tmp_path / "bin", "time.sleep(60)")
    programs = Programs(tmp_path / "programs", export_s=0.2)
    with pytest.raises(Unexportable, match=r"not done after 0\.2 s$"):
        programs.of(encoder(1), Workload(1, 8), runtime, "float32")


def test_a_full_disk_is_told_as_one(tmp_path: Path, encoder: Encoder) -> None:
    act = "print('OSError: No space left on device', file=sys.stderr); sys.exit(1)"
    runtime = exporting_runtime(tmp_path / "bin", act)
    with pytest.raises(DiskFull, match="make room, then go on"):
        Programs(tmp_path / "programs").of(encoder(1), Workload(1, 8), runtime, "float32")


def test_what_is_left_half_written_is_never_used(tmp_path: Path, encoder: Encoder) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin"), Programs(tmp_path / "programs")
    path = programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    (path / MANIFEST).unlink()
    (path / "left").write_text("half")
    assert programs.of(encoder(1), Workload(1, 8), runtime, "float32") == path
    assert {file.name for file in path.iterdir()} == {"weights", MANIFEST}
    assert exports(runtime) == 2


def test_what_was_used_least_recently_makes_room(tmp_path: Path, encoder: Encoder) -> None:
    runtime = exporting_runtime(tmp_path / "bin")
    programs = Programs(tmp_path / "programs", most_bytes=2500)

    def path_of(layers: int) -> Path:
        return programs.of(encoder(layers), Workload(1, 8), runtime, "float32")

    first, second = path_of(1), path_of(2)
    for path, hours in ((first, 2), (second, 1)):
        os.utime(path, (time.time() - hours * 3600,) * 2)
    assert path_of(1) == first  # used now
    third = path_of(3)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]


def test_what_a_dead_process_left_makes_room_and_what_is_at_work_does_not(
    tmp_path: Path, encoder: Encoder
) -> None:
    programs = Programs(tmp_path / "programs")
    dead, alive = (programs.folder / f".{number:016d}.{number}" for number in (1, 2))
    for path in (dead, alive):
        path.mkdir(parents=True)
    os.utime(dead, (time.time() - 3 * programs.export_s,) * 2)
    programs.of(encoder(1), Workload(1, 8), exporting_runtime(tmp_path / "bin"), "float32")
    assert not dead.exists()
    assert alive.exists()


def test_a_checkpoint_is_known_by_its_weights_wherever_it_is(
    tmp_path: Path, encoder: Encoder
) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin"), Programs(tmp_path / "programs")
    model = encoder(1).build()

    def path_of(name: str) -> Path:
        model.save_pretrained(tmp_path / name)
        checkpoint = SavedModel.at(tmp_path / name)
        return programs.of(checkpoint, Workload(1, 8), runtime, "float32")

    first = path_of("here")
    assert path_of("there") == first
    next(model.parameters()).data += 1
    assert path_of("here") != first


@pytest.mark.parametrize("bits", [0o777, 0o775, 0o1777])
def test_programs_that_others_could_plant_are_not_run(
    tmp_path: Path, encoder: Encoder, bits: int
) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin"), Programs(tmp_path / "programs")
    path = programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    programs.folder.chmod(bits)
    with pytest.raises(BadInput, match=rf"programs has mode {bits:o}, so that other users can"):
        programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    programs.folder.chmod(0o755)  # as an earlier version made it
    assert programs.of(encoder(1), Workload(1, 8), runtime, "float32") == path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_programs_of_another_user_are_not_run(tmp_path: Path, encoder: Encoder) -> None:
    runtime, programs = exporting_runtime(tmp_path / "bin"), Programs(tmp_path / "programs")
    programs.folder.mkdir()
    os.chown(programs.folder, 65534, 65534)
    with pytest.raises(BadInput, match=r"programs belongs to user \w+, .* or choose another"):
        programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    assert exports(runtime) == 0


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_an_exporter_that_a_scheduler_ended_is_started_again(
    tmp_path: Path, encoder: Encoder, number: str
) -> None:
    once = f"""
import signal
log = pathlib.Path(__file__).with_suffix(".log").read_text()
if log.count("\\n") == 1:
    signal.signal(signal.{number}, signal.SIG_DFL)
    os.kill(os.getpid(), signal.{number})
"""
    runtime, programs = exporting_runtime(tmp_path / "bin", once), Programs(tmp_path / "programs")
    path = programs.of(encoder(1), Workload(1, 8), runtime, "float32")
    assert (path / MANIFEST).exists()
    assert exports(runtime) == 2
