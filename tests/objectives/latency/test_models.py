import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from protege.objectives.latency import SavedModel
from protege.objectives.latency.models import built, class_named, generates
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint


def test_every_weight_of_a_blueprint_is_written(encoder: Callable[[int], Blueprint]) -> None:
    matrices = [weight for weight in built(encoder(2)).parameters() if weight.ndim > 1]
    assert matrices
    assert all(weight.std() > 0 for weight in matrices)


def test_a_checkpoint_comes_with_its_weights_in_float32(
    encoder: Callable[[int], Blueprint], tmp_path: Path
) -> None:
    saved = encoder(1).build().bfloat16()
    saved.save_pretrained(tmp_path)
    checkpoint = SavedModel.at(tmp_path)
    assert checkpoint.model_class == "BertModel"
    model = built(checkpoint)
    assert not model.training
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, saved.get_parameter(name).float())


def test_a_folder_without_a_class_is_refused(tmp_path: Path) -> None:
    complaint = "has no config.json that names its model class"
    with pytest.raises(BadInput, match=complaint):
        SavedModel.at(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BadInput, match=complaint):
        SavedModel.at(tmp_path)


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="transformers exports no class 'BertModle'"):
        class_named("BertModle")


def test_only_decoders_generate(
    encoder: Callable[[int], Blueprint], decoder: Callable[[int], Blueprint]
) -> None:
    assert generates(decoder(1))
    assert not generates(encoder(1))
