import pytest

from protege.objectives.latency import Workload
from protege.spaces.errors import BadInput


@pytest.mark.parametrize(
    ("sizes", "complaint"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"prompt_tokens": -3}, "prompt_tokens must be a whole number of at least 1, not -3"),
        ({"new_tokens": -1}, "new_tokens must be a whole number of at least 0, not -1"),
        ({"prompt_tokens": 1.5}, r"prompt_tokens must be a whole number of at least 1, not 1\.5"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, not True"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused_by_name(
    sizes: dict[str, int], complaint: str
) -> None:
    with pytest.raises(BadInput, match=complaint):
        Workload(**sizes)


def test_a_workload_asks_for_no_new_tokens_unless_told() -> None:
    assert Workload() == Workload(batch_size=1, prompt_tokens=128, new_tokens=0)
