"""Load the model, the processor and the task of a checkpoint, and fingerprint a model."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from typing_extensions import Buffer

from protege.spaces.checkpoints.missing import check_finite, settle
from protege.spaces.checkpoints.padding import longest_text
from protege.spaces.checkpoints.pooling import Pooling, read_pooling, reads_pairs
from protege.spaces.checkpoints.processors import read_processor, tokenizer_in
from protege.spaces.checkpoints.source import (
    as_bad_input,
    hub_id_of,
    place_of,
    quiet,
    tell_of_attention,
    usable,
)
from protege.spaces.checkpoints.tasks import Task, makes_vectors, task_of
from protege.spaces.families.family import family_of, family_or_bare
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest_of
from protege.spaces.models.placement import as_bad_placement, joined, weights
from protege.spaces.models.sharing import is_sharded

TOWERS = {"siglip": "vision_config"}
"""Model types of two models, and the configuration field of the one that is cut."""


def loaded(
    source: str | Path,
    task: str | None,
    options: Mapping[str, Any],
    placement: Mapping[str, Any],
    *,
    cuts: bool = True,
) -> dict[str, Any]:
    """Load a checkpoint and return the attributes of its `Teacher`; see `Teacher.load`.

    Args:
        source: A folder with a checkpoint, or a hub id.
        task: A value of `Task`; read from the checkpoint if None.
        options: Arguments of every ``from_pretrained``: ``revision``, ``trust_remote_code`` and,
            for GGUF, ``gguf_file``.
        placement: Arguments that place the weights; see `placed`.
        cuts: Whether students are to be cut from the model; otherwise any model type will do.
    """
    place, revision, gguf_file = place_of(source), options["revision"], options.get("gguf_file")
    with as_bad_input(place, revision, gguf_file), quiet():
        config = AutoConfig.from_pretrained(place, **options)
        config = getattr(config, TOWERS.get(config.model_type, ""), config)
        attention = usable(config)
        family = (family_of if cuts else family_or_bare)(config.model_type)
        pooling = None if gguf_file else read_pooling(place, revision)
        kind = task_of(task, config, pools=pooling is not None, is_gguf=bool(gguf_file))
        if kind in {Task.FEATURES, Task.SENTENCES} and "vocab_size" not in family.sizes:
            kind = Task.IMAGE_FEATURES  # all use the plain model class
        auto_class = getattr(transformers, kind.auto_class)
        # pass the configuration, because reading it again from GGUF takes seconds
        with as_bad_placement(placement):
            model, loading = auto_class.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # `settle` reports them
                **options,
                **placement,
            )
        settle(model.eval(), loading, kind)
        joined(model, family)
        processor = read_processor(place, config, kind, dict(options))
    tell_of_attention(place, attention, model.config)
    return {
        "model": model,
        "processor": processor,
        "task": kind,
        "family": family,
        "source": place,
        "pooling": _read_as(pooling, kind, config, tokenizer_in(processor)),
        "loaded_with": {"task": kind.value, **options, **placement} if is_sharded(model) else None,
        "hub_id": hub_id_of(place),
        "reads_pairs": kind is Task.TEXTS and not gguf_file and reads_pairs(place, revision),
    }


def _read_as(
    pooling: Pooling | None, task: Task, config: PretrainedConfig, tokenizer: Any
) -> Pooling | None:
    """Return the pooling for the task, for texts with its maximum input length.

    Without one in the checkpoint, it is the mean over the tokens of a text, and of an image the
    model's pooler if it is attention, else the class token. None if the model makes no vectors.
    """
    if task is Task.IMAGE_FEATURES:
        attends = "pooler" in family_of(config.model_type).stacks
        return pooling or Pooling("pooler" if attends else "cls")
    if not makes_vectors(task, config):
        return None
    pooling = pooling or Pooling()
    limit = longest_text(config.to_dict(), tokenizer, pooling.max_tokens)
    return replace(pooling, max_tokens=limit)


def fingerprint_of(model: PreTrainedModel, pooling: Pooling | None) -> str:
    """Hash configuration, weights and projection, independent of the files' location."""
    fields = model.config.to_dict()
    for place_or_version in ("_name_or_path", "transformers_version", "quantization_config"):
        fields.pop(place_or_version, None)

    def parts() -> Iterator[Buffer]:
        """Yield the bytes to hash, one tensor at a time."""
        yield json.dumps(fields, sort_keys=True, default=str).encode()
        own = weights(model)  # loads each from the disk when it is asked for
        for name in sorted(own):
            yield name.encode()
            tensor = own[name]
            if is_sharded(model):  # tensors on disk were not checked at loading
                check_finite(model, {name: tensor})
            yield tensor_bytes(tensor)
        if pooling is not None and pooling.projection is not None:
            yield from map(tensor_bytes, pooling.projection)

    return digest_of(parts())
