"""Three parts of the data that share nothing, drawn from a sample that fits into memory."""

from collections.abc import Callable, Iterable, Sequence
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


class Split(NamedTuple):
    """Three parts that share no example, smallest identities first.

    Attributes:
        train: What students learn from.
        selection: What decides between students.
        held_out: What no decision sees.
    """

    train: list[Example]
    selection: list[Example]
    held_out: list[Example]


class Asked(NamedTuple):
    """What the parts should come to, in sizes of their examples."""

    train: float
    selection: float
    held_out: float

    @property
    def room(self) -> float:
        """How much has to be known of the data: all parts, and four of any that gets a quarter."""
        return max(sum(self), 4 * self.selection, 4 * self.held_out)


def cut(
    examples: Sequence[Example], sizes: Sequence[float], asked: Asked, *, whole: bool
) -> Split | None:
    """Return the parts asked for: held-out examples first, then those to select on, then the rest.

    Args:
        examples: In the order of their identities.
        sizes: What each counts for.
        asked: What the parts should come to.
        whole: Whether these are all there are. If not, they are those of the smallest identities.

    Returns:
        The parts; None if the examples are too few to tell what they would be of all there are.
    """
    count, quarter = len(examples), sum(sizes) / 4
    if count < 4 and not whole:
        return None
    held_out = asked.held_out if count >= 4 else 0
    first = _end(sizes[: count - 2], 0, held_out, quarter)
    second = _end(sizes[: count - 1], first, asked.selection, quarter)
    third = _end(sizes, second, asked.train, inf)
    ends = ((0, first, held_out), (first, second, asked.selection), (second, third, asked.train))
    # more of the data has a larger quarter, which changes nothing for parts that are full
    if not whole and any(sum(sizes[begin:end]) < part for begin, end, part in ends):
        return None
    return Split(list(examples[second:third]), list(examples[first:second]), list(examples[:first]))


def _end(sizes: Sequence[float], begin: int, asked: float, most: float) -> int:
    """Return where a part ends that begins there: when it is full, or would exceed ``most``."""
    end, taken = begin, 0.0
    while end < len(sizes) and taken < asked and (end == begin or taken + sizes[end] <= most):
        taken += sizes[end]
        end += 1
    return end


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
        """Return the sketch of a stream, which is read to its end."""
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
        """Return the sample, smallest identity first."""
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
    """Return one for an example, or for every thousand bytes of it."""
    content = example.content
    if isinstance(content, Picture):
        held = len(content.held) if isinstance(content.held, bytes) else 0
    else:
        held = len(example.text) + (len(example.label) if isinstance(example.label, str) else 0)
    return max(1.0, held / 1000)
