"""A precision has the same name wherever one is given, and a short name is told the right one."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from protege.objectives import Distillation, LocalCPU, Memory, Texts
from protege.spaces import BadInput

TAKERS: dict[str, Callable[..., Any]] = {
    "Distillation": partial(Distillation, Texts.of(["one", "two"])),
    "LocalCPU": LocalCPU,
    "Memory": Memory,
}


@pytest.mark.parametrize("made", TAKERS.values(), ids=TAKERS)
@pytest.mark.parametrize(
    ("short", "right"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_a_short_name_is_told_the_right_one(
    made: Callable[..., Any], short: str, right: str
) -> None:
    with pytest.raises(BadInput, match=rf"precision='{short}'.*: write '{right}'; expected one of"):
        made(precision=short)


@pytest.mark.parametrize("made", TAKERS.values(), ids=TAKERS)
def test_an_unknown_name_is_told_those_there_are(made: Callable[..., Any]) -> None:
    with pytest.raises(BadInput, match=r"precision='fp8'.*: expected one of .*float32, bfloat16"):
        made(precision="fp8")
    assert made(precision="float32").precision == "float32"
