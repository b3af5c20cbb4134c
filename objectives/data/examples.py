"""Texts and images that can be read again and again, and how they are split once and for all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.data.example import Example, Label
from protege.objectives.data.files import File, Kind
from protege.objectives.data.picture import Picture
from protege.objectives.data.records import Columns, Rows, encodable, held, text_of
from protege.objectives.data.split import Asked, Size, Sketch, Split, Survey, cut, survey
from protege.spaces.errors import BadInput

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Files in a folder of images that are images; others are passed over."""


def one(_: Example) -> float:
    """Return the size of an example where each is one sequence."""
    return 1


@dataclass(frozen=True, eq=False, repr=False)
class Examples:
    """Texts or images to distil and judge students on, read as a stream.

    However much there is, no more of it is in memory than a `split` asks for. Two of them are equal
    if their fingerprints are.

    Attributes:
        source: Begins to read from the start; the examples must be the same every time.
        origin: What errors call the data.

    Raises:
        BadInput: There are fewer than two different examples that are not blank. Anything further
            down that is wrong is found by the first pass over all of the data.
    """

    source: Callable[[], Iterator[Example]]
    origin: str = ""

    noun: ClassVar[str] = "examples"
    wanted: ClassVar[str] = "examples"

    def __post_init__(self) -> None:
        found: set[bytes] = set()
        for example in self:
            found.add(example.identity)
            if len(found) == 2:
                return
        if not found and self.origin:
            raise BadInput(f"{self.origin}: empty; expected {self.wanted}")
        raise BadInput(
            f"{self._where}{len(found)} {self.noun}: expected at least two different ones, none of "
            "them blank"
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
        """Hash of all examples and labels, whatever their order; reads the data once."""
        return self._survey.fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels' numbers, where the data has any."""
        return tuple(getattr(self.source, "classes", ()))

    @property
    def labelled(self) -> bool:
        """Whether all examples have labels, or none; reads the data once."""
        return self._survey.labels > 0

    def split(self, train: float, selection: float, held_out: float, size: Size = one) -> Split:
        """Return the same three parts every time, whatever the order of the data.

        Examples come in the order of their identities, which is random and depends on nothing but
        themselves: the first are held out, the next are to select on, the next to learn from. So
        what is held out or selected on is the same for any length of training, and no example is in
        two parts, or twice in one.

        Args:
            train: What to learn from; in units of ``size``, as are the others. A part takes
                examples until their sizes come to what was asked, or there are no more.
            selection: What to select on. It and ``held_out`` get at most a quarter of the data
                each, but one example at least, and leave one to learn from.
            held_out: What to hold out; nothing if there are fewer than four examples.
            size: What an example counts for, by default one. It is asked of thousands of examples,
                so it had better be quick.
        """
        asked = Asked(train, selection, held_out)
        # of nothing at all no multiple is more
        sketch, room = self._survey.sketch, max(1, 1.25 * asked.room)
        while True:
            examples = sketch.examples()
            found = cut(examples, [*map(size, examples)], asked, whole=sketch.complete)
            if found is not None:
                return found
            sketch, room = Sketch.of(self, room, size), 2 * room

    @cached_property
    def _survey(self) -> Survey:
        found = survey(self)
        if 0 < found.labels < found.examples:
            raise BadInput(
                f"{self._where}{found.labels} of {found.examples} {self.noun} have a label; "
                "expected all or none"
            )
        return found

    @property
    def _where(self) -> str:
        return f"{self.origin}: " if self.origin else ""


@dataclass(frozen=True, eq=False, repr=False)
class Texts(Examples):
    """Texts to distil and judge students on; of duplicates the first one is kept."""

    noun: ClassVar[str] = "texts"
    wanted: ClassVar[str] = "one text a line, or in each row of a table"

    @classmethod
    def of(
        cls, texts: Iterable[str | Sequence[str]], labels: Iterable[Label] | None = None
    ) -> "Texts":
        """Return texts in memory, each a string or a list of words, with as many labels or none.

        Raises:
            BadInput: There are more or fewer labels than texts, or fewer than two texts.
        """
        return cls(partial(iter, held(texts, labels, text_of, cls.noun)))

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
        """Return the texts of a file, which is read anew whenever they are needed.

        The suffix says what it holds: ``.txt`` or ``.text``, one text a line; ``.jsonl`` or
        ``.ndjson``, an object in JSON a line; ``.json``, an array of objects or of texts, or one
        object after another, in memory while it is read; ``.csv`` or ``.tsv``, a table whose first
        row names the columns; ``.parquet``. All but Parquet are UTF-8.

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
                or a line of it is not what it should be.
        """
        return cls(File.of(Path(path), Columns(text, label), kind, quoted), str(path))

    @classmethod
    def from_dataset(cls, dataset: Any, text: str = "text", label: str | None = None) -> "Texts":
        """Return the texts of a dataset of Hugging Face's, or of any list of mappings.

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


@dataclass(frozen=True, eq=False, repr=False)
class Images(Examples):
    """Images to distil and judge students on; of duplicates the first one is kept."""

    noun: ClassVar[str] = "images"
    wanted: ClassVar[str] = "images, or a folder of them for each class"

    @classmethod
    def of(cls, pictures: Iterable[Any], labels: Iterable[Label] | None = None) -> "Images":
        """Return images in memory, or paths to them, with as many labels or none.

        Args:
            pictures: Paths, PIL images, or arrays of uint8, ``(height, width)`` or ``(height,
                width, 3)``.
            labels: The class of each, by number or by name.

        Raises:
            BadInput: There are more or fewer labels than images, fewer than two images, or
                something else among them.
        """
        return cls(partial(iter, held(pictures, labels, Picture.of, cls.noun)))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Images":
        """Return the images of a folder: a sub-folder for each class, or all together unlabelled.

        Raises:
            BadInput: The folder cannot be read, or there are fewer than two images in it.
        """
        return cls(Folder(Path(folder)), str(folder))

    @classmethod
    def from_dataset(cls, dataset: Any, image: str = "image", label: str | None = None) -> "Images":
        """Return the images of a dataset of Hugging Face's, or of any list of mappings.

        Args:
            dataset: Held, memory-mapped or streamed; one split of it.
            image: The column of the images.
            label: The column of the labels; by default ``label``, if there is one. Numbers that the
                dataset has names for are mapped to the teacher's classes by these.

        Raises:
            BadInput: It is several datasets, lacks a column, or has something else in it.
        """
        rows = Rows.of(dataset, Columns(image, label), Picture.of)
        return cls(replace(rows, dataset=_undecoded(rows.dataset, image)), "dataset")


@dataclass(frozen=True)
class Folder:
    """The images of a folder, those of one class after those of another, by their names.

    The "imagefolder" of Hugging Face's `datasets` is not used: it takes a class named "test" for a
    split and leaves the others out, and gives no labels where a class has folders of its own.
    """

    path: Path

    def __call__(self) -> Iterator[Example]:
        try:
            entries = sorted(self.path.iterdir())
        except OSError as error:
            raise BadInput(
                f"{self.path}: cannot be read ({error.strerror}); expected a folder of images"
            ) from None
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                name = encodable(entry.name, f"folder {entry.name!a}")
                for file in sorted(entry.rglob("*")):
                    if _is_image(file):
                        yield Example(Picture(file), name)
            elif _is_image(entry):
                yield Example(Picture(entry))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _undecoded(dataset: Any, column: str) -> Any:
    """Return the dataset with images as the bytes of their files, which are quick to compare.

    A streamed one stays as it is: its files may be anywhere.
    """
    feature: Any = (getattr(dataset, "features", None) or {}).get(column)
    if hasattr(feature, "decode") and hasattr(dataset, "__len__"):
        return dataset.cast_column(column, type(feature)(decode=False))
    return dataset
