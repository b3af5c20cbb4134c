"""The longest text that fits is read, and one token more is not."""

import pytest
import torch

from protege.spaces.checkpoints.positions import positions_in
from tests.tiny import ZOO, batch

COUNTED = ["bert", "roberta-fill-mask", "xlm-roberta-fill-mask", "camembert-fill-mask"]
COUNTED += ["mpnet-fill-mask", "distilbert-fill-mask", "gpt2-text-generation"]


@pytest.mark.parametrize("name", COUNTED)
def test_a_model_reads_as_many_tokens_as_it_has_positions(name: str) -> None:
    teacher = ZOO[name].teacher()
    bound = positions_in(teacher.config.to_dict())
    assert bound is not None
    with torch.inference_mode():
        teacher.model(**batch(sequences=1, tokens=bound))
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)|must match"):
            teacher.model(**batch(sequences=1, tokens=bound + 1))
