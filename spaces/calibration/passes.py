"""Run the passes over calibration data and collect activations."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field

import torch
from torch import Tensor

from protege.spaces.calibration.blocks import Blocks, Room
from protege.spaces.files.block_file import on_disk
from protege.spaces.models.activations import ActivationHooks, shapes
from protege.spaces.models.batches import Batch, given, headless, lengths
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.remaining import Remaining


@dataclass
class Passes:
    """The passes of one calibration; ``few`` keeps the first batches, to measure on few tokens."""

    teacher: LaidOutModel
    batches: Iterable[Batch]
    count: int
    announce: Callable[[str], None]
    few: list[Batch] = field(default_factory=list, init=False)
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.count > 1 and isinstance(self.batches, Iterator):
            self.batches = list(self.batches)  # an iterator can be read only once

    def all_of(self, plan: Blocks, room: Room, few: int) -> dict[str, Tensor]:
        """Run all passes, and keep the first batches with ``few`` real tokens.

        Returns:
            The measurements of `ActivationHooks`, the token counts ``vocab``, and second moments.
        """
        remaining = Remaining(self.announce, "measuring importance")
        sites = ActivationHooks(self.teacher, plan.passes[0])
        vocab = torch.zeros(self.teacher.architecture.vocab_size)
        for batch in self._read(sites, remaining):
            vocab += _occurrences(batch, len(vocab))
            if few > 0:
                self.few.append(batch)
                few -= int(lengths(batch).sum())
        found = {**sites.found(), **sites.means(), "vocab": vocab}
        self._collect(sites, found, plan, room)
        for block in plan.passes[1:]:
            sites = ActivationHooks(self.teacher, block, alone=True)
            for _ in self._read(sites, remaining):
                pass
            self._collect(sites, found, plan, room)
        return found

    def _read(self, sites: ActivationHooks, remaining: Remaining) -> Iterator[Batch]:
        """Run every batch through the teacher with hooks at its sites."""
        model = headless(self.teacher.model)
        with sites:
            for batch in self.batches:
                sites.batch = batch
                with torch.inference_mode():
                    model(**given(batch))
                self._done += 1
                self._announce(remaining)
                yield batch

    def _collect(
        self, sites: ActivationHooks, found: dict[str, Tensor], plan: Blocks, room: Room
    ) -> None:
        """Store the second moments of a pass."""
        for name, layers, moments in sites.grams():
            if not plan.on_disk:
                found[f"{name}.gram"] = moments
                continue
            if f"{name}.gram" not in found:
                depth, units = shapes(self.teacher)[name]
                found[f"{name}.gram"] = on_disk((depth, units, units), room.folder)
            found[f"{name}.gram"][layers] = moments

    def _announce(self, remaining: Remaining) -> None:
        """Announce progress, at most every few seconds."""
        if not isinstance(self.batches, Sized):
            if remaining.is_due:
                self.announce(f"measuring importance, batch {self._done}")
            return
        batches = len(self.batches)
        number, place = divmod(self._done - 1, batches)
        which = f"pass {number + 1}/{self.count}, " if self.count > 1 else ""
        remaining.doing = f"measuring importance, {which}batch {place + 1}/{batches},"
        remaining.passing(self._done / (self.count * batches))


def _occurrences(batch: Batch, vocabulary: int) -> Tensor:
    """Count each token's occurrences in the batch, without padding."""
    counts = torch.zeros(vocabulary)
    for prefix in ("", "decoder_"):
        ids = batch.get(f"{prefix}input_ids")
        if ids is not None:
            mask = batch.get(f"{prefix}attention_mask", torch.ones_like(ids))
            counts += torch.bincount(ids[mask == 1], minlength=vocabulary)
    return counts
