"""Jobs on many machines: actors of a Ray cluster, and one of them that measures."""

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

from protege.objectives import Cost
from protege.search.engines.engine import AtRung, Done, Event, Job
from protege.search.engines.seat import Seat
from protege.search.engines.task import Task, prepare
from protege.search.records.trial import State, Trial
from protege.spaces import BadInput
from protege.spaces.files.atomic import remove

ASKS_S = 2.0
"""How often actors are asked what they are at."""


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep a handler of SIGTERM through the block: Ray would set one that ends the process."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@dataclass
class RayEngine:
    """Jobs on the nodes of a Ray cluster, which share the run folder.

    Every job is at work in an actor, placed by what it declares. What is cheaper than training,
    latency above all, is measured by one more actor, alone, on the node declared for it. A job
    whose actor or node is gone is begun again on another one, from its last checkpoint.

    Attributes:
        address: Of the cluster, as `ray.init` takes it: ``auto``, ``host:6379``,
            ``ray://host:10001``; empty starts one on this machine.
        jobs: How many at once; 0: as many as the cluster has room for.
        cpus: That a job takes; it computes with as many threads.
        gpus: That a job takes.
        measures_on: Ray resources of the node that measures, such as ``{"pi": 1}``; without any it
            is the node that the study runs on.
        synchronous: Whether all come to a halt before any is gone on with.
        silence_s: An actor that gives no sign of life for so many seconds is ended.

    Raises:
        BadInput: A number is not above 0.
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
        if any(objective.cost is Cost.SECONDS for objective in task.objectives):
            self._measurer = Seat(self._where_to_measure(), path, self.cpus)
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}
        self._seats = [Seat(options, path, self.cpus) for _ in range(self.jobs)]
        self._idle()

    def free(self, number: int | None = None) -> bool:
        idle = self._idle()
        if number is None:
            return len(idle) > self._between
        holder = self._holder(number)
        # whose actor is gone nobody waits for: it will be heard of
        return holder is None or (holder.is_idle and len(idle) > self._between)

    def submit(self, job: Job) -> None:
        if self._measurer is None or job.known:
            self._measured.append(job)
        else:
            self._unmeasured.append(job)
        self._set_to_work()

    def answer(self, number: int, *, goes_on: bool) -> None:
        seat = self._holder(number)
        if seat is not None:  # if its actor is gone `wait_any` tells so next
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
            return  # it was never reached
        for seat in self._crew:
            seat.kill()
        self._seats, self._measurer, self._measuring = [], None, None
        for left in (self._unmeasured, self._measured, self._events):
            left.clear()
        if self._is_ours:
            ray.shutdown()

    def _holder(self, number: int) -> Seat | None:
        """Whose actor holds a job that has halted; nobody if it is gone."""
        return next((seat for seat in self._seats if number in seat.held), None)

    @property
    def _crew(self) -> list[Seat]:
        return [*self._seats, *([self._measurer] if self._measurer else [])]

    @property
    def _between(self) -> int:
        """Jobs that will want a seat: those that wait to be measured, are, or were."""
        return len(self._unmeasured) + (self._measuring is not None) + len(self._measured)

    def _idle(self) -> list[Seat]:
        """Seats that could be set to work; where nobody is at work it waits for one."""
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
        """Whoever waits for what is there to be done."""
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
        """Take note of what came of what an actor was told to."""
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
        """What was measured goes along with its job, unless that is its end."""
        job, self._measuring = self._measuring, None
        if found.state is State.COMPLETE and job is not None:
            known, seconds = found.measurements, found.seconds
            self._measured.append(replace(job, known=known, seconds=seconds))
        else:
            self._events.append(Done(found))

    def _ask_round(self) -> None:
        """Ask whoever is at work what it is at, and end whoever has long said nothing."""
        for seat in self._crew:
            if seat.at is None:
                continue
            if said := seat.says():
                self._announce(said)
            if time.monotonic() - seat.heard > self.silence_s:
                self._lose(seat, f"its actor gave no sign of life for {self.silence_s:g} s")

    def _lose(self, seat: Seat, reason: str) -> None:
        """Put another actor in the place of one that is gone, or of no use."""
        if not any(one.is_loaded for one in self._crew) and seat.failed_to_load():
            raise BadInput(f"no worker could start on the cluster: {reason}")
        self._events.extend(seat.losses(reason))
        if seat is self._measurer:
            self._measuring = None
        seat.renew()

    def _connect(self) -> None:
        """Reach the cluster.

        Raises:
            BadInput: Ray is not installed, or there is no cluster.
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
        """How many jobs the nodes have room for.

        Raises:
            BadInput: Not for one.
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
        """What places the actor that measures."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if self.measures_on:
            return {"num_cpus": 0, "resources": dict(self.measures_on)}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return {"num_cpus": 0, "scheduling_strategy": here}
