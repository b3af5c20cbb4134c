"""The user's texts, from wherever they are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.data.example import Label
from protege.objectives.data.examples import Examples
from protege.objectives.data.files import Kind, reader
from protege.objectives.data.records import Columns, Held, Rows, text_of


@dataclass(frozen=True, eq=False, repr=False)
class Texts(Examples):
    """Texts to distil and judge students on; of duplicates the first one is kept."""

    noun: ClassVar[str] = "texts"
    wanted: ClassVar[str] = "one text a line, or in each row of a table"

    @classmethod
    def of(
        cls, texts: Iterable[str | Sequence[str]], labels: Iterable[Label] | None = None
    ) -> "Texts":
        """Texts in memory, each a string or a list of words, with as many labels or none.

        Raises:
            BadInput: There are more or fewer labels than texts, or fewer than two texts.
        """
        return cls(Held.of(texts, labels, text_of, cls.noun))

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        text: str = "text",
        label: str | None = None,
        *,
        kind: Kind | None = None,
        quoted: bool | None = None,
    ) -> "Texts":
        """Texts from a file, which is read anew whenever they are needed.

        The suffix says what it holds: ``.txt`` or ``.text``, one text a line; ``.jsonl`` or
        ``.ndjson``, an object in JSON a line; ``.json``, an array of objects or of texts, or one
        object after another; ``.csv`` or ``.tsv``, a table whose first row names the columns;
        ``.parquet``. All but Parquet are UTF-8.

        Args:
            path: The file.
            text: The column of the texts, which are strings or lists of words.
            label: The column of the labels; by default ``label``, if there is one.
            kind: What the file holds, in place of its suffix: ``lines``, ``json``, ``jsonl``,
                ``csv``, ``tsv`` or ``parquet``.
            quoted: Whether fields of a table may be in quotes; by default those of CSV may and
                those of TSV may not.

        Raises:
            BadInput: The file is missing, empty, not UTF-8, of an unknown suffix or lacks a column,
                a line of it is not what it should be, or it is Parquet and pyarrow is not
                installed.
        """
        return cls(reader(Path(path), Columns(text, label), kind, quoted=quoted), str(path))

    @classmethod
    def from_dataset(cls, dataset: Any, text: str = "text", label: str | None = None) -> "Texts":
        """Texts from a dataset of Hugging Face's, or from any list of mappings.

        Args:
            dataset: Held, memory-mapped or streamed; one split of it.
            text: The column of the texts, which are strings or lists of words.
            label: The column of the labels; by default ``label``, if there is one. Numbers that the
                dataset has names for are mapped to the teacher's classes by these.

        Raises:
            BadInput: It is several datasets, lacks a column, or has something else in it.
        """
        return cls(Rows.of(dataset, Columns(text, label), text_of), "dataset")

    @property
    def texts(self) -> tuple[str, ...]:
        """The different texts as they come, all of them in memory."""
        first: dict[bytes, str] = {}
        for example in self:
            first.setdefault(example.identity, example.text)
        return tuple(first.values())
