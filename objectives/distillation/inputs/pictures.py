"""Images as model inputs, decoded by the teacher's processor."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example, Picture
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.spaces import BadInput, Teacher
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest
from protege.spaces.models.batches import IMAGE

KEPT_BYTES = 2**30
"""Maximum bytes of pixel values in memory; beyond it every batch decodes its images again."""

AT_A_TIME = 64
"""Images decoded at a time."""


@dataclass(frozen=True, eq=False)
class ImageInputs(TaskInputs):
    """Images; each image is one row.

    Attributes:
        pictures: The images.
        processor: The teacher's image processor.
        ids: Empty, since there are no tokens.
        lengths: Cost of each image in tokens, ``(images,)``.
        labels: The label of each image, ``(images, …)``; see `TaskInputs`.
        kept_bytes: Maximum bytes of pixel values in memory.
    """

    pictures: tuple[Picture, ...]
    processor: Any
    ids: Tensor
    lengths: Tensor
    labels: Tensor
    kept_bytes: int = KEPT_BYTES

    @classmethod
    def of(
        cls,
        pictures: Sequence[Picture],
        processor: Any,
        labels: Sequence[Any],
        kept_bytes: int = KEPT_BYTES,
    ) -> "ImageInputs":
        """Return images with one label each."""
        lengths = torch.full((len(pictures),), IMAGE)
        none, known = torch.arange(0), torch.tensor(labels)
        return cls(tuple(pictures), processor, none, lengths, known, kept_bytes)

    @cached_property
    def fingerprint(self) -> str:
        identities = [Example(picture).identity for picture in self.pictures]
        made = json.dumps(self.processor.to_dict(), sort_keys=True, default=str).encode()
        return digest(*identities, made, tensor_bytes(self.labels))

    @property
    def row_starts(self) -> Tensor:
        return torch.arange(len(self) + 1)

    @cached_property
    def pixels(self) -> Tensor | None:
        """Pixel values, ``(images, channels, height, width)``; None if above `kept_bytes`."""
        return kept(len(self), self.kept_bytes, self._decoded)

    def first(self, count: int) -> "ImageInputs":
        if count >= len(self):
            return self
        labels = self.labels[:count].tolist()
        return ImageInputs.of(self.pictures[:count], self.processor, labels, self.kept_bytes)

    def batch(self, numbers: Sequence[int]) -> Batch:
        pixels = self._decoded(numbers) if self.pixels is None else self.pixels[list(numbers)]
        unscored = torch.zeros(len(numbers), 1, dtype=torch.bool)
        which = torch.tensor(numbers)
        return Batch({"pixel_values": pixels}, unscored, which, which)

    def _decoded(self, numbers: Sequence[int]) -> Tensor:
        images = [self.pictures[number].open() for number in numbers]
        pixels: Tensor = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return pixels


def kept(count: int, kept_bytes: int, decoded: Callable[[Sequence[int]], Tensor]) -> Tensor | None:
    """Return the decoded inputs of all examples, or None if they are larger than `kept_bytes`.

    Args:
        count: Number of examples.
        kept_bytes: Maximum bytes in memory.
        decoded: Decodes the examples of these indices.
    """
    one = decoded([0])
    if count * one.nbytes > kept_bytes:
        return None
    found = one.new_empty((count, *one.shape[1:]))
    for numbers in torch.arange(count).split(AT_A_TIME):
        found[numbers] = decoded(numbers.tolist())
    return found


def images(teacher: Teacher, examples: Sequence[Example], labels: Sequence[Any]) -> ImageInputs:
    """Return the images of examples as inputs of a teacher, with one label each.

    Raises:
        BadInput: An example is no image.
    """
    return ImageInputs.of([_picture_in(one) for one in examples], teacher.processor, labels)


def _picture_in(example: Example) -> Picture:
    """Return the image of an example.

    Raises:
        BadInput: The example is no image.
    """
    if not isinstance(example.content, Picture):
        raise BadInput(
            f"{example.text!r:.40}: a text; a teacher of images needs images; give Images"
        )
    return example.content
