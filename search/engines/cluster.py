"""The Ray engine: jobs on the nodes of a cluster, with one actor that measures."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle

from protege.objectives.measurement import Stage
from protege.search.engines.engine import StudyTask, prepare
from protege.search.engines.events import Announce, Message, WorkerLost
from protege.search.engines.pool import PooledEngine, WorkerPool
from protege.search.engines.remote import ANSWERS_S, Actor
from protege.spaces import BadInput


@dataclass
class RayEngine(PooledEngine):
    """Runs jobs on the nodes of a Ray cluster, which must share the run folder.

    Each job runs in an actor. Objectives cheaper than training, latency above all, are measured by
    one more actor on a node of its own. If an actor or its node is lost, the job starts again on
    another one from its last checkpoint.

    Attributes:
        address: Address of the cluster for `ray.init`: ``auto``, ``host:6379``,
            ``ray://host:10001``; empty starts a cluster on this machine.
        jobs: Number of parallel jobs; 0 for as many as the cluster has room for.
        cpus: CPUs and threads per job.
        gpus: GPUs per job.
        measures_on: Ray resources of the node that measures, such as ``{"pi": 1}``; by default the
            node of the study.
        synchronous: Whether all running jobs halt before any of them goes on.
        silence_s: Seconds without a sign of life after which an actor is killed.

    Raises:
        BadInput: A number is out of range.
    """

    address: str = ""
    jobs: int = 0
    cpus: int = 1
    gpus: float = 0.0
    measures_on: Mapping[str, float] = field(default_factory=dict)
    synchronous: bool = False
    silence_s: float = 900.0
    _pool: WorkerPool = field(init=False, repr=False)
    _has_connected: bool = field(default=False, init=False, repr=False)
    """Whether the connection to the cluster is this engine's to close."""

    def __post_init__(self) -> None:
        for name in ("jobs", "gpus"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name}={getattr(self, name)!r}: expected 0 or more")
        for name in ("cpus", "silence_s"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name}={getattr(self, name)!r}: expected a number above 0")
        # an actor for which the cluster has no room yet must not get a job
        self._pool = WorkerPool(_wait, self.silence_s, sends_early=False)

    def start(self, task: StudyTask, announce: Announce) -> None:
        self._connect()
        path = prepare(task.folder.resolve())
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}
        workers = [RayWorker(options, path, self.cpus) for _ in range(self.jobs or self._room())]
        measures = any(objective.stage is Stage.SHAPE for objective in task.objectives)
        measurer = RayWorker(self._where_to_measure(), path, self.cpus) if measures else None
        task.save(path)
        self._pool.start(path, announce, workers, measurer)
        self._pool.free()  # waits for an actor

    def close(self) -> None:
        super().close()
        if self._has_connected:
            import ray

            ray.shutdown()
            self._has_connected = False

    def _connect(self) -> None:
        """Connect to the cluster.

        Raises:
            BadInput: Ray is not installed, or the cluster cannot be reached.
        """
        try:
            import ray
        except ImportError as error:
            raise BadInput('RayEngine needs Ray: pip install "protege[ray]"') from error
        if ray.is_initialized():
            return
        try:
            with _signals_kept():
                ray.init(
                    address=self.address or "local",
                    namespace="protege",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"Ray cluster {self.address!r}: not reached ({_line(error)}); start one with "
                "`ray start --head`, and give its address"
            ) from error
        self._has_connected = True

    def _room(self) -> int:
        """Return the number of jobs that the nodes have room for.

        Raises:
            BadInput: No node has room for one.
        """
        import ray

        known: Any = ray
        nodes = [node["Resources"] for node in known.nodes() if node["Alive"]]
        needs = {"CPU": self.cpus, "GPU": self.gpus}
        found = sum(
            int(min(node.get(name, 0) // need for name, need in needs.items() if need))
            for node in nodes
        )
        if not found:
            raise BadInput(
                f"no node of the cluster has {self.cpus} CPUs and {self.gpus:g} GPUs; declare "
                f"less: they have {nodes}"
            )
        return found

    def _where_to_measure(self) -> dict[str, Any]:
        """Return the Ray options that place the measuring actor."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self.measures_on:
            return {"num_cpus": 0, "resources": dict(self.measures_on)}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return {"num_cpus": 0, "scheduling_strategy": here}


@dataclass
class RayWorker:
    """The connection to a worker in an actor of a Ray cluster.

    Attributes:
        options: Placement options of `ray.remote`.
        task: The task file.
        threads: Number of compute threads.
        sources: References of the pending remote calls.
    """

    log: ClassVar[str] = "the logs of Ray on its node"

    options: Mapping[str, Any]
    task: Path
    threads: int
    sources: list[Any] = field(default_factory=list, init=False)
    _actor: Any = field(default=None, init=False)

    def start(self) -> None:
        import ray

        placed: Any = ray.remote(Actor)  # its options are known at run time only
        # two threads: one runs calls, the other returns messages
        options = {"max_concurrency": 2, "max_restarts": 0, **self.options}
        self._actor = placed.options(**options).remote(sys.path, self.task, self.threads)
        self.sources = [self._actor.messages.remote()]

    def send(self, verb: str, *given: Any, **named: Any) -> None:
        self.sources.append(self._actor.run.remote(cloudpickle.dumps((verb, given, named))))

    def receive(self, source: Any) -> Sequence[Message]:
        import ray

        self.sources.remove(source)
        try:
            found: list[Message] | None = ray.get(source)
        except ray.exceptions.RayError as error:
            failed = isinstance(error, ray.exceptions.RayTaskError)
            return [WorkerLost(f"its actor is gone ({_line(error)})", failed)]
        if found is None:
            return []  # of `run`, which reports by messages
        self.sources.append(self._actor.messages.remote())
        return found

    def kill(self) -> None:
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)


def _wait(sources: Sequence[Any], timeout_s: float) -> Sequence[Any]:
    import ray

    return ray.wait([*sources], num_returns=1, timeout=min(timeout_s, ANSWERS_S))[0]


def _line(error: Exception) -> str:
    """Return the start of an error's message as one line."""
    return " ".join(str(error).split())[:200]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the SIGTERM handler after the block, in which Ray installs its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
