"""What a full training takes over from its study: losses, settings, objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import protege.objectives
from protege.objectives import Distillation, Examples, Images, Objective, Speech, Texts
from protege.search.handover.checkpoint import RATES, TAKEN
from protege.spaces import BadInput, Cache, Task, Teacher

OF_PICTURES = {Task.IMAGES, Task.IMAGE_FEATURES}


class Declared(Protocol):
    """The declaration of a study, if it is at hand; see `protege.search.Search`."""

    @property
    def teacher(self) -> Teacher: ...
    @property
    def answers_from(self) -> Teacher | None: ...
    @property
    def objectives(self) -> Sequence[Objective]: ...
    @property
    def distillation(self) -> Distillation | None: ...
    @property
    def cache(self) -> Cache: ...


def settings_of(document: Mapping[str, Any] | None, data: Examples) -> Distillation:
    """Return the settings of a study's distillation with other data.

    Args:
        document: The distillation in the study's identity, or in a student's ``protege.json``;
            None if its students were not distilled, which leaves the defaults.
        data: The data to train on.

    Raises:
        BadInput: A loss was defined outside protege.
    """
    known = {name: _value(one) for name, one in (document or {}).items() if name in TAKEN + RATES}
    return Distillation(data, **known)


def _value(given: Any) -> Any:
    """Rebuild a declared value from its document; see `protege.search.session.identity`."""
    if isinstance(given, list):
        return tuple(map(_value, given))
    if not isinstance(given, Mapping):
        return given
    kind = getattr(protege.objectives, str(given.get("kind")), None)
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise BadInput(
            f"loss {given.get('kind')!r}: not one of protege's; give the study file in place of "
            "the folder"
        )
    names = {one.name for one in fields(kind)}
    return kind(**{name: _value(one) for name, one in given.items() if name in names})


def data_in(
    path: Path,
    teacher: Teacher,
    text: str = "text",
    label: str | None = None,
    pair: str | None = None,
) -> Examples:
    """Read the data that a teacher's students learn from.

    Args:
        path: A file of texts, or for images and speech a folder.
        teacher: The teacher.
        text: The column of the texts.
        label: The column of the labels.
        pair: The column of the second text of each pair.

    Raises:
        BadInput: See `Texts.from_file`, `Images.from_folder` and `Speech.from_folder`.
    """
    if teacher.task in OF_PICTURES:
        return Images.from_folder(path)
    if teacher.task is Task.SPEECH:
        return Speech.from_folder(path)
    return Texts.from_file(path, text, label, pair=pair)
