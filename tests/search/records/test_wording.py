"""The line that a trial leaves when it ends."""

from dataclasses import replace
from typing import Any

import pytest

from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.records.wording import outcome

SIZES = {"num_hidden_layers": 3, "hidden_size": 384, "num_attention_heads": 12}
DONE = Trial(
    15,
    "key",
    {**SIZES, "intermediate_size": 384},
    State.COMPLETE,
    {
        "latency_ms": Measurement(13.512, details={"speedup": 3.398}),
        "retention": Measurement(0.8483),
    },
)
NAMES = ("latency_ms", "retention", "size_mb")


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ({"on_front": True}, "on the front"),
        ({"on_front": False}, "dominated"),
        ({"on_front": True, "is_teacher": True}, "the teacher"),
    ],
)
def test_a_complete_trial_has_its_figures_and_its_place(given: dict[str, Any], end: str) -> None:
    figures = "latency_ms 13.5, retention 0.848, 3.40 times faster"
    assert outcome(DONE, NAMES, **given) == f"3x384-h12-f384-t15: {figures}; {end}"


def test_a_trial_that_was_not_completed_has_the_reason() -> None:
    screened = replace(DONE, state=State.SCREENED, measurements={}, reason="size_mb 90 > 80")
    line = "3x384-h12-f384-t15: screened: size_mb 90 > 80"
    assert outcome(screened, NAMES, on_front=False) == line
    stopped = replace(DONE, state=State.STOPPED, reason="dominated at step 7")
    assert outcome(stopped, NAMES, on_front=False).endswith("; stopped: dominated at step 7")
