"""The user's data: texts, with labels or without, split once and for all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from protege.spaces import BadInput
from protege.spaces.cache import digest


@dataclass(frozen=True)
class Texts:
    """Texts to distil and judge students on; duplicates are dropped, the first one is kept.

    Attributes:
        texts: The texts.
        labels: The class of each, by number or by the name in the model's ``label2id``; none where
            the teacher's own answers are all there is.
    """

    texts: tuple[str, ...]
    labels: tuple[int | str, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise BadInput(
                f"{len(self.texts)} texts with {len(self.labels)} labels; expected as many"
            )
        first = dict.fromkeys(text for text in self.texts if text.strip())
        if len(first) < 2:
            raise BadInput(
                f"{len(first)} texts: expected at least two different ones, none of them blank"
            )
        if self.labels is not None:
            labelled = dict(zip(reversed(self.texts), reversed(self.labels), strict=True))
            object.__setattr__(self, "labels", tuple(labelled[text] for text in first))
        object.__setattr__(self, "texts", tuple(first))

    @classmethod
    def of(cls, texts: Iterable[str], labels: Iterable[int | str] | None = None) -> "Texts":
        """Texts from any iterable of strings, with as many labels or none."""
        return cls(tuple(texts), None if labels is None else tuple(labels))

    @classmethod
    def from_file(cls, path: str | Path) -> "Texts":
        """Texts from a UTF-8 file.

        Of ``.jsonl``, each line is an object with ``text`` and, in all lines or none, ``label``; of
        any other file, each line is a text.

        Raises:
            BadInput: The file is missing, empty, not UTF-8, or a line of JSON has no text.
        """
        path = Path(path)
        try:
            # only the line's end ends a line: JSON strings may hold the other separators of Unicode
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise BadInput(
                f"{path}: cannot be read ({error.strerror}); expected a text file"
            ) from None
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{path}: not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}); "
                "convert it, for example with iconv -t UTF-8"
            ) from None
        numbered = {number: line for number, line in enumerate(lines, 1) if line.strip()}
        if not numbered:
            raise BadInput(f"{path}: empty; expected one text a line")
        if path.suffix == ".jsonl":
            return cls._from_objects(path, numbered)
        return cls.of(numbered.values())

    @classmethod
    def _from_objects(cls, path: Path, lines: Mapping[int, str]) -> "Texts":
        records = [_record(path, number, line) for number, line in lines.items()]
        labels = [record["label"] for record in records if "label" in record]
        if labels and len(labels) != len(records):
            given = f"{len(labels)} of {len(records)} lines have a label"
            raise BadInput(f"{path}: {given}; expected all or none")
        return cls.of((record["text"] for record in records), labels or None)

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Texts({len(self)} texts, {self.fingerprint})"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the texts and labels, in order."""
        return digest(json.dumps([self.texts, self.labels]).encode())

    def order(self) -> list[int]:
        """A shuffled order of the texts that depends on nothing but their number.

        Held-out texts are taken from its end, training texts from its start: what is held out for
        one length of training is held out for every other.
        """
        return [int(i) for i in np.random.default_rng(0).permutation(len(self))]


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{path}, line {number}: not JSON ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise BadInput(f'{path}, line {number}: expected an object with "text", a string')
    if not isinstance(record.get("label", 0), int | str):
        raise BadInput(f"{path}, line {number}: expected a label that is a number or a name")
    return record
