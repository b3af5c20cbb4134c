"""The table of all families that students may be of beside their teacher's own."""

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput, Unsupported
from protege.spaces.others.images import IMAGES
from protege.spaces.others.kinds import Kind
from protege.spaces.others.texts import TEXTS

_KINDS: dict[str, Kind] = {one.model_type: one for one in (*TEXTS, *IMAGES)}


def register_kinds(*kinds: Kind) -> None:
    """Make families known, so that an `OtherFamily` may name them."""
    _KINDS.update({one.model_type: one for one in kinds})


def kind_of(model_type: str) -> Kind:
    """Return the family of a ``model_type``.

    Raises:
        BadInput: It is unknown.
    """
    if model_type not in _KINDS:
        raise BadInput(
            f"other family {model_type!r}: expected one of {', '.join(sorted(_KINDS))}; a further "
            "one is declared by a Kind and register_kinds"
        )
    return _KINDS[model_type]


def is_other(architecture: Architecture) -> bool:
    """Return whether an architecture is of a family that is declared here."""
    return names_other(architecture.model_type)


def names_other(model_type: str) -> bool:
    """Return whether a ``model_type`` names a family that is declared here."""
    return model_type in _KINDS


def other_families() -> list[str]:
    """Return the ``model_type`` of every family, in the order of the table."""
    return [*_KINDS]


def check_task(kind: Kind, task: Task) -> None:
    """Check that a family has models for a task.

    Raises:
        Unsupported: It has not.
    """
    if task not in kind.tasks:
        able = ", ".join(sorted(name for name, one in _KINDS.items() if task in one.tasks))
        raise Unsupported(
            f"other family {kind.model_type!r} ({kind.does}): it has no model for {task}; "
            + (f"families that have: {able}" if able else "no other family has")
        )
