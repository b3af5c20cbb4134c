"""Latencies measured on another device and imported from a results file."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from protege.objectives.latency.device.by_hand import COLUMNS
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.targets.bundle import RESULTS, call_name
from protege.objectives.latency.targets.target import Unmeasured, label_of
from protege.objectives.latency.workload import Plan, Workload
from protege.spaces.errors import BadInput
from protege.spaces.files.hashing import digest


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
    def _read(self) -> dict[str, Any]:
        return read_results(self.results)

    @property
    def threads(self) -> int:
        return int(self._read["threads"])

    @property
    def label(self) -> str:
        found = self._read
        where = f" on {found['device']}, from {Path(self.results).name}"
        return label_of(found["runtime"], found["precision"], where)

    def description(self) -> dict[str, Any]:
        names = ("device", "runtime", "precision", "threads", "results")
        return {name: self._read[name] for name in names}

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:  # noqa: ARG002
        """Return the next run with the models; the plan is ignored.

        Raises:
            BadInput: The workload generates tokens and the file has no ``prefill_ms``.
            Unmeasured: The file has no run with all models; says how to add one.
        """
        wanted = tuple(call_name(model, workload) for model in models)
        found = [run for run in self._read["runs"] if set(wanted) <= run["models"].keys()]
        if not found:
            raise Unmeasured(self._lacking(models, wanted))
        turn = self._asked.get(wanted, 0)
        self._asked[wanted] = turn + 1
        run = found[turn % len(found)]
        figures = [run["models"][name] for name in wanted]
        if workload.new_tokens and not all("prefill_ms" in one for one in figures):
            raise BadInput(f"{self.results}: a run of {', '.join(wanted)} lacks prefill_ms")
        # as many rounds as every model has calls
        rounds = tuple(zip(*map(_samples, figures), strict=False))
        return Trace(tuple(float(one["first_ms"]) for one in figures), rounds, run["environment"])

    def _lacking(self, models: Sequence[Model], wanted: Sequence[str]) -> str:
        known = {name for run in self._read["runs"] for name in run["models"]}
        listed = ", ".join(
            f"{model.model_class} {name}"
            for model, name in zip(models, wanted, strict=True)
            if name not in known
        )
        lacks = f"has no figures of {listed}" if listed else "has no run with both models"
        return (
            f"{self.results} {lacks} for this workload: put them into one bundle (write_bundle), "
            f"run it on {self._read['device']}, and add its runs to the file"
        )


def read_results(path: str | Path) -> dict[str, Any]:
    """Read a results file; return its content, with a hash of it as ``results``.

    Raises:
        BadInput: It cannot be read, or is not in the format that the bundle's manifest describes.
    """
    try:
        content = Path(path).read_bytes()
        record: dict[str, Any] = json.loads(content)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from error
    for fits, message in _checks(record):
        if not fits:
            raise BadInput(f"{path}: {message}")
    return record | {"results": digest(content)}


def _samples(figures: Mapping[str, list[float]]) -> Iterator[Sample]:
    """Yield the calls of a model; processor time equals wall time if the file has none."""
    wall_ms = figures["ms"]
    prefill_ms = figures.get("prefill_ms", wall_ms)
    columns = (
        wall_ms,
        figures.get("cpu_ms", wall_ms),
        map(int, figures.get("preemptions", [0] * len(wall_ms))),
        prefill_ms,
        figures.get("prefill_cpu_ms", figures.get("cpu_ms", prefill_ms)),
    )
    return map(Sample, *columns)


Check = tuple[bool, str]
"""Whether a part of the file is as it should be, and the message if it is not."""


def _checks(record: Any) -> Iterator[Check]:
    """Yield the checks of a file; each presumes the ones before it."""
    yield _is_object(record, "the file")
    form = record.get("format")
    yield form == RESULTS, f"format is {form!r}, expected {RESULTS!r}"
    for name in ("device", "runtime", "precision"):
        text = record.get(name)
        yield isinstance(text, str) and bool(text.strip()), f"{name} is {text!r}, expected a text"
    threads = record.setdefault("threads", 1)
    yield isinstance(threads, int) and threads >= 1, f"threads is {threads!r}, expected 1 or more"
    runs = record.get("runs")
    yield isinstance(runs, list) and bool(runs), f"runs is {runs!r}, expected a list of one or more"
    for number, run in enumerate(runs):
        yield _is_object(run, f"runs[{number}]")
        yield _is_object(run.get("models"), f"runs[{number}].models")
        yield _is_object(run.setdefault("environment", {}), f"runs[{number}].environment")
        for name, figures in run["models"].items():
            yield from _model_checks(figures, f"runs[{number}].{name}")


def _model_checks(figures: Any, where: str) -> Iterator[Check]:
    yield _is_object(figures, where)
    yield _are_numbers([figures.get("first_ms")], f"{where}.first_ms", above_zero=True)
    yield _are_numbers(figures.get("ms"), f"{where}.ms", above_zero=True)
    count = len(figures["ms"])
    yield count >= 3, f"{where}.ms has {count} calls, expected 3 or more"
    for name in set(COLUMNS) & figures.keys() - {"ms"}:
        yield _are_numbers(figures[name], f"{where}.{name}")
        found = len(figures[name])
        yield found == count, f"{where}.{name} has {found} calls, expected {count}"


def _is_object(given: Any, where: str) -> Check:
    return isinstance(given, dict), f"{where} is {type(given).__name__}, expected an object"


def _are_numbers(given: Any, where: str, *, above_zero: bool = False) -> Check:
    def fits(value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and (value > 0 if above_zero else value >= 0)

    values = given if isinstance(given, list) else [None]
    wrong = next((value for value in values if not fits(value)), None)
    wanted = "milliseconds above 0" if above_zero else "numbers of at least 0"
    return all(map(fits, values)), f"{where} has {wrong!r}, expected {wanted}"
