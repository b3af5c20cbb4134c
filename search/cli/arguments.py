"""Arguments and options that commands share: studies, runs, targets."""

import runpy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from protege.objectives.latency.runtimes.runtimes import Name
from protege.objectives.latency.workload import Plan, Workload
from protege.objectives.machine.precision import Precision
from protege.search.cli.whole import Count, Whole
from protege.search.progress import loading
from protege.spaces.errors import BadInput

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.objectives.latency import Target
    from protege.search.engines.engine import Engine
    from protege.search.front.front import Front
    from protege.search.search import Search


TARGETS = "cpu, cuda, mps, ssh:HOST, android or android:SERIAL"


@Parameter(name="*")
@dataclass(frozen=True)
class WorkerOptions:
    """How trials run in parallel.

    Attributes:
        jobs: Parallel trials (default 1, or as many as the Ray cluster has room for).
        ray: Address of a Ray cluster to run on, such as auto or host:6379.
        cpus: CPUs per trial on Ray.
        synchronous: Wait for all parallel trials before each decision, to be reproducible.
    """

    jobs: Count | None = None
    ray: str | None = None
    cpus: Count = 1
    synchronous: bool = False

    def engine(self) -> "Engine":
        """Return the engine that the options ask for."""
        from protege.search.engines.cluster import RayEngine
        from protege.search.engines.local import LocalEngine, SerialEngine

        if self.ray is not None:
            return RayEngine(self.ray, self.jobs or 0, self.cpus, synchronous=self.synchronous)
        jobs = self.jobs or 1
        return LocalEngine(jobs, synchronous=self.synchronous) if jobs > 1 else SerialEngine()


@Parameter(name="*")
@dataclass(frozen=True)
class WorkloadOptions:
    """What is timed, and how long.

    Attributes:
        batch: Sequences per call.
        tokens: Tokens per prompt.
        new_tokens: Tokens to generate.
        percentile: Percentile of the calls beside the median.
        minutes: Minutes of sustained load (thermal throttling).
    """

    batch: Count = 1
    tokens: Count = 128
    new_tokens: Whole = 0
    percentile: Literal[50, 90, 95, 99] = 50
    minutes: float = 0.0

    def workload(self) -> Workload:
        """Return the workload."""
        return Workload(self.batch, self.tokens, self.new_tokens)

    def plan(self) -> Plan:
        """Return the settings of the measurement."""
        seconds = self.minutes * 60 / 2  # a measurement takes two processes
        plan = Plan(sustained_s=seconds, candidate_s=max(30.0, 4 * seconds))
        return plan.with_samples(self.percentile)


@Parameter(name="*")
@dataclass(frozen=True)
class RuntimeOptions:
    """The runtime and its settings.

    Attributes:
        runtime: Runtime (default eager on this machine, onnxruntime elsewhere).
        precision: Precision of the weights.
        threads: Threads per model.
        cores: Cores to pin to, such as 2,3.
        priority: Scheduling priority.
        python: Python interpreter that has the runtime.
    """

    runtime: Name | None = None
    precision: Precision = "float32"
    threads: Count = 1
    cores: str | None = None
    priority: Literal["normal", "high"] = "normal"
    python: str | None = None

    def target(self, place: str) -> "Target":
        """Return the target of that name with these settings.

        Raises:
            BadInput: The name is unknown, or an option does not apply to the target.
        """
        from protege.objectives.latency import SSH, Accelerator, Android, LocalCPU

        kind, _, where = place.partition(":")
        own: dict[str, Any] = {"threads": self.threads, "cores": _cores(self.cores or "")}
        settings = own | {"precision": self.precision, "priority": self.priority}
        if kind == "cpu" and not where:
            return LocalCPU(runtime=self.runtime or "eager", python=self.python or "", **settings)
        if kind == "ssh" and where:
            settings |= {"python": self.python} if self.python else {}
            return SSH(where, self.runtime or "onnxruntime", **settings)
        if kind in {"cuda", "mps"} and not where:
            if self.cores or self.threads != 1:
                raise BadInput(f"target {kind}: --threads and --cores do not apply")
            device: Any = (kind, self.runtime or "eager", self.precision)
            return Accelerator(*device)
        if kind == "android":
            return Android(where, python=self.python or "", **own)
        raise BadInput(f"target {place!r}: expected one of {TARGETS}")


def front_of(run: str, study: str | None = None) -> "Front":
    """Read the front of a run folder, a study.db, a storage URL, or a study file."""
    from protege.search.front.front import Front

    return Front.read(*named_run(run, study))


def named_run(run: str, study: str | None = None) -> tuple[str | Path, str | None]:
    """Return the folder or storage of a run and the name of its study, also from a study file."""
    if run.endswith(".py"):
        search = search_in(Path(run))
        return search.place, search.name
    return run, study


def declared_front(run: str, study: str | None = None) -> "Front":
    """Read a front with the declaration of its study, if its study file is known.

    That is the given file, or the one that ``protege run`` recorded if it still declares the study.
    """
    front = front_of(run, study)
    file = Path(run if run.endswith(".py") else front.about.get("file", ""))
    if not file.is_file():
        return front
    search = search_in(file)
    is_same = (search.name, search.run_folder.path.resolve()) == (
        front.name,
        front.folder.resolve(),
    )
    return replace(front, declared=search) if is_same or run.endswith(".py") else front


def budgets_of(front: "Front", words: Sequence[str], named: Mapping[str, str]) -> dict[str, float]:
    """Return the bound of each objective from ``latency_ms=8`` and ``--latency-ms 8``."""
    from protege.search.analysis.choosing import bounded, unknown

    known = {objective.name.replace("-", "_"): objective.name for objective in bounded(front)}
    split = (word.rpartition("=")[::2] if "=" in word else (word, "") for word in words)
    found = {}
    for given, value in [*split, *named.items()]:
        name = given.replace("-", "_")
        if name not in known:
            raise BadInput(unknown(front, name, ("--budget", "--study", "--to", "--trial")))
        try:
            found[known[name]] = float(value)
        except ValueError:
            expected = "an objective and a number, such as latency_ms=8 or --latency-ms 8"
            raise BadInput(f"budget {given}={value}: expected {expected}") from None
    return found


def search_in(path: Path) -> "Search":
    """Run a study file and return the `Search` that it defines at the top level.

    Raises:
        BadInput: The file is missing or no Python, or defines not exactly one `Search`.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a Python file that defines a Search")
    # a study may import modules beside it and in the working directory
    sys.path[:0] = [str(path.resolve().parent), str(Path.cwd())]
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: not a Python file that can be run ({error})") from error
    with loading(str(path)):
        from protege.search.search import Search
        from protege.search.session.identity import STUDY_MODULE

        defined = runpy.run_path(str(path), run_name=STUDY_MODULE)
    searches = [value for value in defined.values() if isinstance(value, Search)]
    if len(searches) != 1:
        raise BadInput(
            f"{path}: expected one Search at the top level, such as search = Search(...), "
            f"found {len(searches)}"
        )
    return searches[0]


def _cores(word: str) -> tuple[int, ...]:
    """Return the core numbers in ``2,3``."""
    try:
        found = tuple(int(part) for part in word.split(",")) if word else ()
    except ValueError:
        raise BadInput(f"--cores {word}: expected a list such as 2,3") from None
    if any(one >= other for one, other in pairwise(found)):
        raise BadInput(f"--cores {word}: expected each core once, in order")
    return found
