"""Random inputs of the right kind and size for a model, equal in every process."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.objectives.latency.workload import Workload


def example_inputs(model: PreTrainedModel, workload: Workload) -> dict[str, Tensor]:
    """Return one batch for the model's forward pass.

    Token ids are `(batch_size, prompt_tokens)`, without padding. Images and audio are `batch_size`
    inputs of the size in the configuration.
    """
    config: Any = model.config
    found = _read(model, config, workload)
    if config.is_encoder_decoder and not model.can_generate():
        if model.base_model is model:  # a bare encoder-decoder needs explicit decoder input ids
            found["decoder_input_ids"] = torch.zeros(workload.batch_size, 1, dtype=torch.int64)
        elif "input_ids" in found:
            _end_each_text(found["input_ids"], config.eos_token_id)
    return found


def _read(model: PreTrainedModel, config: Any, workload: Workload) -> dict[str, Tensor]:
    """Return the inputs of the model, or of its encoder."""
    generator = torch.Generator().manual_seed(0)
    if model.main_input_name == "pixel_values":
        shape = (workload.batch_size, config.num_channels, *_sides(config.image_size))
        return {"pixel_values": torch.randn(shape, generator=generator)}
    if model.main_input_name == "input_features":
        frames = 2 * config.max_source_positions  # the second convolution has stride 2
        sounds = (workload.batch_size, config.num_mel_bins, frames)
        return {"input_features": torch.randn(sounds, generator=generator)}
    size = (workload.batch_size, workload.prompt_tokens)
    vocabulary = config.get_text_config().vocab_size
    ids = torch.randint(vocabulary, size, generator=generator, dtype=torch.int64)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _sides(image_size: int | list[int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)  # type: ignore[return-value]


def _end_each_text(ids: Tensor, end: int) -> None:
    """Put one EOS token at the end of each text: seq2seq classifiers pool its state."""
    ids[ids == end] = (end + 1) % (int(ids.max()) + 1)
    ids[:, -1] = end
