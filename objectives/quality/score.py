"""Score: a student's quality by a function of the user."""

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt
import torch

from protege.objectives.candidate import Candidate
from protege.objectives.machine.lock import shared_machine
from protege.objectives.measurement import Direction, Measurement, Stage
from protege.objectives.quality.bootstrap import interval
from protege.objectives.quality.timed_call import OutOfTime, call_within, line_of
from protege.spaces import BadInput, DiskFull, ProtegeError, Student, Unavailable
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import text_of
from protege.spaces.files.atomic import has_no_room

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

WANTED = "a number, or one number per example"


@checks_fields
@dataclass(frozen=True)
class Score:
    """A student's quality by your own function, such as a metric on your test set.

    The function gets a `protege.spaces.Student` and returns a number, or one number for each
    example of its data, in the same order for every student. Then the value is their mean, with a
    standard error and a bootstrap interval, and students are compared example by example. It may
    also return a `Measurement`, for a value with a standard error of its own.

    It runs on the published student at the end of a trial, or with ``at_rungs=True`` at every rung
    of the training: trials race by it, and the first such objective of a study selects the
    published weights. It must leave the student as it is. No latency is measured on its machine
    while it runs. With several jobs it runs in worker processes, so it must be importable, or hold
    nothing that cannot be pickled.

    An exception fails the trial with the line of your code, and the study goes on; so do values
    that are not finite or of the wrong shape. A function that fails on the teacher itself, which is
    scored first, ends the study.

    A function that takes longer than ``timeout_s`` is interrupted, and its trial fails. Python code
    ends at once. A call of compiled code or of the system cannot be interrupted: the trial ends
    without it, and a worker process is replaced, so that the call ends too. In the study's own
    process it runs on in the background until it returns. Compiled code that also holds Python's
    global lock stops the study's own process until it returns; a worker process is replaced after
    the engine's ``silence_s``.

    The identity of a study names a function by its module and qualified name, or by the class and
    the fields of a frozen dataclass with ``__call__``. The text of the function and values that a
    closure or a lambda holds are no part of it: after a change there, give the score another name.

    Attributes:
        name: Name of the column; letters, digits and underscores.
        function: Scores a student.
        direction: Whether lower or higher values are better.
        limit: Worst allowed value, in the score's own unit; None means no limit.
        unit: Unit for axis titles.
        at_rungs: Whether it is cheap enough to score students at every rung.
        unseen: The same function on data that the search never uses, for `Search.confirm`.
        timeout_s: Maximum seconds of one call.

    Raises:
        BadInput: The name is no plain word, the direction is unknown, or a function is not one.
    """

    name: str
    function: Callable[[Student], Any]
    direction: Direction = "maximize"
    limit: float | None = None
    unit: str = ""
    at_rungs: bool = False
    unseen: Callable[[Student], Any] | None = field(default=None, compare=False)
    timeout_s: float = field(default=600.0, compare=False)

    stage: ClassVar[Stage] = Stage.STUDENT
    judges_deployed: ClassVar[str] = "encoders"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise BadInput(f"name={self.name!r}: expected letters, digits and underscores")
        if self.direction not in get_args(Direction):
            raise BadInput(f"direction={self.direction!r}: expected 'maximize' or 'minimize'")
        for part in ("function", "unseen"):
            given = getattr(self, part)
            if not callable(given) and (part == "function" or given is not None):
                raise BadInput(f"{part}={given!r}: expected a function of a student")
        if not self.timeout_s > 0:
            raise BadInput(f"timeout_s={self.timeout_s!r}: expected a number above 0")

    def measure(self, candidate: Candidate) -> Measurement:
        """Score the candidate's student.

        Raises:
            ProtegeError: The function failed, took too long, or returned no usable values.
        """
        found = self._called(self.function, candidate)
        measured = self._read(found)
        if measured is not found:  # the examples of a measurement are its function's affair
            self._check_count(len(measured.examples), candidate)
        return measured

    def measure_unseen(self, candidate: Candidate) -> Measurement | None:
        """Score the candidate's student by `unseen`; None without such a function."""
        return None if self.unseen is None else self._read(self._called(self.unseen, candidate))

    def _called(self, function: Callable[[Student], Any], candidate: Candidate) -> Any:
        """Return what a function says of the candidate's student.

        Raises:
            ProtegeError: It failed or took too long.
        """
        student, watch = candidate.student, candidate.stopwatch
        student.module.eval()
        with watch.phase("evaluate"), shared_machine():
            try:
                found, error = call_within(
                    self.timeout_s, lambda: function(student), lambda: watch.show("evaluate")
                )
            except OutOfTime as late:
                why = f"not done after timeout_s={self.timeout_s:g}, at {late}"
                raise self._failed(why) from None
        if error is None:
            return found
        if isinstance(error, DiskFull | Unavailable) or has_no_room(error):
            raise error
        why = f"{type(error).__name__}: {text_of(error)} ({line_of(error)})"
        raise self._failed(why, type(error)) from error

    def _read(self, found: Any) -> Measurement:
        """Convert what the function returned.

        Raises:
            ProtegeError: It is no number, of the wrong shape or not finite.
        """
        if isinstance(found, Measurement):
            if not math.isfinite(found.value):
                raise self._failed(f"its value is {found.value}, not a finite number")
            return found
        values = self._numbers(found)
        bad = np.flatnonzero(~np.isfinite(values))
        if values.ndim == 0:
            if len(bad):
                raise self._failed(f"its value is {values}, not a finite number")
            return Measurement(float(values))
        if values.ndim > 1 or not len(values):
            raise self._failed(f"it returned values of shape {values.shape}; expected {WANTED}")
        if len(bad):
            raise self._failed(
                f"{len(bad)} of {len(values)} values are not finite, the first is {values[bad[0]]} "
                f"at index {bad[0]}"
            )
        return of_examples(values, self.direction)

    def _numbers(self, found: Any) -> Values:
        """Return numbers as an array; see `_read`."""
        kind = f"of type {type(found).__name__}"
        if isinstance(found, Sequence) and not isinstance(found, str | bytes):
            found = [one.item() if _is_scalar(one) else one for one in found]
        elif isinstance(found, torch.Tensor):
            found = found.detach().cpu()
            found = (found.double() if found.is_floating_point() else found).numpy()
        elif not isinstance(found, int | float) and not hasattr(found, "__array__"):
            raise self._failed(f"it returned {kind}; expected {WANTED}")
        with suppress(ValueError, TypeError):  # of rows of different lengths
            values = np.asarray(found)
            if values.dtype.kind in "biuf" or not values.size:
                return values.astype(np.float64)
            kind += f" with {values.dtype} in it"
        raise self._failed(f"it returned {kind}; expected {WANTED}")

    def _check_count(self, count: int, candidate: Candidate) -> None:
        """Check that a student has as many values as the teacher, whose trial comes first.

        Raises:
            ProtegeError: It has not.
        """
        key = {"teacher": candidate.teacher.fingerprint, "score": self.name}
        if candidate.is_teacher:
            candidate.cache.path("score", key, "json").unlink(missing_ok=True)
        known = candidate.cache.record("score", key, lambda: {"examples": count})["examples"]
        if count != known:
            raise self._failed(
                f"it returned {count} values, and {known} before; expected one for each example, "
                "the same examples in the same order for every student"
            )

    def _failed(self, why: str, kind: type[BaseException] = ProtegeError) -> ProtegeError:
        made = BadInput if issubclass(kind, BadInput) else ProtegeError
        return made(f"score {self.name!r}: {why}")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim == 0


