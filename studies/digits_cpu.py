"""Search students of a vision Transformer on scikit-learn's digits, of five families.

The teacher is a ViT of 6 layers that is trained here first, in about three minutes, on 1,347 of the
1,797 digits. Students are cut from it, or are EfficientNets, ConvNeXts, ResNets, PoolFormers or
MobileViTs with random weights. They learn from the teacher's answers to shifted, turned and noisy
copies of the same digits. Their score is their accuracy on the other digits. Run it with
``protege run studies/digits_cpu.py`` or as a module.
"""

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate, shift, zoom
from sklearn.datasets import load_digits
from torch import nn
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from protege.objectives import Distillation, Images, Latency, LocalCPU, Retention, Workload, scores
from protege.search import Search
from protege.search.cli.main import guarded
from protege.search.progress import say
from protege.spaces import Choice, OtherFamily, Range, SearchSpace, Teacher
from studies.ending import conclude

Pictures = NDArray[np.uint8]

TEACHER = Path("runs/digits-cpu-teacher")
SIDE, TRAINED_ON, COPIES = 32, 1347, 3
EPOCHS, BATCH, RATE = 12, 64, 1e-3
NAMES = {number: str(number) for number in range(10)}


@cache
def digits() -> tuple[Pictures, NDArray[np.int64]]:
    """Return all digits as pictures of 32 by 32 pixels in three colours, and their classes."""
    found = load_digits()
    large = np.stack([zoom(one, SIDE / 8, order=1) for one in found.images])
    pictures = np.repeat((large / 16 * 255).clip(0, 255)[..., None], 3, axis=-1)
    return pictures.astype(np.uint8), found.target.astype(np.int64)


def varied(copies: int = COPIES, seed: int = 0) -> tuple[Pictures, NDArray[np.int64]]:
    """Return shifted, turned and noisy copies of the digits to train on."""
    pictures, classes = digits()
    chance, found = np.random.default_rng(seed), []
    for _ in range(copies):
        for picture in pictures[:TRAINED_ON, ..., 0]:
            turned = rotate(picture, chance.uniform(-15, 15), reshape=False, order=1)
            moved = shift(turned, chance.uniform(-3, 3, size=2), order=1)
            noisy = moved + chance.normal(0, 12, moved.shape)
            found.append(np.repeat(noisy.clip(0, 255)[..., None], 3, axis=-1))
    return np.stack(found).astype(np.uint8), np.tile(classes[:TRAINED_ON], copies)


def unseen() -> list[dict[str, Any]]:
    """Return the digits that nobody trains on."""
    pictures, classes = digits()
    rows = zip(pictures[TRAINED_ON:], classes[TRAINED_ON:], strict=True)
    return [{"image": picture, "label": str(number)} for picture, number in rows]


def teacher() -> Teacher:
    """Return the teacher, trained at the first call."""
    if not TEACHER.is_dir():
        _train(TEACHER)
    return Teacher.load(TEACHER)


def _train(folder: Path) -> None:
    """Train a ViT on the digits by cross-entropy, AdamW and a linear decay."""
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=SIDE,
        patch_size=4,
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=512,
        id2label=NAMES,
        label2id={name: number for number, name in NAMES.items()},
    )
    model: Any = ViTForImageClassification(config)
    processor: Any = ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    pictures, classes = varied()
    read = processor(list(pictures), return_tensors="pt")["pixel_values"]
    labels = torch.from_numpy(classes)
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    loss = torch.zeros(())
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH)[: steps // EPOCHS]:
            loss = nn.functional.cross_entropy(model(read[batch]).logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        say(f"training the teacher, epoch {epoch + 1}/{EPOCHS}: loss {float(loss.detach()):.3f}")
    scratch = folder.with_name(f"{folder.name}-unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch)
    processor.save_pretrained(scratch)
    scratch.rename(folder)


WIDTHS = Choice(0.25, 0.5)

search = Search(
    name="digits-cpu",
    teacher=teacher(),
    space=SearchSpace(
        layers=Range(0.3, 1.0),
        hidden=Range(0.5, 1.0),
        intermediate=Choice(0.25, 0.5, 1.0),
        others=[
            OtherFamily("efficientnet", layers=Choice(0.5, 1.0), hidden=WIDTHS),
            OtherFamily("convnext", layers=Choice(0.34, 0.5, 1.0), hidden=WIDTHS),
            OtherFamily("resnet", layers=Choice(0.5, 1.0), hidden=Choice(0.125, 0.25)),
            OtherFamily("poolformer", layers=Choice(0.34, 1.0), hidden=Choice(0.125, 0.25)),
            OtherFamily("mobilevit", hidden=Choice(0.5, 1.0)),
        ],
    ),
    objectives=[
        Latency(LocalCPU(threads=1), Workload(batch_size=1)),
        Retention(),
        scores.accuracy(unseen(), image="image"),
    ],
    distillation=Distillation(
        Images.of(list(varied(3, seed=1)[0])), steps=150, batch_size=32, learning_rate=1e-3
    ),
)

if __name__ == "__main__":
    sys.exit(guarded(lambda: conclude(search, trials=34, times_faster=2)))
