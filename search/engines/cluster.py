"""The Ray engine: jobs on the nodes of a cluster, with one actor that measures."""

import logging
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protege.objectives.objective import Stage
from protege.search.engines.engine import AtRung, Done, Event, Job
from protege.search.engines.seat import Seat
from protege.search.engines.task import Task, prepare
from protege.search.records.trial import State, Trial
from protege.spaces import BadInput
from protege.spaces.files.atomic import remove

ASKS_S = 2.0
"""Seconds between two queries of the actors' progress."""


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the SIGTERM handler after the block, in which Ray installs its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@dataclass
class RayEngine:
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

    _is_ours: bool = field(default=True, init=False, repr=False)
    _task: Path | None = field(default=None, init=False, repr=False)
    _announce: Callable[[str], None] = field(default=lambda _: None, init=False, repr=False)
    _seats: list[Seat] = field(default_factory=list, init=False, repr=False)
    _measurer: Seat | None = field(default=None, init=False, repr=False)
    _measuring: Job | None = field(default=None, init=False, repr=False)
    _unmeasured: deque[Job] = field(default_factory=deque, init=False, repr=False)
    _measured: deque[Job] = field(default_factory=deque, init=False, repr=False)
    _events: deque[Event] = field(default_factory=deque, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("jobs", "gpus"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name}={getattr(self, name)!r}: expected 0 or more")
        for name in ("cpus", "silence_s"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name}={getattr(self, name)!r}: expected a number above 0")

    def start(self, task: Task, announce: Callable[[str], None]) -> None:
        self._announce = announce
        self._connect()
        self._task = path = prepare(task.folder.resolve())
        task.save(path)
        self.jobs = self.jobs or self._room()
        if any(objective.stage is Stage.SHAPE for objective in task.objectives):
            self._measurer = Seat(self._where_to_measure(), path, self.cpus)
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}
        self._seats = [Seat(options, path, self.cpus) for _ in range(self.jobs)]
        self._idle()

    def free(self, number: int | None = None) -> bool:
        idle = self._idle()
        if number is None:
            return len(idle) > self._between
        holder = self._holder(number)
        # if its actor is gone, `wait_any` reports the loss
        return holder is None or (holder.is_idle and len(idle) > self._between)

    def submit(self, job: Job) -> None:
        if self._measurer is None or job.known:
            self._measured.append(job)
        else:
            self._unmeasured.append(job)
        self._set_to_work()

    def answer(self, number: int, *, goes_on: bool) -> None:
        seat = self._holder(number)
        if seat is not None:  # if its actor is gone, `wait_any` reports the loss
            seat.tell(number, "go_on", number, goes_on)

    def wait_any(self) -> Event:
        import ray

        while not self._events:
            awaited = {seat.awaited: seat for seat in self._crew if seat.awaited is not None}
            resolved, _ = ray.wait([*awaited], num_returns=1, timeout=ASKS_S)
            for one in resolved:
                self._hear(awaited[one])
            if not resolved:
                self._ask_round()
            self._set_to_work()
        return self._events.popleft()

    def close(self) -> None:
        import ray

        task, self._task = self._task, None
        if task is not None:
            remove(task)
        if not ray.is_initialized():
            return  # Ray was never started
        for seat in self._crew:
            seat.kill()
        self._seats, self._measurer, self._measuring = [], None, None
        for left in (self._unmeasured, self._measured, self._events):
            left.clear()
        if self._is_ours:
            ray.shutdown()

    def _holder(self, number: int) -> Seat | None:
        """Return the seat that holds a halted job, or None if its actor is gone."""
        return next((seat for seat in self._seats if number in seat.held), None)

    @property
    def _crew(self) -> list[Seat]:
        return [*self._seats, *([self._measurer] if self._measurer else [])]

    @property
    def _between(self) -> int:
        """Number of jobs before, in or after measurement that will need a seat."""
        return len(self._unmeasured) + (self._measuring is not None) + len(self._measured)

    def _idle(self) -> list[Seat]:
        """Return idle seats; wait for the first actor if no job is running."""
        import ray

        while not (idle := [seat for seat in self._seats if seat.is_idle]):
            if any(seat.is_loaded for seat in self._seats) or self._between or self._events:
                break
            self._announce("waiting for a node of the cluster")
            awaited = {seat.awaited: seat for seat in self._seats}
            for one in ray.wait([*awaited], num_returns=1, timeout=ASKS_S)[0]:
                self._hear(awaited[one])
        return idle

    def _set_to_work(self) -> None:
        """Dispatch queued jobs to idle workers."""
        measurer = self._measurer
        if self._unmeasured and measurer is not None and measurer.is_idle:
            job = self._unmeasured.popleft()
            measurer.tell(job.number, "measure", job)
            self._measuring = job
        for seat in sorted(self._seats, key=lambda seat: len(seat.held)):
            if self._measured and seat.is_idle:
                job = self._measured.popleft()
                seat.tell(job.number, "begin", job)

    def _hear(self, seat: Seat) -> None:
        """Handle the result of a finished remote call."""
        import ray

        try:
            found = seat.collect()
        except ray.exceptions.RayError as error:
            self._lose(seat, f"its actor is gone ({' '.join(str(error).split())[:200]})")
            return
        if isinstance(found, Trial):
            self._know(found)
        elif isinstance(found, AtRung | Done):
            self._events.append(found)
            if isinstance(found, AtRung):
                seat.held.add(found.number)

    def _know(self, found: Trial) -> None:
        """Queue a measured job for training, or report it done if it was screened or failed."""
        job, self._measuring = self._measuring, None
        if found.state is State.COMPLETE and job is not None:
            known, seconds = found.measurements, found.seconds
            self._measured.append(replace(job, known=known, seconds=seconds))
        else:
            self._events.append(Done(found))

    def _ask_round(self) -> None:
        """Query the progress of working actors, and replace silent ones."""
        for seat in self._crew:
            if seat.at is None:
                continue
            if said := seat.says():
                self._announce(said)
            if time.monotonic() - seat.heard > self.silence_s:
                self._lose(seat, f"its actor gave no sign of life for {self.silence_s:g} s")

    def _lose(self, seat: Seat, reason: str) -> None:
        """Report the losses of an actor and replace it."""
        if not any(one.is_loaded for one in self._crew) and seat.failed_to_load():
            raise BadInput(f"no worker could start on the cluster: {reason}")
        self._events.extend(seat.losses(reason))
        if seat is self._measurer:
            self._measuring = None
        seat.renew()

    def _connect(self) -> None:
        """Connect to the cluster.

        Raises:
            BadInput: Ray is not installed, or the cluster cannot be reached.
        """
        try:
            import ray
        except ImportError as error:
            raise BadInput('RayEngine needs Ray: pip install "protege[ray]"') from error
        self._is_ours = not ray.is_initialized()
        if not self._is_ours:
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
            reason = " ".join(str(error).split())[:200]
            raise BadInput(
                f"Ray cluster {self.address!r}: not reached ({reason}); start one with "
                "`ray start --head`, and give its address"
            ) from error

    def _room(self) -> int:
        """Return the number of jobs that the nodes have room for.

        Raises:
            BadInput: No node has room for one.
        """
        import ray

        known: Any = ray
        nodes = [node["Resources"] for node in known.nodes() if node["Alive"]]
        found = sum(
            int(min(node.get("CPU", 0) // self.cpus, *self._by_gpus(node))) for node in nodes
        )
        if not found:
            raise BadInput(
                f"no node of the cluster has {self.cpus} CPUs and {self.gpus:g} GPUs; declare "
                f"less: they have {nodes}"
            )
        return found

    def _by_gpus(self, node: Mapping[str, float]) -> list[float]:
        return [node.get("GPU", 0) // self.gpus] if self.gpus else [math.inf]

    def _where_to_measure(self) -> dict[str, Any]:
        """Return the Ray options that place the measuring actor."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self.measures_on:
            return {"num_cpus": 0, "resources": dict(self.measures_on)}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return {"num_cpus": 0, "scheduling_strategy": here}
