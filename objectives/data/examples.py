"""Streams of texts and images, and their split into disjoint parts."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

from protege.objectives.data.example import Example, Label
from protege.objectives.data.files import File, Kind
from protege.objectives.data.records import Columns, DatasetRows, held, text_of
from protege.objectives.data.split import (
    CAPACITY,
    RequestedSizes,
    Size,
    Sketch,
    Split,
    StreamSummary,
    cut,
    summarized,
)
from protege.spaces.arguments import checks_arguments
from protege.spaces.errors import BadInput


def one(_: Example) -> float:
    """Return 1: the size of an example that becomes one sequence."""
    return 1


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Texts or images for distillation and evaluation, read as a stream.

    Only what a `split` asks for is held in memory. Two instances are equal if their fingerprints
    are.

    Attributes:
        source: Returns an iterator from the first example; must yield the same examples each time.
        origin: Name of the data in error messages.
        capacity: Examples in the random sample that the first full pass keeps.

    Raises:
        BadInput: There are fewer than two distinct, non-blank examples. The constructor reads no
            further than the second; the first full pass finds later errors.
    """

    source: Callable[[], Iterator[Example]]
    origin: str = ""
    capacity: int = CAPACITY

    noun: ClassVar[str] = "examples"
    wanted: ClassVar[str] = "examples"

    def __post_init__(self) -> None:
        given: object = self.source
        if not callable(given):
            object.__setattr__(self, "source", self._held(given))
        found: set[bytes] = set()
        for example in self:
            found.add(example.identity)
            if len(found) == 2:
                return
        if not found and self.origin:
            raise BadInput(f"{self.origin}: empty; expected {self.wanted}")
        raise BadInput(
            f"{self._where}{len(found)} {self.noun}: expected at least two that are distinct and "
            "not blank"
        )

    def __iter__(self) -> Iterator[Example]:
        return (example for example in self.source() if not example.blank)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Examples) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """An order-independent hash of all examples and labels; reads the data once."""
        return self._survey.fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        """The class name of each label number; empty if the data has none."""
        return tuple(getattr(self.source, "classes", ()))

    @property
    def labelled(self) -> bool:
        """Whether the examples have labels; reads the data once.

        Raises:
            BadInput: Some examples have a label and others have none.
        """
        return self._survey.labels > 0

    def split(self, train: float, selection: float, held_out: float, size: Size = one) -> Split:
        """Return three disjoint parts without duplicates, independent of the order of the data.

        Examples are sorted by identity, a hash of their content: the first are held out, the next
        are for selection, the next for training. The held-out and selection parts therefore do not
        depend on the length of the training.

        Args:
            train: Size of the training part in units of ``size``, as for the other parts. A part
                takes examples until their sizes reach the requested sum or the data ends.
            selection: Size of the selection part. It and ``held_out`` get at most a quarter of the
                data each and at least one example, and leave at least one for training.
            held_out: Size of the held-out part; it stays empty with fewer than four examples.
            size: Returns the size of an example, by default 1; called for thousands of examples, so
                it should be fast.
        """
        asked = RequestedSizes(train, selection, held_out)
        # at least 1, since doubling 0 gives 0
        sketch, room = self._survey.sketch, max(1, 1.25 * asked.room)
        while True:
            examples = sketch.examples()
            found = cut(examples, [*map(size, examples)], asked, whole=sketch.complete)
            if found is not None:
                return found
            sketch, room = Sketch.of(self, room, size), 2 * room

    def without(self, others: Iterable[Example]) -> Self:
        """Return these examples without those that have the content of one of the others."""
        return replace(self, source=_Without(self.source, {one.identity for one in others}))

    def _held(self, given: object) -> Callable[[], Iterator[Example]]:
        """Return the source of examples that were given in memory.

        Raises:
            BadInput: They are no sequence of examples.
        """
        kind, of = type(self).__name__, getattr(type(self), "of", None)
        if isinstance(given, str | Path):
            raise BadInput(
                f"{kind}({str(given)!r}): expected {kind}.from_file({str(given)!r}) for a file, or "
                f"{kind}([...]) for {self.noun} in memory"
            )
        if of is None or not isinstance(given, Iterable):
            raise BadInput(f"{kind}({given!r}): expected a list of {self.noun}")
        made: Examples = of(given)
        return made.source

    @cached_property
    def _survey(self) -> StreamSummary:
        found = summarized(self, self.capacity)
        if 0 < found.labels < found.examples:
            raise BadInput(
                f"{self._where}{found.labels} of {found.examples} {self.noun} have a label; "
                "expected all or none"
            )
        return found

    @property
    def _where(self) -> str:
        return f"{self.origin}: " if self.origin else ""


