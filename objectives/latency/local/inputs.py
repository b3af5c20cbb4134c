"""What a model is given while it is timed: the right kind and size, the same in every process."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.workload import Workload


def example_inputs(model: PreTrainedModel, workload: Workload) -> dict[str, Tensor]:
    """One batch for the model's forward; what is timed depends on its size alone.

    Texts are ids below the vocabulary's size, none of them padding. Of images and sounds there are
    as many as texts would be, of the size that the configuration states.
    """
    config: Any = model.config
    found = _read(model, config, workload)
    if config.is_encoder_decoder and not model.can_generate():
        if model.base_model is model:  # nobody else says what its decoder begins with
            found["decoder_input_ids"] = torch.zeros(workload.batch_size, 1, dtype=torch.int64)
        elif "input_ids" in found:
            _end_each_text(found["input_ids"], config.eos_token_id)
    return found


def _read(model: PreTrainedModel, config: Any, workload: Workload) -> dict[str, Tensor]:
    """What the model, or its encoder, reads."""
    generator = torch.Generator().manual_seed(0)
    if model.main_input_name == "pixel_values":
        shape = (workload.batch_size, config.num_channels, *_sides(config.image_size))
        return {"pixel_values": torch.randn(shape, generator=generator)}
    if model.main_input_name == "input_features":
        frames = 2 * config.max_source_positions  # the second convolution leaves every other one
        sounds = (workload.batch_size, config.num_mel_bins, frames)
        return {"input_features": torch.randn(sounds, generator=generator)}
    size = (workload.batch_size, workload.prompt_tokens)
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, size, generator=generator, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _sides(image_size: int | list[int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)  # type: ignore[return-value]


def _end_each_text(ids: Tensor, end: int) -> None:
    """One end to each text, where classifiers built on pairs look for their state."""
    ids[ids == end] = (end + 1) % (int(ids.max()) + 1)
    ids[:, -1] = end
