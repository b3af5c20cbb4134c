"""The tiny teachers as parameters: one of each flow in every run, all of them in the full one."""

from functools import cache
from typing import Any

import pytest

from protege.spaces import Teacher, family_of
from tests.tiny import ZOO


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


def marked(names: list[str]) -> list[Any]:
    """Return the names as test parameters; those of no flow of their own are slow."""
    return [pytest.param(name, marks=[] if name in FLOWS else pytest.mark.slow) for name in names]


EVERY = marked(list(ZOO))
"""Every case, where a property may differ from head to head."""


@cache
def teacher_of(name: str) -> Teacher:
    """Return the teacher of a case, built once; tests leave it as it is."""
    return ZOO[name].teacher()
