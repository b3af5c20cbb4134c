from collections.abc import Callable

import pytest
import torch
import transformers

from protege.objectives.latency import LocalCPU, Plan, Unmeasured, Workload
from protege.objectives.latency.target import Target
from protege.spaces.blueprint import Blueprint
from protege.spaces.errors import BadInput


@pytest.mark.parametrize("threads", [0, 10_000])
def test_threads_beyond_the_cores_are_refused(threads: int) -> None:
    with pytest.raises(BadInput, match=rf"threads must be 1 to \d+, .* not {threads}$"):
        LocalCPU(threads)


def test_the_description_names_all_that_a_time_depends_on() -> None:
    target: Target = LocalCPU()
    description = target.description()
    assert description["threads"] == 1
    assert description["cpu"]
    assert description["versions"]["torch"] in torch.__version__
    assert description["versions"]["transformers"] == transformers.__version__


def test_a_model_that_cannot_run_is_an_error_that_says_why(
    encoder: Callable[[int], Blueprint], brief: Plan
) -> None:
    with pytest.raises(Unmeasured, match=r"^BertModel could not be timed: \w+Error: "):
        LocalCPU().trace([encoder(1)], Workload(1, 64), brief)


def test_a_model_that_never_answers_is_given_up(
    encoder: Callable[[int], Blueprint],
) -> None:
    hung = Plan(deadline_s=0.001)
    with pytest.raises(Unmeasured, match=r"in 3 tries: no answer within 0\.001 s"):
        LocalCPU().trace([encoder(1)], Workload(1, 4), hung)
