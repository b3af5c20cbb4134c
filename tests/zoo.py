"""The tiny teachers as parameters: one of each family in every run, all of them in the full one."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest

from protege.spaces import Teacher, family_of
from tests.tiny import ZOO, Case


def flows(names: list[str]) -> list[str]:
    """Return of these cases those whose residual streams run differently.

    The first of each model type, configuration and model class, and one more where the head of an
    encoder-decoder feeds its decoder by itself.
    """
    found: dict[tuple[object, ...], str] = {}
    for name in names:
        case = ZOO[name]
        feeds = case.config.is_encoder_decoder and case.task.endswith(
            ("classification", "answering")
        )
        found.setdefault((case.model_type, str(case.fields), case.model_class, feeds), name)
    return list(found.values())


FLOWS = flows(list(ZOO))
"""The cases that a property of the body is tested on; heads are alike in it."""

READERS = [name for name in ZOO if "vocab_size" in family_of(ZOO[name].model_type).knobs]
"""The cases that read tokens."""


def family(case: Case) -> object:
    """Return the name of the family of a case."""
    return family_of(case.model_type).name


def head(case: Case) -> object:
    """Return the task of a case."""
    return case.task


def marked(
    given: Iterable[str | tuple[str, str]], by: Callable[[Case], object] = family
) -> list[Any]:
    """Return names, or tuples that begin with one, as test parameters.

    Of each family, or of each head, the first name among them is quick, the others are slow.
    """
    rows = [(one,) if isinstance(one, str) else one for one in given]
    first: dict[object, str] = {}
    for name, *_ in rows:
        first.setdefault(by(ZOO[name]), name)
    quick = {*first.values()}
    return [pytest.param(*row, marks=[] if row[0] in quick else pytest.mark.slow) for row in rows]


EVERY = marked(list(ZOO))
"""Every case, where a property may differ from head to head."""


@cache
def teacher_of(name: str) -> Teacher:
    """Return the teacher of a case, built once; tests leave it as it is."""
    return ZOO[name].teacher()
