"""The distillation task of image classifiers, which match the teacher's logits."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example, Picture
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.labels import Classes
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
        labels: The true class of each image, ``(images,)``; -100 if unknown.
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
        labels: Sequence[int],
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
        one = self._decoded([0])
        if len(self) * one.nbytes > self.kept_bytes:
            return None
        found = one.new_empty((len(self), *one.shape[1:]))
        for numbers in torch.arange(len(self)).split(AT_A_TIME):
            found[numbers] = self._decoded(numbers.tolist())
        return found

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


@dataclass(frozen=True)
class ImageTask(ClassTask):
    """Image classification.

    The quality is accuracy with labels, and agreement with the teacher without.
    """

    @property
    def name(self) -> str:
        return "image-classes"

    def inputs(
        self,
        teacher: Teacher,
        examples: Sequence[Example],
        max_tokens: int,  # noqa: ARG002 - the teacher's processor fixes the size of an image
    ) -> TaskInputs:
        classes = Classes(teacher)
        pictures = [_picture_in(example) for example in examples]
        labels = [classes.number(example.label) for example in examples]
        return ImageInputs.of(pictures, teacher.processor, labels)


def _picture_in(example: Example) -> Picture:
    """Return the image of an example.

    Raises:
        BadInput: The example is a text.
    """
    if not isinstance(example.content, Picture):
        raise BadInput(
            f"{example.text!r:.40}: a text; an image classifier needs images; give Images"
        )
    return example.content
