"""A sample of a stream that fits into memory and depends on nothing but what the stream holds."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from protege.objectives.data.example import Example
from protege.objectives.data.picture import Picture
from protege.spaces.files.hashing import digest

Size = Callable[[Example], float]
"""What an example counts for."""

CAPACITY = 65_536
"""What is kept of the first pass: so many examples, or 64 MB of them, whichever is less."""


class Sketch:
    """The examples of the smallest identities, as many as there is room for, none of them twice.

    An identity is a hash, so these are a random sample: the bottom-k sketch of Cohen and Kaplan
    (2007, "Summarizing data using bottom-k sketches"). The sample is the same in whatever order
    the examples come; of duplicates the first one is kept.
    """

    def __init__(self, room: float, size: Size) -> None:
        self.room = room
        self.size = size
        self.filled = 0.0
        self._bound: float = inf
        self._kept: dict[int, tuple[Example, float]] = {}
        self._largest_first: list[int] = []

    @classmethod
    def of(cls, stream: Iterable[Example], room: float, size: Size) -> "Sketch":
        """The sketch of a stream, read to its end."""
        sketch = cls(room, size)
        for example in stream:
            sketch.add(example)
        return sketch

    @property
    def complete(self) -> bool:
        """Whether all examples had room."""
        return self._bound == inf

    def add(self, example: Example) -> None:
        """Keep the example, as long as no more of smaller identity come than there is room for."""
        identity = int.from_bytes(example.identity)
        if identity >= self._bound or identity in self._kept:
            return
        size = self.size(example)
        self._kept[identity] = example, size
        heappush(self._largest_first, -identity)
        self.filled += size
        while self.filled > self.room:
            # whatever is larger than what once had no room is let in no more, however small it is
            self._bound = -heappop(self._largest_first)
            self.filled -= self._kept.pop(self._bound)[1]

    def examples(self) -> list[Example]:
        """The sample, smallest identity first."""
        return [self._kept[identity][0] for identity in sorted(self._kept)]


class Survey(NamedTuple):
    """What one pass tells of a stream.

    Attributes:
        fingerprint: Hash of all examples and labels, whatever their order.
        examples: How many there are, duplicates among them.
        labels: How many of them have a label.
        sketch: A sample of them.
    """

    fingerprint: str
    examples: int
    labels: int
    sketch: Sketch


def survey(stream: Iterable[Example]) -> Survey:
    """Read a stream to its end, in memory that does not depend on its length."""
    sketch = Sketch(CAPACITY, _share)
    examples = labels = total = 0
    for example in stream:
        examples += 1
        labels += example.label is not None
        # a sum is the same in any order and, unlike exclusive or, keeps what comes twice
        total = (total + int.from_bytes(example.signature)) % 2**128
        sketch.add(example)
    fingerprint = digest(examples.to_bytes(16), total.to_bytes(16))
    return Survey(fingerprint, examples, labels, sketch)


def _share(example: Example) -> float:
    """One for an example, or for every thousand bytes of it."""
    content = example.content
    if isinstance(content, Picture):
        held = len(content.held) if isinstance(content.held, bytes) else 0
    else:
        held = len(example.text) + (len(example.label) if isinstance(example.label, str) else 0)
    return max(1.0, held / 1000)
