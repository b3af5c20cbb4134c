"""Data that can be read again and again, and how it is split once and for all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from protege.objectives.data.example import Example
from protege.objectives.data.sketch import Size, Sketch, Survey, survey
from protege.objectives.data.split import Asked, Split, cut
from protege.spaces.errors import BadInput


def one(_: Example) -> float:
    """The size of an example where each is one sequence."""
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
        """The same three parts every time, whatever the order of the data.

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
