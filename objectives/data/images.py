"""The user's images, from wherever they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.data.example import Example, Label
from protege.objectives.data.examples import Examples
from protege.objectives.data.picture import Picture
from protege.objectives.data.records import Columns, Held, Rows, encodable
from protege.spaces.errors import BadInput

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Files in a folder of images that are images; others are passed over."""


@dataclass(frozen=True, eq=False, repr=False)
class Images(Examples):
    """Images to distil and judge students on; of duplicates the first one is kept."""

    noun: ClassVar[str] = "images"
    wanted: ClassVar[str] = "images, or a folder of them for each class"

    @classmethod
    def of(cls, pictures: Iterable[Any], labels: Iterable[Label] | None = None) -> "Images":
        """Images in memory, or paths to them, with as many labels or none.

        Args:
            pictures: Paths, PIL images, or arrays of uint8, ``(height, width)`` or ``(height,
                width, 3)``.
            labels: The class of each, by number or by name.

        Raises:
            BadInput: There are more or fewer labels than images, fewer than two images, or
                something else among them.
        """
        return cls(Held.of(pictures, labels, Picture.of, cls.noun))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Images":
        """Images from a folder: of each class a sub-folder by its name, or all together unlabelled.

        Raises:
            BadInput: The folder cannot be read, or there are fewer than two images in it.
        """
        return cls(Folder(Path(folder)), str(folder))

    @classmethod
    def from_dataset(cls, dataset: Any, image: str = "image", label: str | None = None) -> "Images":
        """Images from a dataset of Hugging Face's, or from any list of mappings.

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
    """The images of a folder, those of one class after those of another, by their names."""

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
    """The dataset with images as their files' bytes: smaller than pixels, and no work to compare.

    A streamed one is left alone, whose files may be anywhere.
    """
    feature: Any = (getattr(dataset, "features", None) or {}).get(column)
    if hasattr(feature, "decode") and hasattr(dataset, "__len__"):
        return dataset.cast_column(column, type(feature)(decode=False))
    return dataset
