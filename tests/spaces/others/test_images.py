"""Students of other families of images."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification

from protege.spaces import OtherFamily, SearchSpace, Task, Teacher, Unsupported
from protege.spaces.others.images import in_stages, scaled
from tests.tiny import Case

KINDS = ("efficientnet", "convnext", "resnet", "poolformer", "mobilevit")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Case("vit", Task.IMAGES, {"image_size": 32}).teacher()


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_is_loaded_by_transformers_with_the_same_logits(
    kind: str, teacher: Teacher, tmp_path: Path
) -> None:
    depth = {} if kind == "mobilevit" else {"layers": 0.5}
    space = SearchSpace(others=[OtherFamily(kind, hidden=0.5, **depth)]).of(teacher)
    (own,) = (one for one in space if one.model_type == kind)
    student = teacher.student(own)
    assert teacher.blueprint(own).skeleton().num_parameters() == student.model.num_parameters()
    images = torch.randn(2, 3, 32, 32)
    loaded = AutoModelForImageClassification.from_pretrained(student.save(tmp_path)).eval()
    with torch.inference_mode():
        found, expected = loaded(images).logits, student.model(pixel_values=images).logits
    assert found.shape == (2, 3)
    assert torch.allclose(found, expected, atol=1e-5)


def test_layers_are_spread_as_in_the_published_model() -> None:
    assert in_stages(18, (3, 3, 9, 3)) == [3, 3, 9, 3]
    assert in_stages(4, (3, 3, 9, 3)) == [1, 1, 1, 1]
    assert sum(in_stages(11, (3, 3, 9, 3))) == 11
    assert max(in_stages(11, (3, 3, 9, 3))) == in_stages(11, (3, 3, 9, 3))[2]


def test_widths_keep_their_proportions() -> None:
    assert scaled((64, 128, 256, 512), 512) == [64, 128, 256, 512]
    assert scaled((64, 128, 256, 512), 128) == [16, 32, 64, 128]


def test_a_family_of_texts_is_refused(teacher: Teacher) -> None:
    with pytest.raises(Unsupported, match=r"'static' .*no model for image-classification"):
        SearchSpace(others=[OtherFamily("static")]).of(teacher)
