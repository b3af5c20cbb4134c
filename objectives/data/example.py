"""One training or evaluation example, its identity and its signature."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np

from protege.objectives.data.recording import Recording
from protege.spaces.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Picture:
    """An image given as a path, as encoded bytes, or as pixels.

    Attributes:
        held: The path; the bytes of an image file; or, if `size` is set, RGB pixels of three bytes
            each, row by row from the top.
        size: Width and height if `held` is pixels, else None.
    """

    held: Path | bytes
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, given: Any, where: str = "image") -> "Picture":
        """Convert a value to a picture.

        Args:
            given: A path; a PIL image; a uint8 array, ``(height, width)`` or ``(height, width,
                3)``; or a mapping with ``bytes`` or ``path``, as in undecoded dataset columns.
            where: Name of the value in error messages.

        Raises:
            BadInput: The value is none of these, or a PIL image whose file is corrupt.
        """
        if isinstance(given, Picture):
            return given
        if isinstance(given, str | Path):
            return cls(Path(given))
        if isinstance(given, Mapping) and (held := given.get("bytes") or given.get("path")):
            return cls(held if isinstance(held, bytes) else Path(held))
        if isinstance(given, np.ndarray):
            return cls._of_array(given, where)
        if hasattr(given, "convert") and hasattr(given, "getexif"):  # a PIL image
            return cls._of_image(given, where)
        raise BadInput(
            f"{where}: of type {type(given).__name__}; expected a path, a PIL image or "
            "an array of uint8"
        )

    @classmethod
    def _of_array(cls, array: "np.ndarray[Any, Any]", where: str) -> "Picture":
        grey = array.ndim == 2
        if array.dtype != np.uint8 or not (grey or array.shape[2:] == (3,)) or array.size == 0:
            raise BadInput(
                f"{where}: an array of {array.dtype}, shape {array.shape}; expected uint8, "
                "(height, width) or (height, width, 3)"
            )
        pixels = np.repeat(array[:, :, None], 3, axis=2) if grey else array
        return cls(pixels.tobytes(), (array.shape[1], array.shape[0]))

    @classmethod
    def _of_image(cls, image: "Image", where: str) -> "Picture":
        try:
            coloured = _upright(image)
        except _unreadable() as error:
            raise BadInput(f"{where}: not an image that can be read ({error})") from None
        return cls(coloured.tobytes(), coloured.size)

    @property
    def content(self) -> bytes:
        """The bytes that identify the picture: its size and pixels, or its file's content.

        Raises:
            BadInput: The file cannot be read.
        """
        if isinstance(self.held, bytes):
            return self.held if self.size is None else f"{self.size} ".encode() + self.held
        try:
            return self.held.read_bytes()
        except OSError as error:
            raise BadInput(
                f"{self.held}: cannot be read ({error.strerror}); expected an image"
            ) from None

    def open(self) -> "Image":
        """Decode the image to RGB, rotated according to its EXIF orientation.

        Raises:
            BadInput: The file cannot be read or is not an image, or Pillow is not installed.
        """
        pil = _pil()
        if self.size is not None:
            image: Image = pil.frombytes("RGB", self.size, self.held)
            return image
        try:
            with pil.open(BytesIO(self.content)) as opened:
                return _upright(opened)
        except _unreadable() as error:
            raise BadInput(
                f"{self}: not an image that can be read ({error}); replace or remove it"
            ) from None

    def __str__(self) -> str:
        if isinstance(self.held, Path):
            return str(self.held)
        return f"image of {len(self.held)} bytes"


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    return ImageOps.exif_transpose(image).convert("RGB")


def _unreadable() -> tuple[type[Exception], ...]:
    """Return the exceptions that Pillow raises for corrupt files and decompression bombs."""
    return OSError, SyntaxError, ValueError, _pil().DecompressionBombError


def _pil() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise BadInput('images need Pillow; pip install "protege[images]"') from None
    return Image


Content = str | tuple[str, ...] | Picture | Recording
"""A text, a text split into words, a pair of texts, an image, or a recording."""

Label = int | float | str | tuple[int | float | str, ...]
"""A class by number or by name, a score, a target text, or several of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """A model input with an optional label.

    Attributes:
        content: A text, a text split into words, a pair of texts, an image, or a recording.
        label: A class by number or by its name in the model's ``label2id``, or a score; a tuple of
            one class per word, or of the classes or scores of a text or an image; or the target
            text of a model that writes, or the answer to a question. None if unlabelled.

    Raises:
        BadInput: The content is a tuple of words, and the label a tuple of another length.
    """

    content: Content
    label: Label | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.label, tuple) and isinstance(self.content, tuple)):
            return
        if len(self.content) != len(self.label):
            raise BadInput(
                f"{len(self.content)} words with {len(self.label)} labels; expected one per word"
            )

    @property
    def text(self) -> str:
        """The text, words or a pair by spaces; empty for an image or a recording."""
        if isinstance(self.content, Picture | Recording):
            return ""
        return self.content if isinstance(self.content, str) else " ".join(self.content)

    @property
    def blank(self) -> bool:
        """Whether this is a text without any characters but white space."""
        return not isinstance(self.content, Picture | Recording) and not self.text.strip()

    @property
    def identity(self) -> bytes:
        """A hash of 16 bytes that duplicates share.

        Texts are compared ignoring case, white space, Unicode normalisation form and splitting into
        words; images and recordings by the bytes of their file, or by their pixels or samples.
        """
        if isinstance(self.content, Picture | Recording):
            return _hash(self.content.content)
        # Unicode's canonical caseless matching: decompose, case-fold, compose
        folded = normalize("NFD", " ".join(self.text.split())).casefold()
        return _hash(normalize("NFC", folded).encode("utf-8", "surrogatepass"))

    @property
    def signature(self) -> bytes:
        """A hash of 16 bytes of the exact content and the label."""
        if isinstance(self.content, Picture | Recording):
            return _hash(self.identity + json.dumps(self.label).encode())
        return _hash(json.dumps([self.content, self.label]).encode())


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
