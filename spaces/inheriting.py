"""Weights from a finished student instead of the teacher, where all that is kept is in it."""

import json
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.errors import BadInput
from protege.spaces.space.space import SearchSpace
from protege.spaces.students.cut import cut
from protege.spaces.students.pinned import pinned
from protege.spaces.students.selection import Kept, KeptLayer, Units
from protege.spaces.students.student import MANIFEST, Student
from protege.spaces.teacher import Teacher

Key = TypeVar("Key", bound=Hashable)


def nearest(
    space: SearchSpace, architecture: Architecture, finished: Mapping[Key, Architecture]
) -> list[Key]:
    """The finished students that may have all that an architecture keeps, the nearest first.

    Those that are smaller in some size are left out; whether the units of the others are the right
    ones only `inherited` can say. Of those equally near the first given comes first.

    Args:
        space: What they are members of; it says how far apart two of them are.
        architecture: The one to find weights for.
        finished: Architectures of finished students, by whatever they are found under.
    """
    larger = [key for key, other in finished.items() if _holds(other, architecture)]
    return sorted(larger, key=lambda key: space.distance(architecture, finished[key]))


def _holds(one: Architecture, other: Architecture) -> bool:
    """Whether one is no smaller than the other in any size."""
    sizes = one.sizes()
    return all(sizes.get(name, 0) >= size for name, size in other.sizes().items())


def inherited(
    teacher: Teacher, folder: str | Path, architecture: Architecture, kept: Kept
) -> Student | None:
    """The student that keeps exactly these units, with the weights of a finished one.

    It is the plain cut but for its weights: manifest, configuration, tokens and pooling are those
    that `Teacher.student_of` gives it, unhealed. A finished student that was saved as it was cut
    passes on just what the teacher would.

    Args:
        teacher: The teacher of both.
        folder: Where the finished student was saved.
        architecture: The sizes and policies of the new one.
        kept: What it keeps of the teacher.

    Returns:
        The student; none where the finished one lacks a unit that it keeps, or has units that are
        not the teacher's: its residual stream is turned, or its weights were drawn.

    Raises:
        BadInput: There is no student of protege's in the folder.
    """
    theirs = _read(Path(folder))
    places = None if theirs is None or kept.turned else _within(kept, theirs)
    if places is None:
        return None
    finished = Teacher.load(Path(folder), task=teacher.task)
    plain = replace(pinned(architecture, kept), healing="none")
    student = replace(teacher.student_of(plain, kept), architecture=architecture)
    tensors = cut(finished.model.state_dict(), finished.layout, places)
    for name, tensor in student.model.state_dict().items():
        tensor.copy_(tensors[name])
    _pass_on_projection(student, finished, places.hidden)
    return student


def _pass_on_projection(student: Student, finished: Teacher, hidden: Units) -> None:
    """Have the student's projection, if it has one, read its channels as the finished one's does.

    A finished student as wide as its teacher has none to pass on where the teacher has none.
    """
    mine = None if student.embedder is None else student.embedder.projection
    theirs = None if finished.pooling is None else finished.pooling.projection
    if mine is not None and theirs is not None:
        with torch.no_grad():
            mine.weight.copy_(theirs[0][:, list(hidden)])
            mine.bias.copy_(theirs[1])


def _read(folder: Path) -> Kept | None:
    """What the student in a folder keeps of its teacher; none where its units are not those.

    Raises:
        BadInput: There is no manifest in the folder.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise BadInput(f"{folder}: no {MANIFEST} in it; expected the folder of a saved student")
    entries: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    own = entries["kept"]
    if "initialised" in entries or own["hidden"] == "rotated":
        return None
    stacks = {
        stack: tuple(
            KeptLayer(layer["layer"], {n: _units(u) for n, u in layer.items() if n != "layer"})
            for layer in layers
        )
        for stack, layers in own["stacks"].items()
    }
    vocab = None if own["vocab"] is None else tuple(own["vocab"])
    return Kept(hidden=tuple(own["hidden"]), stacks=stacks, vocab=vocab)


def _units(listed: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list) else one for one in listed)


def _within(kept: Kept, theirs: Kept) -> Kept | None:
    """What is kept, as places among what a finished student keeps; none if some of it is not."""
    try:
        return Kept(
            hidden=_places(kept.hidden, theirs.hidden),
            stacks={s: _layers(mine, theirs.stacks[s]) for s, mine in kept.stacks.items()},
            vocab=_tokens(kept.vocab, theirs.vocab),
        )
    except KeyError:  # the unit that it lacks
        return None


def _layers(mine: tuple[KeptLayer, ...], theirs: tuple[KeptLayer, ...]) -> tuple[KeptLayer, ...]:
    places = {layer.number: place for place, layer in enumerate(theirs)}
    found = []
    for layer in mine:
        place = places[layer.number]
        own = theirs[place].units
        units = {name: _in_layer(name, layer.units, own) for name in layer.units}
        found.append(KeptLayer(place, units))
    return tuple(found)


def _in_layer(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[Any, ...]:
    """The places of one axis' units in a layer; of experts' neurons, within the same expert."""
    if name != "expert_ffn":
        return _places(mine[name], theirs[name])
    by_expert = dict(zip(theirs["experts"], theirs[name], strict=True))
    pairs = zip(mine["experts"], mine[name], strict=True)
    return tuple(_places(neurons, by_expert[expert]) for expert, neurons in pairs)


def _tokens(mine: Units | None, theirs: Units | None) -> Units | None:
    if theirs is None:
        return mine
    if mine is None:
        raise KeyError("all tokens")
    return _places(mine, theirs)


def _places(mine: Units, theirs: Units) -> Units:
    by_unit = {unit: place for place, unit in enumerate(theirs)}
    return tuple(by_unit[unit] for unit in mine)
