"""Splitting data into three disjoint parts, from a random sample that fits into memory."""

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from protege.objectives.data.example import Example, Picture
from protege.objectives.data.recording import Recording
from protege.spaces.files.hashing import digest

Size = Callable[[Example], float]
"""Returns the size of an example."""

CAPACITY = 65_536
"""Sample size of the first pass: this many examples, or 64 MB of them if that is less."""


class Split(NamedTuple):
    """Three disjoint parts, each sorted by identity.

    Attributes:
        train: Examples to train students on.
        selection: Examples to score students on during the search.
        held_out: Examples that the search never uses.
    """

    train: list[Example]
    selection: list[Example]
    held_out: list[Example]


class RequestedSizes(NamedTuple):
    """The requested size of each part, as a sum of example sizes."""

    train: float
    selection: float
    held_out: float

    @property
    def room(self) -> float:
        """Sample size that determines the split; four times a part that is capped at a quarter."""
        return max(sum(self), 4 * self.selection, 4 * self.held_out)


def cut(
    examples: Sequence[Example], sizes: Sequence[float], asked: RequestedSizes, *, whole: bool
) -> Split | None:
    """Cut sorted examples into parts: held-out first, then selection, then training.

    Args:
        examples: Examples sorted by identity.
        sizes: The size of each example.
        asked: The requested size of each part.
        whole: Whether these are all examples; otherwise those with the smallest identities.

    Returns:
        The parts; None if the sample is too small to determine them.
    """
    count, quarter = len(examples), sum(sizes) / 4
    if count < 4 and not whole:
        return None
    held_out = asked.held_out if count >= 4 else 0
    first = _end(sizes[: count - 2], 0, held_out, quarter)
    second = _end(sizes[: count - 1], first, asked.selection, quarter)
    third = _end(sizes, second, asked.train, inf)
    ends = ((0, first, held_out), (first, second, asked.selection), (second, third, asked.train))
    # with more data a quarter grows, which cannot change a full part
    if not whole and any(sum(sizes[begin:end]) < part for begin, end, part in ends):
        return None
    return Split(list(examples[second:third]), list(examples[first:second]), list(examples[:first]))


def _end(sizes: Sequence[float], begin: int, asked: float, most: float) -> int:
    """Return the end of the part that begins at ``begin``: when full, or before ``most``."""
    end, taken = begin, 0.0
    while end < len(sizes) and taken < asked and (end == begin or taken + sizes[end] <= most):
        taken += sizes[end]
        end += 1
    return end


class Sketch:
    """A random sample of distinct examples: those with the smallest identities, up to a total size.

    Identities are hashes, so this is a bottom-k sketch (Cohen and Kaplan, 2007, "Summarizing data
    using bottom-k sketches"). The sample does not depend on the order of the stream; of duplicates
    the first one is kept.
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
        """Build the sketch of a whole stream."""
        sketch = cls(room, size)
        for example in stream:
            sketch.add(example)
        return sketch

    @property
    def complete(self) -> bool:
        """Whether no example was dropped."""
        return self._bound == inf

    def add(self, example: Example) -> None:
        """Add an example, then drop those with the largest identities until the rest fits."""
        identity = int.from_bytes(example.identity)
        if identity >= self._bound or identity in self._kept:
            return
        size = self.size(example)
        self._kept[identity] = example, size
        heappush(self._largest_first, -identity)
        self.filled += size
        while self.filled > self.room:
            # larger identities stay out from now on, so that the order of the stream has no effect
            self._bound = -heappop(self._largest_first)
            self.filled -= self._kept.pop(self._bound)[1]

    def examples(self) -> list[Example]:
        """Return the sample, sorted by identity."""
        return [self._kept[identity][0] for identity in sorted(self._kept)]


class StreamSummary(NamedTuple):
    """Summary of one pass over a stream.

    Attributes:
        fingerprint: Order-independent hash of all examples and labels.
        examples: Number of examples, including duplicates.
        labels: Number of labelled examples.
        sketch: A random sample of the examples.
    """

    fingerprint: str
    examples: int
    labels: int
    sketch: Sketch


def summarized(stream: Iterable[Example], capacity: int = CAPACITY) -> StreamSummary:
    """Summarise a stream, with a random sample of up to `capacity` examples."""
    sketch = Sketch(capacity, _share)
    examples = labels = total = 0
    for example in stream:
        examples += 1
        labels += example.label is not None
        # a sum does not depend on the order and, unlike XOR, counts duplicates
        total = (total + int.from_bytes(example.signature)) % 2**128
        sketch.add(example)
    fingerprint = digest(examples.to_bytes(16), total.to_bytes(16))
    return StreamSummary(fingerprint, examples, labels, sketch)


def _share(example: Example) -> float:
    """Return the share of the capacity that an example takes: 1, or 1 per 1,000 bytes if larger."""
    content = example.content
    if isinstance(content, Picture | Recording):
        held = len(content.held) if isinstance(content.held, bytes) else 0
    else:
        held = len(example.text) + (len(example.label) if isinstance(example.label, str) else 0)
    return max(1.0, held / 1000)
