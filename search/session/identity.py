"""The identity of a study, as a document of plain values."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, Protocol

from protege.objectives import Distillation, Examples, Objective, StaticEmbedding
from protege.objectives.machine.precision import Deployment
from protege.search.running.racing import Race
from protege.search.session.deployment import deployment_of
from protege.search.storage.attributes import IDENTITY, store_study_record, study_record
from protege.search.storage.run_folder import RunFolder
from protege.search.storage.storage import OptunaStudy
from protege.spaces import Cache, Mismatch, SearchSpace, Teacher


class SearchDeclaration(Protocol):
    """The declaration of a study; see `protege.search.Search` for its attributes."""

    @property
    def name(self) -> str: ...
    @property
    def teacher(self) -> Teacher: ...
    @property
    def answers_from(self) -> Teacher | None: ...
    @property
    def students(self) -> SearchSpace: ...
    @property
    def objectives(self) -> Sequence[Objective]: ...
    @property
    def baselines(self) -> Sequence[str | Path | StaticEmbedding]: ...
    @property
    def distillation(self) -> Distillation | None: ...
    @property
    def place(self) -> str | Path: ...
    @property
    def run_folder(self) -> RunFolder: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def seed(self) -> int: ...
    @property
    def sampler(self) -> Any: ...
    @property
    def race(self) -> Race | None: ...
    @property
    def artifacts(self) -> str: ...
    @property
    def private(self) -> bool: ...
    @property
    def judged_as(self) -> Deployment | str | None: ...


VERSION = 1
"""Version of the document. Raise it when the same declaration would give another document."""

STUDY_MODULE = "study"
"""Name of the module that a study file is run as by the command line."""

JUDGED_AS = "judged_as"

APART = frozenset({"limit"})
"""Fields that are no part of the identity: limits may be changed when a study is resumed."""


def identity(search: SearchDeclaration) -> dict[str, Any]:
    """Return the identity of a study; it can be resumed only with the same."""
    asked = search.answers_from
    how = deployment_of(search.objectives, search.judged_as)
    return {
        "version": VERSION,
        "teacher": search.teacher.fingerprint,
        **({} if asked is None else {"answers_from": asked.fingerprint}),
        **({} if how is None else {JUDGED_AS: str(how)}),
        "seed": search.seed,
        "space": document(search.students.declaration()),
        "distillation": document(search.distillation),
        "objectives": {one.name: document(one) for one in search.objectives},
    }


def identify(study: OptunaStudy, own: Mapping[str, Any]) -> None:
    """Store the identity of a new study, or compare it with the stored one.

    Raises:
        Mismatch: The study was made with another teacher, data, space or objectives.
    """
    recorded = study_record(study, IDENTITY)
    if not recorded:
        store_study_record(study, IDENTITY, own)
        return
    found = differences(recorded, json.loads(json.dumps(own)))
    if found:
        as_before = ""
        if JUDGED_AS in own and JUDGED_AS not in recorded:
            as_before = f" (it judged in float32: {JUDGED_AS}='float32')"
        raise Mismatch(
            f"study {study.study_name!r} was made otherwise: {'; '.join(found)}; give the study "
            f"another name, or resume it with what it was made with{as_before}"
        )


def differences(recorded: Any, given: Any, path: str = "") -> list[str]:
    """Return a line for each place in which two documents differ."""
    if recorded == given:
        return []
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        names = {**recorded, **given}
        return [
            line
            for name in names
            for line in differences(
                recorded.get(name), given.get(name), f"{path}.{name}" if path else name
            )
        ]
    return [f"{path}: recorded {_shown(recorded)}, given {_shown(given)}"]


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def document(value: Any) -> Any:
    """Return a declared value as JSON values.

    A dataclass becomes its class name and the fields that differ from their defaults, so that a new
    field with a default changes no stored document. Data is named by its fingerprint, functions
    and other objects by where they are defined, not by their text: an edited comment is no other
    study.
    """
    if isinstance(value, Enum):
        return document(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): document(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [document(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((document(one) for one in value), key=json.dumps)
    return _declared(value)


def _declared(value: Any) -> Any:
    """Return the document of a function, of data, of a teacher or of another object."""
    if isinstance(value, partial):
        given = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return {"kind": "partial"} | document(given)
    if isinstance(value, MethodType):
        return {"kind": _named(value), "of": document(value.__self__)}
    if isinstance(value, type) or not is_dataclass(value):
        return _named(value)
    if isinstance(value, Examples | Teacher):
        return {"kind": type(value).__name__, "fingerprint": value.fingerprint}
    chosen = {one.name: document(getattr(value, one.name)) for one in _chosen(value)}
    return {"kind": type(value).__name__, **chosen}


def _chosen(value: Any) -> Iterator[Field[Any]]:
    """Yield the fields of a dataclass that differ from their defaults."""
    for one in fields(value):
        if not one.init or not one.compare or one.name in APART:
            continue
        made: Callable[[], Any] | Any = one.default_factory
        default = one.default if made is MISSING else made()
        if default is MISSING or getattr(value, one.name) != default:
            yield one


def _named(value: Any) -> str:
    """Return a path, or where a function or the class of an object is defined."""
    if isinstance(value, Path):
        return str(value)
    own = value if hasattr(value, "__qualname__") else type(value)
    # `protege run` loads a study file under another name than Python does
    module = "__main__" if own.__module__ == STUDY_MODULE else own.__module__
    return f"{module}.{own.__qualname__}"