def of_examples(values: Values, direction: Direction = "maximize") -> Measurement:
    """Return the mean of one value per example, with its standard error and bootstrap interval.

    Args:
        values: ``(examples,)``, finite.
        direction: Whether lower or higher values are better.
    """
    count = len(values)
    spread = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    low, high = interval(values.tolist())
    worth = values if direction == "maximize" else 0.0 - values
    return Measurement(
        float(values.mean()),
        spread,
        details={"low": low, "high": high},
        examples=tuple(float(f"{one:.6g}") for one in worth),
    )


def of_statistic(
    statistic: Callable[[Indices], float],
    count: int,
    direction: Direction = "maximize",
    groups: int = 200,
) -> Measurement:
    """Return a statistic that is no mean, with its standard error by the grouped jackknife.

    The statistic is computed again without each of at most ``groups`` groups of examples (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11). The pseudo-values of the groups
    take the place of the examples: students are compared group by group.

    Args:
        statistic: Returns the statistic of the examples with these indices.
        count: Number of examples.
        direction: Whether lower or higher values are better.
        groups: Maximum number of groups.
    """
    every = np.arange(count)
    whole, parts = float(statistic(every)), min(count, groups)
    if parts < 2 or not math.isfinite(whole):
        return Measurement(whole)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        without = np.array([statistic(every[every % parts != part]) for part in range(parts)])
    if not np.isfinite(without).all():
        return Measurement(whole)
    found = of_examples(parts * whole - (parts - 1) * without, direction)
    ends = {name: float(end) + whole - found.value for name, end in found.details.items()}
    return replace(found, value=whole, details=ends)