@dataclass(frozen=True)
class _Without:
    """A source without some of its examples."""

    source: Callable[[], Iterator[Example]]
    others: Set[bytes]

    def __call__(self) -> Iterator[Example]:
        return (one for one in self.source() if one.identity not in self.others)

    @property
    def classes(self) -> Sequence[str]:
        """The class names of the source."""
        return getattr(self.source, "classes", ())


@dataclass(frozen=True, eq=False, repr=False)
class Texts(Examples):
    """Texts for distillation and evaluation; of duplicates the first one is kept."""

    noun: ClassVar[str] = "texts"
    wanted: ClassVar[str] = "one text per line, or per row of a table"

    @classmethod
    @checks_arguments
    def of(
        cls, texts: Iterable[str | Sequence[str]], labels: Iterable[Label] | None = None
    ) -> "Texts":
        """Return texts in memory.

        Args:
            texts: Strings, lists of words, or pairs of texts.
            labels: One label per text, or None.

        Raises:
            BadInput: The numbers of labels and texts differ, or there are fewer than two texts.
        """
        return cls(partial(iter, held(texts, labels, text_of, cls.noun)))

    @classmethod
    @checks_arguments
    def from_file(
        cls,
        path: str | Path,
        text: str = "text",
        label: str | None = None,
        *,
        pair: str | None = None,
        kind: Kind | None = None,
        quoted: bool | None = None,
    ) -> "Texts":
        """Return the texts of a file, which is read again for every pass.

        The suffix gives the format: ``.txt`` or ``.text``, one text per line; ``.jsonl`` or
        ``.ndjson``, one JSON object per line; ``.json``, an array of objects or texts, or
        concatenated objects, loaded as a whole; ``.csv`` or ``.tsv``, a table with a header row;
        ``.parquet``. All but Parquet must be UTF-8.

        Args:
            path: The file.
            text: The column of the texts, which are strings or lists of words.
            label: The column of the labels; by default ``label``, if there is one.
            pair: The column of the second text of each pair, such as the context of a question.
            kind: Format that overrides the suffix: ``lines``, ``json``, ``jsonl``, ``csv``, ``tsv``
                or ``parquet``.
            quoted: Whether table fields may be quoted; by default True for CSV, False for TSV.

        Raises:
            BadInput: The file is missing, empty or not UTF-8, its suffix is unknown, a column is
                missing, or a line is malformed.
        """
        return cls(File.of(Path(path), Columns(text, label, pair), kind, quoted), str(path))

    @classmethod
    @checks_arguments
    def from_dataset(
        cls, dataset: Any, text: str = "text", label: str | None = None, *, pair: str | None = None
    ) -> "Texts":
        """Return the texts of a Hugging Face dataset or of a list of mappings.

        Args:
            dataset: One split; in memory, memory-mapped or streamed.
            text: The column of the texts, which are strings or lists of words.
            label: The column of the labels; by default ``label``, if there is one. If the dataset
                names its classes, they are matched to the teacher's classes by name. Of the
                answers in SQuAD the first is used.
            pair: The column of the second text of each pair, such as the context of a question.

        Raises:
            BadInput: The dataset has several splits, lacks a column, or holds other values.
        """
        return cls(DatasetRows.of(dataset, Columns(text, label, pair), text_of), "dataset")

    @property
    def texts(self) -> tuple[str, ...]:
        """The distinct texts in their order in the data, loaded into memory."""
        first: dict[bytes, str] = {}
        for example in self:
            first.setdefault(example.identity, example.text)
        return tuple(first.values())
