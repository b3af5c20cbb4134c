"""Images, from memory, folders and datasets."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from protege.objectives.data.example import Example, Label, Picture
from protege.objectives.data.examples import Examples
from protege.objectives.data.records import Columns, DatasetRows, encodable, held
from protege.spaces.errors import BadInput

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
"""Suffixes of image files; `Images.from_folder` ignores all others."""


@dataclass(frozen=True, eq=False, repr=False)
class Images(Examples):
    """Images for distillation and evaluation; of duplicates the first one is kept."""

    noun: ClassVar[str] = "images"
    wanted: ClassVar[str] = "images, or one folder of images per class"

    @classmethod
    def of(cls, pictures: Iterable[Any], labels: Iterable[Label] | None = None) -> "Images":
        """Return images in memory or in files.

        Args:
            pictures: Paths, PIL images, or uint8 arrays, ``(height, width)`` or ``(height, width,
                3)``.
            labels: The class of each image, by number or by name; or None.

        Raises:
            BadInput: The numbers of labels and images differ, there are fewer than two images, or
                a value is not an image.
        """
        return cls(partial(iter, held(pictures, labels, Picture.of, cls.noun)))

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Images":
        """Return the images of a folder: one sub-folder per class, or unlabelled images.

        Raises:
            BadInput: The folder cannot be read or holds fewer than two images.
        """
        return cls(Folder(Path(folder)), str(folder))

    @classmethod
    def from_dataset(cls, dataset: Any, image: str = "image", label: str | None = None) -> "Images":
        """Return the images of a Hugging Face dataset or of a list of mappings.

        Args:
            dataset: One split; in memory, memory-mapped or streamed.
            image: The column of the images.
            label: The column of the labels; by default ``label``, if there is one. If the dataset
                names its classes, they are matched to the teacher's classes by name.

        Raises:
            BadInput: The dataset has several splits, lacks a column, or holds other values.
        """
        rows = DatasetRows.of(dataset, Columns(image, label), Picture.of)
        return cls(replace(rows, dataset=undecoded(rows.dataset, image)), "dataset")


@dataclass(frozen=True)
class Folder:
    """The images of a folder, sorted by class and file name.

    The "imagefolder" loader of Hugging Face `datasets` is not used: it treats a class named "test"
    as a split and drops the others, and yields no labels if a class has sub-folders.
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


def undecoded(dataset: Any, column: str) -> Any:
    """Return the dataset with decoding of a column off: the bytes of files are quick to compare.

    A streamed dataset is returned unchanged, since its files may be remote.
    """
    feature: Any = (getattr(dataset, "features", None) or {}).get(column)
    if hasattr(feature, "decode") and hasattr(dataset, "__len__"):
        return dataset.cast_column(column, type(feature)(decode=False))
    return dataset
