"""Write a model as GGUF, the format of llama.cpp, and run it there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protege.search.handover.formats.agreement import Written
from protege.search.handover.formats.gguf_tokenizer import add_tokenizer
from protege.search.handover.formats.llama_server import LlamaServer
from protege.search.handover.formats.samples import TEXTS
from protege.search.handover.formats.table import GGUF_ENCODERS
from protege.spaces import Task, Teacher
from protege.spaces.checkpoints.processors import tokenizer_of
from protege.spaces.errors import Unsupported

ARCHITECTURES = {"mistral": "llama"}
"""llama.cpp's name of a model type, where it differs."""

PERMUTED = frozenset({"llama", "mistral"})
"""Model types whose queries and keys llama.cpp rotates in pairs of neighbours."""

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}

BLOCK = 32
"""Weights that share a scale."""

GELU_ERROR = 1e-2
"""Maximum error of an encoder: llama.cpp approximates its activation by a table in float16."""

POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}


def write_gguf(teacher: Teacher, target: Path, precision: str) -> Written:
    """Write a model to a file, in a precision, and load it in llama.cpp."""
    import gguf

    model: Any = teacher.model
    config, tokenizer = model.config, tokenizer_of(teacher.processor)
    arch = ARCHITECTURES.get(config.model_type, config.model_type)
    is_encoder = config.model_type in GGUF_ENCODERS
    writer = gguf.GGUFWriter(target, arch)
    writer.add_name("student")
    writer.add_file_type(int(getattr(gguf.LlamaFileType, _file_type(precision))))
    (_add_encoder if is_encoder else _add_decoder)(writer, teacher)
    add_tokenizer(writer, tokenizer, model.get_input_embeddings().weight.shape[0])
    kinds = set()
    for name, tensor in _tensors(teacher, arch):
        kind = gguf.GGMLQuantizationType[_type_of(name, tensor, precision)]
        kinds.add(kind.name)
        values = tensor.detach().float().contiguous().numpy()
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    if TYPES[precision] not in kinds:
        raise Unsupported(
            f"no width of it is a multiple of {BLOCK}, the weights that share a scale in GGUF; "
            "float16 can be had"
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    server = LlamaServer(target, embeds=is_encoder, precision=precision)
    same = [server.tokens(text) == tokenizer(text)["input_ids"] for text in TEXTS]
    notes = {"same_tokens": round(sum(same) / len(same), 3)}
    if not is_encoder:
        return Written([target], generate=server.generate, notes=notes)
    return Written(
        [target],
        forward=server.vectors,
        expected=_vectors(teacher),
        tolerance=GELU_ERROR,
        notes=notes,
    )


def _file_type(precision: str) -> str:
    kind = TYPES[precision]
    return "ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"


def _type_of(name: str, tensor: Tensor, precision: str) -> str:
    """Return how a tensor is stored: vectors exactly, what has no whole blocks in float16."""
    if tensor.ndim == 1 or name.startswith(("position_embd", "token_types", "rope_freqs")):
        return "F32"
    kind = TYPES[precision]
    if not kind.startswith("Q"):
        return kind
    if tensor.shape[-1] % BLOCK:
        return "F16"
    # as llama.cpp does: what maps to tokens and from tokens suffers most
    return "Q8_0" if name.startswith(("token_embd", "output.")) else kind


def _add_sizes(writer: Any, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _add_encoder(writer: Any, teacher: Teacher) -> None:
    """Add the sizes and the pooling of an encoder.

    Raises:
        Unsupported: llama.cpp has no such pooling.
    """
    import gguf

    config: Any = teacher.model.config
    _add_sizes(writer, config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(value=False)
    writer.add_token_type_count(config.type_vocab_size)
    pooling = teacher.pooling if teacher.task is Task.SENTENCES else None
    if pooling is not None and (pooling.mode not in POOLINGS or pooling.projection is not None):
        raise Unsupported(
            f"its pooling ({pooling.mode}{', a linear layer' if pooling.projection else ''}): "
            f"llama.cpp knows {', '.join(POOLINGS)}"
        )
    name = "NONE" if pooling is None else POOLINGS[pooling.mode]
    writer.add_pooling_type(gguf.PoolingType[name])


def _add_decoder(writer: Any, teacher: Teacher) -> None:
    config: Any = teacher.model.config
    _add_sizes(writer, config)
    # llama.cpp attends to all tokens of these types: within the window that is the same
    window = getattr(config, "sliding_window", None) or config.max_position_embeddings
    writer.add_context_length(min(window, config.max_position_embeddings))
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))


def _tensors(teacher: Teacher, arch: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors as llama.cpp names and orders them.

    Raises:
        Unsupported: A tensor has no place there.
    """
    import gguf

    model: Any = teacher.model
    config = model.config
    number = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    is_tied = model.get_output_embeddings() is not None and config.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue  # sentence vectors do not use them
        if is_tied and name == "lm_head.weight":
            continue
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise Unsupported(f"llama.cpp's {arch} has no place for {name}")
        heads = {"q_proj": config.num_attention_heads} if config.model_type in PERMUTED else {}
        if heads:
            heads["k_proj"] = config.num_key_value_heads
        yield place, _permuted(tensor, heads.get(name.split(".")[-2]))
    yield from _frequencies(model, arch)


def _permuted(tensor: Tensor, heads: int | None) -> Tensor:
    """Interleave the halves of each head, which Hugging Face rotates against each other."""
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _frequencies(model: Any, arch: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the factors of scaled rotary frequencies, such as Llama 3's.

    Raises:
        Unsupported: llama.cpp has no place for them.
    """
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") == "default":
        return
    rotary = model.get_decoder().rotary_emb
    if arch != "llama" or rotary.attention_scaling != 1:
        raise Unsupported(f"its rotary embedding of the kind {rope['rope_type']}")
    own = rotary.inv_freq.float()
    steps = torch.arange(len(own)) / len(own)
    yield "rope_freqs.weight", float(rope["rope_theta"]) ** -steps / own


def _vectors(teacher: Teacher) -> Any:
    """Return a function that gives the vectors that llama.cpp gives too, of length one."""

    def expected(given: dict[str, Tensor]) -> Tensor:
        embedder = teacher.embedder() if teacher.task is Task.SENTENCES else None
        if embedder is not None:
            vectors = embedder(given["input_ids"], given["attention_mask"])
            return torch.nn.functional.normalize(vectors, dim=-1)
        states: Tensor = teacher.model(**given)[0]
        return states

    return expected
