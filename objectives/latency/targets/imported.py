"""Latencies measured on another device and imported from a results file."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.targets.bundle import RESULTS, call_name
from protege.objectives.latency.targets.target import Unmeasured
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput
from protege.spaces.files.hashing import digest

_FEWEST = 3
_LEAST_MS = 1e-6


@dataclass(frozen=True)
class Figures:
    """The calls of one model in one process.

    Attributes:
        first_ms: Wall time of the very first call in ms.
        samples: The later calls; processor time equals wall time if the file has none.
        in_parts: Whether the file has the prompt's part of each call.
    """

    first_ms: float
    samples: tuple[Sample, ...]
    in_parts: bool


@dataclass(frozen=True)
class Run:
    """One fresh process on the device.

    Attributes:
        models: The calls of each model, by its name in the bundle.
        environment: The device's state ``before`` and ``after``, as far as the file has it.
    """

    models: Mapping[str, Figures]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """The content of a results file.

    Attributes:
        device: The device's name.
        runtime: The runtime.
        precision: The precision.
        threads: Threads that a model used.
        runs: The processes.
        digest: A hash of the file.
    """

    device: str
    runtime: str
    precision: str
    threads: int
    runs: tuple[Run, ...]
    digest: str


@dataclass(frozen=True)
class Imported:
    """A device whose latencies are imported from a file; see `write_bundle`.

    Each trace is the next run in the file that has the models. Three or more runs estimate the
    spread between processes; with fewer, the reported spread is the floor. Without preemption
    counts all latencies are graded A.

    Attributes:
        results: The file, in the format that the bundle's manifest describes.

    Raises:
        BadInput: The file cannot be read, or has another format.
    """

    results: str | Path
    _asked: dict[tuple[str, ...], int] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        _ = self._read

    @cached_property
    def _read(self) -> Results:
        return read_results(self.results)

    @property
    def threads(self) -> int:
        return self._read.threads

    @property
    def label(self) -> str:
        found = self._read
        precision = "" if found.precision == "float32" else f" {found.precision}"
        return f"{found.runtime}{precision} on {found.device}, from {Path(self.results).name}"

    def description(self) -> dict[str, Any]:
        found = self._read
        return {
            "device": found.device,
            "runtime": found.runtime,
            "precision": found.precision,
            "threads": found.threads,
            "results": found.digest,
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:  # noqa: ARG002
        """Return the next run with the models; the plan is ignored.

        Raises:
            BadInput: The workload generates tokens and the file has no ``prefill_ms``.
            Unmeasured: The file has no run with all models; says how to add one.
        """
        wanted = tuple(call_name(model, workload) for model in models)
        found = [run for run in self._read.runs if set(wanted) <= run.models.keys()]
        if not found:
            raise Unmeasured(self._lacking(models, wanted))
        turn = self._asked.get(wanted, 0)
        self._asked[wanted] = turn + 1
        run = found[turn % len(found)]
        figures = [run.models[name] for name in wanted]
        if workload.new_tokens and not all(one.in_parts for one in figures):
            raise BadInput(f"{self.results}: a run of {', '.join(wanted)} lacks prefill_ms")
        rounds = tuple(zip(*(one.samples for one in figures), strict=False))  # the most of pairs
        return Trace(tuple(one.first_ms for one in figures), rounds, run.environment)

    def _lacking(self, models: Sequence[Model], wanted: Sequence[str]) -> str:
        known = {name for run in self._read.runs for name in run.models}
        listed = ", ".join(
            f"{model.model_class} {name}"
            for model, name in zip(models, wanted, strict=True)
            if name not in known
        )
        lacks = f"has no figures of {listed}" if listed else "has no run with both models"
        return (
            f"{self.results} {lacks} for this workload: put them into one bundle (write_bundle), "
            f"run it on {self._read.device}, and add its runs to the file"
        )


def read_results(path: str | Path) -> Results:
    """Read a results file.

    Raises:
        BadInput: It cannot be read, or is not in the format that the bundle's manifest describes.
    """
    try:
        content = Path(path).read_bytes()
        record = json.loads(content)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from error
    reading = _Reading(str(path))
    top = reading.mapping(record, "the file")
    if top.get("format") != RESULTS:
        raise BadInput(f"{path}: format is {top.get('format')!r}, expected {RESULTS!r}")
    runs = top.get("runs")
    if not isinstance(runs, list) or not runs:
        raise BadInput(f"{path}: runs is {runs!r}, expected a list of one or more")
    threads = top.get("threads", 1)
    if not isinstance(threads, int) or threads < 1:
        raise BadInput(f"{path}: threads is {threads!r}, expected 1 or more")
    device, runtime, precision = (
        reading.text(top, name) for name in ("device", "runtime", "precision")
    )
    found = tuple(reading.run(run, f"runs[{number}]") for number, run in enumerate(runs))
    return Results(device, runtime, precision, threads, found, digest(content))


@dataclass(frozen=True)
class _Reading:
    """A reader of the parts of a file, whose errors name the file and the place in it."""

    path: str

    def run(self, given: object, where: str) -> Run:
        record = self.mapping(given, where)
        models = self.mapping(record.get("models"), f"{where}.models")
        environment = self.mapping(record.get("environment", {}), f"{where}.environment")
        figures = {
            name: self.figures(self.mapping(model, f"{where}.{name}"), f"{where}.{name}")
            for name, model in models.items()
        }
        return Run(figures, environment)

    def figures(self, record: Mapping[str, Any], where: str) -> Figures:
        wall_ms = self.numbers(record.get("ms"), f"{where}.ms", _LEAST_MS)
        if len(wall_ms) < _FEWEST:
            raise BadInput(f"{self.path}: {where}.ms has {len(wall_ms)} calls, expected 3 or more")
        cpu_ms = self.column(record, "cpu_ms", where, wall_ms)
        prefill_ms = self.column(record, "prefill_ms", where, wall_ms)
        instead = prefill_ms if "cpu_ms" not in record else cpu_ms
        prefill_cpu_ms = self.column(record, "prefill_cpu_ms", where, instead)
        preemptions = self.column(record, "preemptions", where, [0.0] * len(wall_ms))
        columns = (wall_ms, cpu_ms, map(int, preemptions), prefill_ms, prefill_cpu_ms)
        (first_ms,) = self.numbers([record.get("first_ms")], f"{where}.first_ms", _LEAST_MS)
        return Figures(first_ms, tuple(map(Sample, *columns)), "prefill_ms" in record)

    def column(
        self, record: Mapping[str, Any], name: str, where: str, instead: list[float]
    ) -> list[float]:
        """Return a column, or `instead` if the file lacks it; both have the same length."""
        if name not in record:
            return instead
        found = self.numbers(record[name], f"{where}.{name}", 0.0)
        if len(found) != len(instead):
            raise BadInput(
                f"{self.path}: {where}.{name} has {len(found)} calls, expected {len(instead)}"
            )
        return found

    def numbers(self, given: object, where: str, least: float) -> list[float]:
        """Return finite numbers of at least `least`."""
        values: list[Any] = given if isinstance(given, list) else [given]
        for value in values:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            if not fits or not math.isfinite(value) or value < least:
                wanted = "milliseconds above 0" if least else "numbers of at least 0"
                raise BadInput(f"{self.path}: {where} has {value!r}, expected {wanted}")
        return [float(value) for value in values]

    def mapping(self, given: object, where: str) -> Mapping[str, Any]:
        if not isinstance(given, dict):
            raise BadInput(f"{self.path}: {where} is {type(given).__name__}, expected an object")
        return given

    def text(self, record: Mapping[str, Any], name: str) -> str:
        value = record.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadInput(f"{self.path}: {name} is {value!r}, expected a text")
        return value
