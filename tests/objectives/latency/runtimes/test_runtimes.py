import sys
from pathlib import Path

import pytest
import torch

from protege.objectives.latency import LocalCPU
from protege.objectives.latency.runtimes.runtimes import (
    RUNTIMES,
    check_hardware,
    installed,
    processor_features,
    runtime_named,
)
from protege.objectives.machine.precision import Precision
from protege.spaces.errors import BadInput


def interpreter(path: Path, answer: str) -> str:
    """A program that answers like an interpreter that is asked what it has."""
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return str(path)


def test_a_runtime_knows_the_versions_that_its_times_depend_on() -> None:
    runtime = runtime_named("eager")
    assert runtime.interpreter == sys.executable
    assert runtime.versions()["torch"] == torch.__version__


def test_a_runtime_may_live_in_an_environment_of_its_own(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python", '{"executorch": "1.5.1", "protege": "0.1.0"}')
    runtime = runtime_named("executorch", python=python)
    assert runtime.interpreter == python
    expected = {"torch": "absent", "transformers": "absent", "executorch": "1.5.1"}
    assert runtime.versions() == expected


def test_what_is_missing_there_is_told_with_what_installs_it(tmp_path: Path) -> None:
    python = interpreter(tmp_path / "python", '{"protege": "0.1.0", "onnx": "1.20"}')
    message = (
        rf"^runtime 'onnxruntime' needs onnxscript, onnxruntime, not installed for {python}: "
        rf'{python} -m pip install "protege\[onnx\]"$'
    )
    with pytest.raises(BadInput, match=message):
        runtime_named("onnxruntime", python=python)
    python = interpreter(tmp_path / "other", '{"executorch": "1.5.1"}')
    with pytest.raises(BadInput, match="needs protege, not installed for"):
        runtime_named("executorch", python=python)


@pytest.mark.parametrize("answer", ["", "no JSON"])
def test_what_is_no_interpreter_is_refused(tmp_path: Path, answer: str) -> None:
    with pytest.raises(BadInput, match="expected the path of an interpreter"):
        installed(interpreter(tmp_path / "python", answer))
    with pytest.raises(BadInput, match=r"does not answer \(FileNotFoundError\)"):
        installed(str(tmp_path / "nowhere"))


def test_pytorch_runs_in_this_interpreter_alone() -> None:
    with pytest.raises(BadInput, match="eager runs in this interpreter; leave python empty"):
        LocalCPU(python="/usr/bin/python3")


def test_names_and_precisions_that_there_are_none_of_are_refused() -> None:
    with pytest.raises(BadInput, match="runtime='tvm': expected one of eager, compile, "):
        runtime_named("tvm")
    with pytest.raises(BadInput, match="precision='int8' on eager: expected one of float32, "):
        runtime_named("eager", "int8")


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BadInput, match=r"needs a C\+\+ compiler, not found here .* apt-get"):
        LocalCPU(runtime="compile")
    own = interpreter(tmp_path / "my-compiler", "")
    monkeypatch.setenv("CXX", own)
    assert LocalCPU(runtime="compile").label == "compile, 1 thread"


@pytest.mark.parametrize(
    ("precision", "feature"), [("float16", "avx512_fp16"), ("bfloat16", "avx512_bf16")]
)
def test_a_precision_needs_a_processor_with_its_arithmetic(
    precision: Precision, feature: str
) -> None:
    needs = rf"does not support it \(needs one of .*{feature}.*use float32"
    with pytest.raises(BadInput, match=needs):
        check_hardware(precision, frozenset({"sse2"}))
    check_hardware(precision, frozenset({"sse2", feature}))
    check_hardware("float32", frozenset())
    check_hardware("int8", frozenset())


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux alone lists them")
def test_the_processor_lists_its_features() -> None:
    assert processor_features() & {"sse2", "asimd"}


def test_what_is_timed_needs_no_more_than_what_exports() -> None:
    for runtime in RUNTIMES.values():
        assert set(runtime.needed) <= {"numpy", "torch", *runtime.packages}
        assert runtime.exports is bool(runtime.needed)


def test_an_interpreter_that_was_killed_is_asked_again(tmp_path: Path) -> None:
    killed, python = tmp_path / "killed", tmp_path / "python"
    once = f'[ -e "{killed}" ] || {{ touch "{killed}"; kill -9 $$; }}'
    python.write_text(f'#!/bin/sh\n{once}\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert installed(str(python)) == installed(sys.executable)
    assert killed.exists()
