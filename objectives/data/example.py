"""One thing that students learn from or are judged on, and what makes two of them the same."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from unicodedata import normalize

from protege.objectives.data.picture import Picture
from protege.spaces.errors import BadInput

Content = str | tuple[str, ...] | Picture
"""A text, a text in words, or an image."""

Label = int | str | tuple[int | str, ...]
"""A class by number or by name, one class a word, or a text that is to be written."""


@dataclass(frozen=True, slots=True)
class Example:
    """What a model reads, and its label if it has one.

    Attributes:
        content: A text, a text in words (whose words have a class each), or an image.
        label: A class by number or by the name in the model's ``label2id``; one class a word; or
            the text that is to be written. None where the teacher's own answer is all there is.

    Raises:
        BadInput: There is a class for each word, but not as many as words.
    """

    content: Content
    label: Label | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.label, tuple):
            return
        if not isinstance(self.content, tuple):
            raise BadInput(f"{len(self.label)} labels; expected one, or as many words in a list")
        if len(self.content) != len(self.label):
            raise BadInput(
                f"{len(self.content)} words with {len(self.label)} labels; expected as many"
            )

    @property
    def text(self) -> str:
        """The text, with a space between words; nothing of an image."""
        if isinstance(self.content, Picture):
            return ""
        return self.content if isinstance(self.content, str) else " ".join(self.content)

    @property
    def blank(self) -> bool:
        """Whether there is nothing to read."""
        return not isinstance(self.content, Picture) and not self.text.strip()

    @property
    def identity(self) -> bytes:
        """Sixteen bytes; two examples that share them are duplicates.

        Texts are compared without regard to case, to the kind and amount of white space, to how
        accents are encoded and to whether they come in words; images by the bytes of their file, or
        by their pixels.
        """
        if isinstance(self.content, Picture):
            return _hash(self.content.content)
        # decomposed, folded, composed: Unicode's canonical caseless matching
        folded = normalize("NFD", " ".join(self.text.split())).casefold()
        return _hash(normalize("NFC", folded).encode("utf-8", "surrogatepass"))

    @property
    def signature(self) -> bytes:
        """Sixteen bytes that stand for the content to the letter, and for the label."""
        if isinstance(self.content, Picture):
            return _hash(self.identity + json.dumps(self.label).encode())
        return _hash(json.dumps([self.content, self.label]).encode())


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
