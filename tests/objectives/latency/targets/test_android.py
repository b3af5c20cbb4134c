import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from protege.objectives.latency import Plan, SavedModel, Unmeasured, Workload, compare
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Model
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import Runtime
from protege.objectives.latency.targets.android import CALLS, Android
from protege.objectives.latency.targets.target import Target
from protege.objectives.machine.precision import Precision
from protege.spaces.errors import BadInput, DiskFull, Unsupported
from protege.spaces.models.blueprint import Blueprint

Encoder = Callable[[int], Blueprint]
WORKLOAD = Workload(1, 8)

# Stands for adb and the phone: one folder is the phone's, its commands run in a shell of this
# machine, and every call is noted.
ADB = """#!/bin/sh
here="$(dirname "$0")"
echo "$*" >> "$here/calls"
[ -e "$here/trouble" ] && { cat "$here/trouble" >&2; exit 1; }
[ "$1" = -s ] && shift 2
export PHONE="$here/phone"
case "$1" in
shell) PATH="$here/phone/bin:$PATH" sh -c "$(echo "$2" | sed "s#/data/local#$here/phone#g")" ;;
push) cp "$2" "$(echo "$3" | sed "s#/data/local#$here/phone#")"
      [ -e "$here/full" ] && { echo "adb: error: failed to copy: No space left on device" >&2
                               exit 1; }
      [ -e "$here/spoilt" ] && for part in "$here"/phone/tmp/protege/*.part; do
        echo >> "$part"
      done
      true ;;
esac
"""
# A model's file says how many milliseconds a call of it takes; the first one takes 7 more.
EXECUTOR_RUNNER = """#!/bin/sh
for word in "$@"; do case "$word" in
  --model_path=*) file="${word#*=}" ;;
  --num_executions=*) count="${word#*=}" ;;
  --inputs=*) for one in $(echo "${word#*=}" | tr , ' '); do [ -s "$one" ] || exit 1; done ;;
esac; done
ms=$(cat "$file") || exit 1
[ "$ms" = broken ] && { echo "E 00:00:00 executor_runner.cpp:1] Loading failed" >&2; exit 134; }
total=$((ms * count + 7))
echo "I 00:00:00.1 executor_runner.cpp:1] Model executed successfully $count time(s) in" \
     "$total.000000 ms." >&2
"""
LLAMA_BENCH = """#!/bin/sh
echo 'load_backend: loaded CPU backend [cpu]' >&2
case " $* " in
*" -n 0 "*) ns='[5000000, 6000000, 90000000]' ;;
*" -d 8 "*) ns='[3000000, 4000000, 90000000]' ;;
esac
printf '[\\n  {"n_prompt": 8, "samples_ns": %s}\\n]\\n' "$ns"
"""
GETPROP = """#!/bin/sh
echo "value of $1"
"""
DUMPSYS = """#!/bin/sh
case "$1" in
battery) printf '  level: 80\\n  temperature: 312\\n' ;;
thermalservice)
  echo "Thermal Status: $(cat "$PHONE/status" 2> /dev/null || echo 0)"
  echo 'Temperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}' ;;
esac
"""


