"""The model families that students can be cut from: one table each."""

from protege.spaces.errors import Unsupported
from protege.spaces.families.bert import BERT
from protege.spaces.families.family import Family
from protege.spaces.families.llama import LLAMA

FAMILIES = (BERT, LLAMA)


def family_of(model_type: str) -> Family:
    """The family of a configuration's ``model_type``.

    Raises:
        Unsupported: No family has it.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise Unsupported(
        f"model type {model_type!r} is not supported; supported are: {known}. "
        "CONTRIBUTING.md tells how to add a family"
    )


__all__ = ["BERT", "FAMILIES", "LLAMA", "Family", "family_of"]
