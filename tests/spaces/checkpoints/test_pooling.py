"""Pooling is what sentence-transformers makes of the same files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch.testing import assert_close

from protege.spaces import Pooling, Task, Teacher, Unsupported
from protege.spaces.checkpoints.pooling import Mode, pool, read_pooling
from tests.tiny import CASES, batch, save

MODES: Sequence[Mode] = get_args(Mode)
OF_TOKENS = [mode for mode in MODES if mode != "pooler"]
"""The modes that pool token vectors."""


def write(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def modules(*types: str) -> list[dict[str, str]]:
    return [{"path": f"{number}_{kind}", "type": f"x.{kind}"} for number, kind in enumerate(types)]


@pytest.mark.parametrize("mode", OF_TOKENS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_pooling_is_that_of_sentence_transformers(mode: Mode, side: str) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling as Theirs

    tokens = torch.randn(3, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = batch(side=side)["attention_mask"]
    theirs = Theirs(8, pooling_mode=mode)
    given = {"token_embeddings": tokens, "attention_mask": mask}
    assert_close(pool(tokens, mask, mode), theirs(given)["sentence_embedding"])


@pytest.mark.parametrize("mode", OF_TOKENS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_never_pooled(mode: Mode, side: str) -> None:
    tokens = torch.randn(3, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = batch(side=side)["attention_mask"]
    spoilt = tokens.masked_fill(mask.unsqueeze(-1) == 0, 1e6)
    assert torch.equal(pool(spoilt, mask, mode), pool(tokens, mask, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("normalize", [True, False])
def test_declared_pooling_is_read_back(mode: Mode, normalize: bool, tmp_path: Path) -> None:  # noqa: FBT001
    teacher = CASES["bert-sentences"].teacher()
    declared = Pooling(mode, normalize, max_tokens=17)
    again = Teacher(
        teacher.model, teacher.tokenizer, Task.SENTENCES, teacher.family, "tiny", declared
    )
    assert read_pooling(str(save(again, tmp_path)), None) == declared


def test_a_mode_may_be_named_the_new_way(tmp_path: Path) -> None:
    write(tmp_path, "modules.json", modules("Transformer", "Pooling"))
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": "lasttoken"})
    assert read_pooling(str(tmp_path), None) == Pooling("lasttoken")


def test_a_checkpoint_without_modules_declares_no_pooling(tmp_path: Path) -> None:
    assert read_pooling(str(tmp_path), None) is None


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "weightedmean"},
    ],
)
def test_a_pooling_that_is_not_one_known_mode_is_refused(
    config: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path, "modules.json", modules("Transformer", "Pooling"))
    write(tmp_path, "1_Pooling/config.json", config)
    with pytest.raises(Unsupported, match="expected exactly one of mean, cls, max, lasttoken"):
        read_pooling(str(tmp_path), None)


def test_a_module_that_cannot_be_carried_over_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, "modules.json", modules("Transformer", "LSTM"))
    with pytest.raises(Unsupported, match=r"module x\.LSTM cannot be carried over"):
        read_pooling(str(tmp_path), None)


def test_a_last_layer_with_an_activation_function_is_refused(tmp_path: Path) -> None:
    teacher = CASES["bert-sentences-dense"].teacher()
    save(teacher, tmp_path)
    config = json.loads((tmp_path / "2_Dense/config.json").read_text(encoding="utf-8"))
    write(tmp_path, "2_Dense/config.json", {**config, "activation_function": "torch.nn.Tanh"})
    with pytest.raises(Unsupported, match=r"2_Dense: expected a linear layer .* torch\.nn\.Tanh"):
        Teacher.load(tmp_path)