@dataclass(frozen=True)
class Exported(Programs):
    """In place of exports: files that say how long the stub is to take, by the model's layers."""

    content: str = ""

    def of(self, model: Model, workload: Workload, runtime: Runtime, precision: Precision) -> Path:
        assert isinstance(model, Blueprint)
        assert (runtime.name, precision) == ("executorch", "float32")
        layers = int(json.loads(model.config)["num_hidden_layers"])
        path = self.folder / str(layers)
        stages = {"prefill": 10 * layers} | ({"step": layers} if workload.new_tokens else {})
        for stage, ms in stages.items():
            (path / stage).mkdir(parents=True, exist_ok=True)
            (path / stage / "model.pte").write_text(self.content or str(ms))
            np.savez(path / stage / "inputs.npz", a=np.ones(8, np.int64), b=np.zeros(8, np.int64))
        manifest = {"stages": dict.fromkeys(stages, "model.pte")}
        (path / MANIFEST).write_text(json.dumps(manifest))
        return path


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stub, which is found first; its phone has both programs."""
    place = tmp_path / "adb-stub"
    for name, text in {
        "adb": ADB,
        "phone/bin/getprop": GETPROP,
        "phone/bin/dumpsys": DUMPSYS,
        "phone/tmp/executor_runner": EXECUTOR_RUNNER,
        "phone/tmp/llama-bench": LLAMA_BENCH,
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


@pytest.fixture
def target(tmp_path: Path) -> Android:
    """The phone, tried once; each test's has a serial of its own, as what it is is kept."""
    # nothing is exported here: an interpreter that says that it has ExecuTorch will do
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'{"executorch": "1.0", "protege": "1.0"}\'\n')
    python.chmod(0o755)
    programs = Exported(tmp_path / "programs")
    return Android(tmp_path.name, python=str(python), pauses_s=(), programs=programs)


