"""Exceptions of every kind as text, and how many alike end a study."""

import json
import pickle
from threading import Lock
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.search import State
from protege.search.records.failure import (
    ALIKE,
    FIRST_ALIKE,
    MESSAGE_CHARACTERS,
    TRACEBACK_CHARACTERS,
    Failure,
    FailureStreak,
    ends_study,
    message,
    plain,
)
from protege.spaces import BadInput, DiskFull, ProtegeError, Unavailable
from tests.search.toys import OWN, record


class Unreadable(Exception):
    """Its message cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no message")


class Unpicklable(BadInput):
    """Needs two arguments, and holds what cannot leave its process."""

    def __init__(self, text: str, lock: Any) -> None:
        super().__init__(text)
        self.lock = lock

    def __str__(self) -> str:
        return "locked"


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@given(st.text(st.characters(exclude_categories=[])))
def test_any_message_is_one_printable_line_of_bounded_length(text: str) -> None:
    found = message(ValueError(text))
    assert found.isprintable()
    assert len(found) <= MESSAGE_CHARACTERS + 60
    found.encode("utf-8")


def test_what_is_huge_is_stored_without_its_middle() -> None:
    found = Failure.of(raised(RuntimeError("first " + "x" * 10**6 + " last")))
    assert found.reason.startswith("RuntimeError: first x")
    assert found.reason.endswith("x last")
    assert "characters ..." in found.reason
    assert len(found.reason) < 2 * MESSAGE_CHARACTERS
    assert len(found.traceback) < TRACEBACK_CHARACTERS + 60


def test_a_traceback_names_the_line_and_the_cause() -> None:
    def nested() -> None:
        try:
            OWN.fields()["no such size"]
        except KeyError as error:
            raise OSError("no config") from error

    with pytest.raises(OSError, match="no config") as caught:
        nested()
    found = Failure.of(caught.value)
    assert found.reason == "OSError: no config"
    assert 'OWN.fields()["no such size"]' in found.traceback
    assert found.traceback.endswith("OSError: no config")


def test_an_exception_whose_message_raises_is_still_named() -> None:
    found = Failure.of(raised(Unreadable()))
    assert found.reason == "Unreadable: its message cannot be read: ValueError"
    assert "in raised" in found.traceback
    assert json.loads(json.dumps(found.trial(3, OWN).record()))["traceback"] == found.traceback


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (Unpicklable("x", Lock()), BadInput, "locked"),
        (Unavailable("phone locked"), Unavailable, "phone locked"),
        (DiskFull("no room"), DiskFull, "no room"),
        (ProtegeError("no figure"), ProtegeError, "no figure"),
        (OSError(5, "Input/output error"), ProtegeError, "OSError: [Errno 5] Input/output error"),
        (Unreadable(), ProtegeError, "Unreadable: its message cannot be read: ValueError"),
    ],
    ids=lambda value: getattr(type(value), "__name__", ""),
)
def test_what_is_sent_to_another_process_is_a_plain_error(
    error: Exception, kind: type, text: str
) -> None:
    told = pickle.loads(pickle.dumps(plain(raised(error))))
    assert type(told) is kind
    assert str(told) == text
    assert ("in raised" in "".join(getattr(told, "__notes__", []))) == (kind is ProtegeError)


def streak(*ends: str) -> FailureStreak:
    """Trials that failed for these reasons, or that have another state."""
    found = FailureStreak()
    for number, end in enumerate(ends):
        states = {str(state) for state in State}
        trial = record(number, [1.0], State(end) if end in states else State.FAILED)
        found.add(Failure(end, "").ending(trial, "it") if trial.state is State.FAILED else trial)
    return found


def test_failures_in_a_row_that_differ_in_numbers_alone_are_alike() -> None:
    reasons = [f"RuntimeError: shape ({n}, {n * 2.5}) at 0x7f{n}ab" for n in range(FIRST_ALIKE)]
    found = streak(*reasons)
    with pytest.raises(ProtegeError, match=r"^5 trials in a row failed for the same reason: it: R"):
        found.check(has_succeeded=False)
    found.check(has_succeeded=True)


@pytest.mark.parametrize("between", ["complete", "stopped", "ValueError: another"])
def test_what_comes_between_ends_a_streak(between: str) -> None:
    same = ["TypeError: no"] * (FIRST_ALIKE - 1)
    streak(*same, between, *same).check(has_succeeded=False)


def test_a_screened_trial_does_not_end_a_streak() -> None:
    found = streak(*["IndexError: out of range", "screened"] * ALIKE)
    with pytest.raises(ProtegeError, match="10 trials in a row"):
        found.check(has_succeeded=True)


def test_a_chain_of_causes_without_end_is_no_full_disk() -> None:
    first, second = OSError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert not ends_study(first, of_teacher=False)


def test_a_password_is_in_neither_reason_nor_traceback() -> None:
    found = Failure.of(raised(OSError("no route to postgresql://me:hunter2@host/study")))
    assert "hunter2" not in found.reason + found.traceback
    assert "host/study" in found.reason
