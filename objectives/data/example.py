"""One training or evaluation example, its identity and its signature."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from unicodedata import normalize

from protege.objectives.data.picture import Picture
from protege.spaces.errors import BadInput

Content = str | tuple[str, ...] | Picture
"""A text, a text split into words, or an image."""

Label = int | str | tuple[int | str, ...]
"""A class by number or by name, one class per word, or a target text."""


@dataclass(frozen=True, slots=True)
class Example:
    """A model input with an optional label.

    Attributes:
        content: A text, a text split into words, or an image.
        label: A class by number or by its name in the model's ``label2id``; one class per word; or
            the target text of a sequence-to-sequence model. None if unlabelled.

    Raises:
        BadInput: The label is a tuple, and the content is not a tuple of the same length.
    """

    content: Content
    label: Label | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, tuple):
            return
        if not isinstance(self.content, tuple):
            raise BadInput(f"{len(self.label)} labels; expected one label, or a list of words")
        if len(self.content) != len(self.label):
            raise BadInput(
                f"{len(self.content)} words with {len(self.label)} labels; expected one per word"
            )

    @property
    def text(self) -> str:
        """The text, with words joined by spaces; empty for an image."""
        if isinstance(self.content, Picture):
            return ""
        return self.content if isinstance(self.content, str) else " ".join(self.content)

    @property
    def blank(self) -> bool:
        """Whether this is a text without any characters but white space."""
        return not isinstance(self.content, Picture) and not self.text.strip()

    @property
    def identity(self) -> bytes:
        """A hash of 16 bytes that duplicates share.

        Texts are compared ignoring case, white space, Unicode normalisation form and splitting into
        words; images by the bytes of their file, or by their pixels.
        """
        if isinstance(self.content, Picture):
            return _hash(self.content.content)
        # Unicode's canonical caseless matching: decompose, case-fold, compose
        folded = normalize("NFD", " ".join(self.text.split())).casefold()
        return _hash(normalize("NFC", folded).encode("utf-8", "surrogatepass"))

    @property
    def signature(self) -> bytes:
        """A hash of 16 bytes of the exact content and the label."""
        if isinstance(self.content, Picture):
            return _hash(self.identity + json.dumps(self.label).encode())
        return _hash(json.dumps([self.content, self.label]).encode())


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