def test_models_are_run_by_turns_and_their_figures_read(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    trace = target.trace([encoder(1), encoder(2)], WORKLOAD, brief)
    assert trace.cold_ms == (17.0, 27.0)
    assert {row[0].wall_ms for row in trace.rounds} == {10 + 7 / CALLS}
    assert {row[1].wall_ms for row in trace.rounds} == {20 + 7 / CALLS}
    calls = (adb / "calls").read_text().splitlines()
    runs = [call for call in calls if f"--num_executions={CALLS} " in call]
    order = [run.partition("model_path=")[2].partition(" ")[0] for run in runs]
    assert order[0] == order[3]  # they go first by turns
    assert order[1] == order[2] != order[0]
    assert all(f"-s {target.serial} shell" in run for run in runs)


def test_what_is_on_the_phone_is_not_pushed_again(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    for _ in range(2):
        target.trace([encoder(1), encoder(2)], WORKLOAD, brief)
    pushed = [line for line in (adb / "calls").read_text().splitlines() if " push " in line]
    assert len(pushed) == 4  # two programs, and the two inputs that they have in common
    suffixes = sorted(path.suffix for path in (adb / "phone/tmp/protege").iterdir())
    assert suffixes == [".bin", ".bin", ".pte", ".pte"]


def test_tokens_are_so_many_steps_behind_the_prompt(
    adb: Path, target: Android, decoder: Callable[[int], Blueprint], brief: Plan
) -> None:
    assert adb.exists()
    (sample, *_) = target.trace([decoder(2)], Workload(1, 8, 4), brief).samples
    assert sample.prefill_wall_ms == pytest.approx(20.7)
    assert sample.wall_ms == pytest.approx(20.7 + 4 * 2.7)


def test_the_phones_heat_is_noted_before_and_after(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    (adb / "phone/status").write_text("2")
    environment = target.trace([encoder(1)], WORKLOAD, brief).environment
    assert environment["before"] == environment["after"]
    assert environment["after"] == {
        "temperatures_c": {"CPU0": 41.5, "battery": 31.2},
        "throttle_counts": {"thermal status": 2},
        "battery_percent": 80,
    }


def test_the_description_tells_of_the_phone_and_of_the_program(adb: Path, target: Android) -> None:
    phone: Target = target
    description = phone.description()
    assert description["phone"] == "value of ro.product.model"
    assert description["versions"]["executorch"] == "1.0"
    assert description["binary"] == "/data/local/tmp/executor_runner"
    assert phone.label == f"executor_runner on phone {target.serial}, 1 thread"
    (adb / "phone/tmp/executor_runner").unlink()
    with pytest.raises(BadInput, match=r"has no program .*adb push executor_runner /data"):
        replace(target, serial="another").description()


def test_cores_are_kept_to_with_a_mask(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    kept = adb / "phone/bin/taskset"
    kept.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    kept.chmod(0o755)
    replace(target, cores=(4, 7), threads=2).trace([encoder(1)], WORKLOAD, brief)
    calls = (adb / "calls").read_text()
    assert "(taskset 90 /data/local/tmp/executor_runner --model_path=" in calls
    assert "--cpu_threads=2) 2>&1" in calls


def test_llama_bench_times_a_checkpoint_with_a_gguf_file(
    adb: Path, target: Android, tmp_path: Path, brief: Plan
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    model, workload = SavedModel("LlamaForCausalLM", str(folder)), Workload(1, 8, 2)
    bench = replace(target, binary="/data/local/tmp/llama-bench")
    with pytest.raises(Unmeasured, match="not LlamaForCausalLM with 0 of them at 1: convert it"):
        bench.trace([model], workload, brief)
    (folder / "model.gguf").write_text("weights")
    (only,) = compare([model], workload, bench, brief)
    assert only.latency_ms == 6 + 4
    assert only.parts_ms == {"prefill": 6, "per_token": 2}
    assert (adb / "calls").read_text().count(" push ") == 1


def test_a_program_that_prints_no_time_is_told(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    (adb / "phone/tmp/executor_runner").write_text("#!/bin/sh\n")
    with pytest.raises(Unmeasured, match=r"executor_runner printed no time; build it with logging"):
        target.trace([encoder(1)], WORKLOAD, brief)


def test_a_model_that_does_not_run_costs_its_trial(
    adb: Path, target: Android, encoder: Encoder, brief: Plan, tmp_path: Path
) -> None:
    assert adb.exists()
    broken = replace(target, programs=Exported(tmp_path / "broken", content="broken"))
    with pytest.raises(Unmeasured, match=r"^BertModel could not be timed .*: E .*Loading failed$"):
        broken.trace([encoder(1)], WORKLOAD, brief)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("error: device unauthorized.", "allow USB debugging"),
        ("adb: no devices/emulators found", "connect one"),
        ("error: more than one device/emulator", "say which: android:SERIAL"),
    ],
)
def test_a_phone_that_must_be_seen_to_is_told_at_once(
    adb: Path, target: Android, trouble: str, says: str
) -> None:
    (adb / "trouble").write_text(trouble)
    with pytest.raises(BadInput, match=rf"^adb does not reach phone \S+ \({trouble}\): .*{says}"):
        replace(target, pauses_s=(60.0,)).description()


def test_a_phone_that_is_away_is_tried_again(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    (adb / "trouble").write_text("error: device offline")
    with pytest.raises(Unmeasured, match=r"in 3 tries: error: device offline"):
        replace(target, pauses_s=(0.0, 0.0)).trace([encoder(1)], WORKLOAD, brief)
    with pytest.raises(BadInput, match=r"does not answer \(error: device offline\): adb devices"):
        target.description()


def test_what_arrives_otherwise_or_not_at_all_is_not_kept(
    adb: Path, target: Android, encoder: Encoder, brief: Plan
) -> None:
    (adb / "spoilt").touch()
    with pytest.raises(BadInput, match=r"received model\.pte with a wrong checksum"):
        target.trace([encoder(1)], WORKLOAD, brief)
    assert not list((adb / "phone/tmp/protege").iterdir())
    (adb / "full").touch()
    with pytest.raises(DiskFull, match=r"no room in /data/local/tmp/protege"):
        target.trace([encoder(1)], WORKLOAD, brief)


def test_without_adb_it_is_told(target: Android, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unsupported, match="no adb command on this machine"):
        target.description()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"binary": "executor_runner"}, "expected its path on the phone"),
        ({"binary": "/x; reboot"}, "expected its path on the phone"),
        ({"threads": 0}, "no cores or as many as threads"),
        ({"threads": 2, "cores": (7,)}, "no cores or as many as threads"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Android(**changes)  # type: ignore[arg-type]
