"""Describe exceptions as text that can be stored, sent and compared, whatever they are."""

import logging
import re
import traceback
from dataclasses import dataclass, replace

from protege.search.records.plain import printable
from protege.search.records.trial import State, Trial
from protege.spaces import Architecture, BadInput, DiskFull, ProtegeError, Unavailable
from protege.spaces.errors import text_of, without_secrets
from protege.spaces.files.atomic import has_no_room

_LOG = logging.getLogger("protege")

MESSAGE_CHARACTERS = 1000
TRACEBACK_CHARACTERS = 12_000

FIRST_ALIKE = 5
"""Identical failures in a row that end a study in which no student has succeeded yet."""

ALIKE = 10
"""Identical failures in a row that end any study."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Attributes:
        reason: The type and the message of the exception, in one line of bounded length.
        traceback: Its traceback, of bounded length.
    """

    reason: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception, also one whose ``__str__`` raises."""
        lines = without_secrets(_traceback_of(error)).strip()
        return cls(
            f"{type(error).__name__}: {message(error)}", shortened(lines, TRACEBACK_CHARACTERS)
        )

    def ending(self, trial: Trial, what: str) -> Trial:
        """Return the record of a trial that was measured and then failed."""
        reason = f"{what}: {self.reason}"
        return replace(trial, state=State.FAILED, reason=reason, traceback=self.traceback)

    def trial(self, number: int, architecture: Architecture) -> Trial:
        """Return the record of a trial that failed before anything was measured."""
        own = architecture
        return Trial(
            number,
            own.key(),
            own.fields(),
            State.FAILED,
            {},
            reason=self.reason,
            traceback=self.traceback,
        )


@dataclass
class FailureStreak:
    """Count the trials in a row that failed for the same reason.

    Reasons are compared without their numbers: those are shapes, addresses and sizes.
    """

    count: int = 0
    reason: str = ""

    def add(self, trial: Trial) -> None:
        """Count a trial that has ended; a screened one says nothing either way."""
        if trial.state is State.SCREENED:
            return
        if trial.state is not State.FAILED:
            self.count, self.reason = 0, ""
            return
        is_alike = self.count and _without_numbers(trial.reason) == _without_numbers(self.reason)
        self.count, self.reason = (self.count + 1 if is_alike else 1), trial.reason

    def check(self, *, has_succeeded: bool) -> None:
        """Raise if enough trials in a row failed for the same reason.

        Args:
            has_succeeded: Whether any student of the study was measured.

        Raises:
            ProtegeError: They did.
        """
        if self.count >= (ALIKE if has_succeeded else FIRST_ALIKE):
            raise ProtegeError(
                f"{self.count} trials in a row failed for the same reason: {self.reason}; mend it, "
                "then run the same line again; failed trials are not repeated, so give the study "
                "another name to try these again"
            )


def ends_study(error: BaseException, *, of_teacher: bool) -> bool:
    """Return whether an exception in one trial concerns all of them.

    Args:
        error: The exception.
        of_teacher: Whether the trial is the teacher's own, which comes first: what is wrong with
            its input is wrong for every student.
    """
    if has_no_room(error) or isinstance(error, DiskFull | Unavailable):
        return True
    return of_teacher and isinstance(error, BadInput)


def plain(error: Exception) -> ProtegeError:
    """Return an error of the same meaning that every process can unpickle."""
    kinds: tuple[type[ProtegeError], ...] = (DiskFull, Unavailable, BadInput)
    found = Failure.of(error)
    kind = next((one for one in kinds if isinstance(error, one)), ProtegeError)
    text = message(error) if isinstance(error, ProtegeError) else found.reason
    told = kind(text)
    if kind is ProtegeError:
        told.add_note(found.traceback)  # printed below the traceback of the process that raises it
    return told


def warn(trial: Trial) -> None:
    """Log a failure, its traceback at the level of debugging, or what training made worse."""
    if trial.state is State.FAILED:
        _LOG.warning("protege: trial %d failed: %s", trial.number, trial.reason)
        _LOG.debug("%s", trial.traceback)
    if trial.harmed:
        _LOG.warning("protege: trial %d (%s): %s", trial.number, trial.label, trial.harm)


def message(error: BaseException) -> str:
    """Return the message of an exception as one line of printable characters."""
    line = " ".join(shortened(without_secrets(text_of(error)), 10 * MESSAGE_CHARACTERS).split())
    return shortened(printable(line), MESSAGE_CHARACTERS)


def shortened(text: str, most: int) -> str:
    """Return the text without its middle where it has more characters than that."""
    if len(text) <= most:
        return text
    head, left_out = most // 4, len(text) - most
    return f"{text[:head]} [... {left_out} characters ...] {text[head - most :]}"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception that cannot be formatted as a whole
        return "".join(traceback.format_tb(error.__traceback__))


def _without_numbers(reason: str) -> str:
    return re.sub(r"0x[0-9a-fA-F]+|\d+(\.\d+)?", "#", reason)
