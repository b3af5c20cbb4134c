"""Android phones as targets, timed by the benchmark programs of ExecuTorch and llama.cpp."""

import json
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

import numpy as np

from protege.objectives.latency.device.loop import Sample, take_rounds
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model, SavedModel
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import Runtime, runtime_named
from protege.objectives.latency.targets.adb import CommandError, Phone
from protege.objectives.latency.targets.ssh_connection import (
    PAUSES_S,
    ConnectionLost,
    device_lock,
    retried,
)
from protege.objectives.latency.targets.target import Unmeasured, check_threads, label_of, names
from protege.objectives.latency.workload import Plan, Workload
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput, Unavailable

BINARY = "/data/local/tmp/executor_runner"

CALLS = 10
"""Calls in one run of ``executor_runner``; its mean includes the slower first call."""

REPETITIONS = 3
"""Calls in one run of ``llama-bench``, which warms up by itself and reports each call."""

_RUNS_EXECUTORCH = re.compile(r"executed successfully (\d+) time\(s\) in ([\d.]+) ms")


@checks_fields
@dataclass(frozen=True)
class Android:
    """A phone that ``adb`` reaches, with a benchmark program that was built for it and pushed.

    ExecuTorch's ``executor_runner`` runs models exported on this machine, with XNNPACK. llama.cpp's
    ``llama-bench`` runs decoders from a GGUF file in the folder of a checkpoint. Programs are
    pushed once, named by their hashes. Reference and candidate alternate in short runs, each a
    process; a sample is the mean (``llama-bench``: median) of a run's calls.

    Neither program reports processor time or preemptions, so every latency is graded A: trust it
    only if the phone was idle, cool and plugged in. `Trace.environment` has its temperatures and
    thermal status before and after. ``executor_runner`` must be built with logging to standard
    error (``EXECUTORCH_ENABLE_LOGGING``), where it prints its time.

    Attributes:
        serial: The serial number as ``adb devices`` lists it; the only phone if empty.
        binary: The benchmark program's path on the phone.
        threads: Threads that a model may use.
        cores: The cores to pin to, by the phone's numbers (``taskset``); all cores if empty.
        python: The interpreter with ExecuTorch for exports; the current one if empty.
        pauses_s: Pauses in seconds before each retry.
        programs: The cache of exported models on this machine.

    Raises:
        BadInput: A value is invalid, or ExecuTorch is not installed for exports.
    """

    serial: str = ""
    binary: str = BINARY
    threads: int = 1
    cores: tuple[int, ...] = ()
    python: str = ""
    pauses_s: tuple[float, ...] = field(default=PAUSES_S, repr=False)
    programs: Programs = field(default_factory=Programs, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"/[\w./+-]+", self.binary):
            raise BadInput(f"binary={self.binary!r}: expected its path on the phone, from /")
        check_threads(self.threads, self.cores)
        if not self._reads_gguf:
            _ = self._runtime

    @property
    def label(self) -> str:
        program = PurePosixPath(self.binary).name
        return label_of(program, "float32", f" on {self._phone.name}", self.threads)

    def description(self) -> dict[str, Any]:
        """Return all that a latency depends on; the phone is probed once per process.

        Raises:
            Unavailable: The phone cannot be reached, or lacks the program.
        """
        try:
            there = _described(self._phone, self.binary)
        except ConnectionLost as lost:
            raise Unavailable(f"{self._phone.name} does not answer ({lost}): adb devices") from lost
        exported = {} if self._reads_gguf else self._runtime.versions()
        return {
            **there,
            "binary": self.binary,
            "threads": self.threads,
            "cores": list(self.cores),
            "versions": exported,
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models alternately, each run in a process of its own on the phone.

        Raises:
            Unavailable: The phone cannot be reached, or lacks the program.
            DiskFull: The phone's storage is full.
            Unmeasured: A model cannot run there, or the phone did not answer in any try.
        """
        what = f"{names(models)} could not be timed on {self._phone.name}"

        def trace() -> Trace:
            with device_lock(f"adb {self.serial}"):
                return self._traced(models, workload, plan)

        try:
            return retried(trace, self.pauses_s, what)
        except CommandError as error:
            raise Unmeasured(f"{what}: {error}") from error

    @property
    def _phone(self) -> Phone:
        return Phone(self.serial)

    @property
    def _reads_gguf(self) -> bool:
        return PurePosixPath(self.binary).name.startswith("llama-bench")

    @property
    def _runtime(self) -> Runtime:
        return runtime_named("executorch", "float32", self.python)

    def _traced(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        start_s = time.perf_counter()
        _described(self._phone, self.binary)  # a missing program must not look like a model's error
        place = self._placed_gguf if self._reads_gguf else self._placed
        placed = [place(model, workload) for model in models]
        before = self._phone.environment()
        cold_ms = tuple(self._sample(one, workload, plan, calls=1).wall_ms for one in placed)
        calls = [partial(self._sample, one, workload, plan) for one in placed]
        rounds = take_rounds(calls, plan, start_s)
        return Trace(cold_ms, rounds, {"before": before, "after": self._phone.environment()})

    def _placed(self, model: Model, workload: Workload) -> dict[str, str]:
        """Push a model's program; return the arguments of ``executor_runner`` for each stage."""
        folder = self.programs.of(model, workload, self._runtime, "float32")
        stages = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["stages"]
        found = {}
        for stage, file in stages.items():
            program = self._phone.keep(folder / stage / file, ".pte")
            given = ",".join(self._inputs(folder / stage / "inputs.npz"))
            found[stage] = f"--model_path={program} --inputs={given}"
        return found

    def _inputs(self, stored: Path) -> list[str]:
        """Push the raw bytes of the inputs; return their paths in the program's order."""
        found = []
        with np.load(stored) as arrays, tempfile.TemporaryDirectory() as folder:
            for name in sorted(arrays.files):
                content = Path(folder) / name
                content.write_bytes(np.ascontiguousarray(arrays[name]).tobytes())
                found.append(self._phone.keep(content, ".bin"))
        return found

    def _placed_gguf(self, model: Model, workload: Workload) -> dict[str, str]:
        """Push a GGUF file; return the arguments of ``llama-bench`` for each stage."""
        files = sorted(Path(model.folder).glob("*.gguf")) if isinstance(model, SavedModel) else []
        if len(files) != 1 or workload.batch_size != 1:
            raise Unmeasured(
                f"llama-bench times one GGUF file at batch size 1, not {model.model_class} with "
                f"{len(files)} of them at {workload.batch_size}: convert it into its folder"
            )
        file = self._phone.keep(files[0], ".gguf")
        found = {"prefill": f"-m {file} -p {workload.prompt_tokens} -n 0"}
        if workload.new_tokens:  # -d: decode after the whole prompt
            depth = workload.prompt_tokens
            found["step"] = f"-m {file} -p 0 -n {workload.new_tokens} -d {depth}"
        return found

    def _sample(
        self, placed: dict[str, str], workload: Workload, plan: Plan, calls: int | None = None
    ) -> Sample:
        """Run each stage once and combine them into one sample."""
        prefill_ms = self._run(placed["prefill"], calls, plan)
        step_ms = self._run(placed["step"], calls, plan) if "step" in placed else 0.0
        steps = 1 if self._reads_gguf else workload.new_tokens
        wall_ms = prefill_ms + steps * step_ms
        return Sample(wall_ms, wall_ms, 0, prefill_ms, prefill_ms)

    def _run(self, arguments: str, calls: int | None, plan: Plan) -> float:
        """Run the program; return its mean milliseconds per call, or llama-bench's median."""
        mask = sum(1 << core for core in self.cores)
        pinned = f"taskset {mask:x} {self.binary}" if mask else self.binary
        if self._reads_gguf:
            options, wanted = f"-r {calls or REPETITIONS} -t {self.threads} -o json", "samples_ns"
        else:
            options = f"--num_executions={calls or CALLS} --cpu_threads={self.threads}"
            wanted = "time; build it with logging"
        said = self._phone.shell(f"{pinned} {arguments} {options}", plan.deadline_s)
        try:
            if self._reads_gguf:
                (test,), _ = json.JSONDecoder().raw_decode(said, said.index("[\n"))  # after the log
                return float(median(test["samples_ns"])) / 1e6
            count, total_ms = _RUNS_EXECUTORCH.findall(said)[0]
            return float(total_ms) / int(count)
        except (ValueError, LookupError, TypeError) as error:
            raise CommandError(f"{self.binary} printed no {wanted}") from error


@cache
def _described(phone: Phone, binary: str) -> dict[str, str]:
    """Return the phone's model and the program's hash; answers are cached, failures are not."""
    try:
        sha256 = phone.shell(f"test -x {binary} && sha256sum {binary}").partition(" ")[0]
    except CommandError:
        raise Unavailable(
            f"{phone.name} has no program {binary}: build it for the phone, then: adb push "
            f"{PurePosixPath(binary).name} {binary} && adb shell chmod +x {binary}"
        ) from None
    properties = {
        "phone": "ro.product.model",
        "cpu": "ro.soc.model",
        "android": "ro.build.version.release",
        "abi": "ro.product.cpu.abi",
    }
    asked = {name: phone.shell(f"getprop {key}").strip() for name, key in properties.items()}
    return {**asked, "serial": phone.serial, "program": sha256[:16]}
