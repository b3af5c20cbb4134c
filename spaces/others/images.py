"""Families of image models that students may be of beside their teacher's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.others.kinds import Fields, Kind

CLASSIFIES = frozenset({Task.IMAGES})

CARRIED = ("image_size", "num_channels", "id2label", "label2id", "problem_type")
"""Fields of a configuration that a student takes over from its teacher."""

EFFICIENTNET = (1, 2, 2, 3, 3, 4, 1)
CONVNEXT, CONVNEXT_WIDTHS = (2, 2, 6, 2), (40, 80, 160, 320)
RESNET, RESNET_WIDTHS = (2, 2, 2, 2), (64, 128, 256, 512)
POOLFORMER, POOLFORMER_WIDTHS = (2, 2, 6, 2), (64, 128, 320, 512)
MOBILEVIT, MOBILEVIT_NECKS = (64, 80, 96), (16, 16, 24, 48, 64, 80, 320)
"""Layers and widths of the stages of the smallest published models: EfficientNet-B0, ConvNeXt-Atto,
ResNet-18, PoolFormer-S12 and MobileViT-XXS."""


def _whole(layers: Sequence[int], width: int) -> Mapping[str, int]:
    return {"num_hidden_layers": sum(layers), "hidden_size": width}


def in_stages(total: int, published: Sequence[int]) -> list[int]:
    """Spread layers over stages as a published model does, at least one in each.

    Args:
        total: The layers of all stages.
        published: The layers of each stage of the published model.
    """
    found = [1] * len(published)
    for _ in range(total - len(published)):
        short = [have / full for have, full in zip(found, published, strict=True)]
        found[short.index(min(short))] += 1
    return found


def scaled(widths: Sequence[int], last: int) -> list[int]:
    """Scale the widths of all stages so that the last one is given; multiples of 8."""
    return [*(max(8, round(one * last / widths[-1] / 8) * 8) for one in widths[:-1]), last]


def _carried(teacher: Fields) -> dict[str, Any]:
    return {name: teacher[name] for name in CARRIED if teacher.get(name) is not None}


def _efficientnet(own: Architecture, teacher: Fields) -> dict[str, Any]:
    return _carried(teacher) | {
        "width_coefficient": own.hidden_size / 320,
        "depth_coefficient": 1.0,
        "num_block_repeats": in_stages(own.num_hidden_layers, EFFICIENTNET),
        "hidden_dim": 4 * own.hidden_size,
    }


def _convnext(own: Architecture, teacher: Fields) -> dict[str, Any]:
    # patches of 4 pixels leave too little of small images for four stages
    return _carried(teacher) | {
        "depths": in_stages(own.num_hidden_layers, CONVNEXT),
        "hidden_sizes": scaled(CONVNEXT_WIDTHS, own.hidden_size),
        "patch_size": 4 if _side(teacher) >= 64 else 2,
    }


def _resnet(own: Architecture, teacher: Fields) -> dict[str, Any]:
    widths = scaled(RESNET_WIDTHS, own.hidden_size)
    return _carried(teacher) | {
        "layer_type": "basic",
        "depths": in_stages(own.num_hidden_layers, RESNET),
        "hidden_sizes": widths,
        "embedding_size": widths[0],
    }


def _poolformer(own: Architecture, teacher: Fields) -> dict[str, Any]:
    return _carried(teacher) | {
        "depths": in_stages(own.num_hidden_layers, POOLFORMER),
        "hidden_sizes": scaled(POOLFORMER_WIDTHS, own.hidden_size),
    }


def _mobilevit(own: Architecture, teacher: Fields) -> dict[str, Any]:
    return _carried(teacher) | {
        "hidden_sizes": scaled(MOBILEVIT, own.hidden_size),
        "neck_hidden_sizes": scaled(MOBILEVIT_NECKS, round(own.hidden_size * 320 / 96 / 8) * 8),
        "expand_ratio": 2.0,
    }


def _side(teacher: Fields) -> int:
    size = teacher.get("image_size") or 224
    return size if isinstance(size, int) else min(size)


IMAGES = (
    Kind(
        "efficientnet",
        "mobile inverted bottlenecks, convolutions only",
        CLASSIFIES,
        lambda _: _whole(EFFICIENTNET, 320),
        _efficientnet,
        source="Tan and Le, arXiv 1905.11946",
    ),
    Kind(
        "convnext",
        "depthwise convolutions of 7 by 7 and feed-forward networks",
        CLASSIFIES,
        lambda _: _whole(CONVNEXT, CONVNEXT_WIDTHS[-1]),
        _convnext,
        source="Liu et al., arXiv 2201.03545",
    ),
    Kind(
        "resnet",
        "residual convolutions of 3 by 3",
        CLASSIFIES,
        lambda _: _whole(RESNET, RESNET_WIDTHS[-1]),
        _resnet,
        source="He et al., arXiv 1512.03385",
    ),
    Kind(
        "poolformer",
        "pooling over neighbours in place of attention, as in an MLP-Mixer without its perceptron",
        CLASSIFIES,
        lambda _: _whole(POOLFORMER, POOLFORMER_WIDTHS[-1]),
        _poolformer,
        source="Yu et al., arXiv 2111.11418",
    ),
    Kind(
        "mobilevit",
        "convolutions with attention over patches between them, a hybrid as Mobile-Former is",
        CLASSIFIES,
        lambda _: {"hidden_size": MOBILEVIT[-1]},
        _mobilevit,
        source="Mehta and Rastegari, arXiv 2110.02178",
    ),
)
