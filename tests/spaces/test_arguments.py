from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protege.spaces import BadInput, Choice, Greedy, Range, SearchSpace, Teacher
from protege.spaces.arguments import checks_arguments, checks_fields


@checks_fields
@dataclass(frozen=True)
class Declared:
    size: int
    share: float | None = None
    name: str = ""
    folder: str | Path = ""


@checks_arguments
def called(first: int, *, second: float = 1.0) -> float:
    return first * second


def anything(value: object) -> Any:
    """A value whose type no checker knows."""
    return value


def declare(*values: Any, **named: Any) -> Declared:
    return Declared(*values, **named)


def call(*values: Any, **named: Any) -> float:
    return called(*values, **named)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: declare(sise=3), r"Declared\(sise=...\): did you mean size=\? Declared takes "),
        (lambda: declare(3, colour=3), r"Declared\(colour=...\): there is no such argument; "),
        (declare, "Declared: missing a required argument: 'size'; Declared takes size, "),
        (lambda: declare(1, 2, "a", "b", 5), "Declared: too many positional arguments; "),
        (lambda: declare("3"), "size='3': expected a whole number"),
        (lambda: declare(3, "0.5"), "share='0.5': expected a number or None"),
        (lambda: declare(3, name=4), "name=4: expected text in quotes"),
        (lambda: declare(3, folder=4), "folder=4: expected a path, or text in quotes"),
        (lambda: replace(Declared(3), size=anything("x")), "size='x': expected a whole number"),
        (lambda: call(1, secnd=2), r"called\(secnd=...\): did you mean second=\?"),
        (call, "called: missing a required argument: 'first'; called takes first, "),
        (lambda: call("1"), "first='1': expected a whole number"),
    ],
)
def test_a_wrong_argument_is_told_with_what_to_give(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadInput, match=f"^{message}"):
        make()


def test_right_arguments_go_through() -> None:
    assert Declared(3, None, "a", Path("b")) == Declared(size=3, name="a", folder=Path("b"))
    assert replace(Declared(3), share=0.5).share == 0.5
    assert call(2, second=1.5) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchSpace(**anything({"layer": 0.5})), r"did you mean layers=\?"),
        (lambda: SearchSpace(layers=anything("half")), "layers='half': expected a ratio above 0"),
        (lambda: SearchSpace(layers=anything(None)), "layers=None: expected a ratio above 0"),
        (lambda: SearchSpace(multiple_of=anything("8")), "multiple_of='8': expected a whole"),
        (
            lambda: SearchSpace(layer_policy=anything("greedy")),
            r"layer_policy='greedy': expected a policy, such as Closest\(\)",
        ),
        (
            lambda: SearchSpace(layer_policy=Choice(anything(Greedy))),
            r"layer_policy=Greedy: expected a policy, such as Closest\(\)",
        ),
        (
            lambda: SearchSpace(width_policy=anything("surgeon")),
            r"width_policy='surgeon': expected a policy, such as Surgeon\(\)",
        ),
        (lambda: Range(anything("0.1"), 1.0), "low='0.1': expected a number"),
        (lambda: anything(Range)(0.5), "Range: missing a required argument: 'high'"),
        (lambda: anything(Teacher)("bert"), r"; Teacher.load\(source\) loads one$"),
        (lambda: Teacher.load(anything(None)), "source=None: expected a path, or text in quotes"),
        (lambda: anything(Teacher.load)("x", taks="a"), r"did you mean task=\?"),
    ],
)
def test_the_first_mistakes_with_spaces_and_teachers_say_what_to_write(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        make()
