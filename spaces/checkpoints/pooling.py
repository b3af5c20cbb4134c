"""Pool token vectors to sentence vectors; read and write sentence-transformers files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from protege.spaces.errors import Unsupported
from protege.spaces.files.atomic import write_text

ABOUT = "config_sentence_transformers.json"

_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names of the settings file in different versions of sentence-transformers."""

READ_PADDING = frozenset({"convbert", "fnet"})
"""Model types whose outputs depend on padding: they mix tokens without looking at the mask."""

Mode = Literal["mean", "cls", "max", "lasttoken", "pooler"]

POOLER: Mode = "pooler"
"""The pooler of the transformer itself, as SigLIP's; sentence-transformers has no such mode."""

_OLD_NAMES: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """The pooling of an encoder of sentences or images.

    Attributes:
        mode: The mean of the token vectors, the first one, their maximum, the last one, or the
            output of the transformer's own pooler.
        normalize: Whether vectors are scaled to length one.
        max_tokens: Limit at which texts are truncated; None for the tokenizer's limit.
        projection: Weight and bias of a final linear layer, or None.
        lower_case: Whether sentence-transformers lower-cases texts before tokenization.
        settings: Other settings of sentence-transformers, such as prompts and similarity.
    """

    mode: Mode = "mean"
    normalize: bool = False
    max_tokens: int | None = None
    projection: tuple[Tensor, Tensor] | None = None
    lower_case: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


class Embedder(nn.Module):
    """A transformer with its pooling; maps its inputs to one vector per text or image."""

    def __init__(
        self, transformer: PreTrainedModel, pooling: Pooling, projection: nn.Linear | None
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.projection = projection

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
    ) -> Tensor:
        """Embed ``(batch, tokens)`` ids, or images, as ``(batch, dimension)`` vectors.

        Models that read padding (`READ_PADDING`) get texts of equal length together, so that a text
        has the same vector in every batch.
        """
        if self._must_split(attention_mask):
            assert input_ids is not None  # there is a mask
            assert attention_mask is not None
            return self._by_length(input_ids, attention_mask.bool())
        if pixel_values is not None:
            output: Any = self.transformer(pixel_values=pixel_values)
        else:
            output = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        pooled: Tensor
        if self.pooling.mode == POOLER:
            pooled = output.pooler_output
        else:
            tokens: Tensor = output[0]
            every = tokens.new_ones(tokens.shape[:2])
            pooled = pool(
                tokens, every if attention_mask is None else attention_mask, self.pooling.mode
            )
        if self.projection is not None:
            pooled = self.projection(pooled)
        return nn.functional.normalize(pooled, dim=-1) if self.pooling.normalize else pooled

    def _must_split(self, mask: Tensor | None) -> bool:
        if mask is None or self.transformer.config.model_type not in READ_PADDING:
            return False
        return not bool(mask.all())

    def _by_length(self, ids: Tensor, real: Tensor) -> Tensor:
        lengths = real.sum(1)
        rows, found = [], []
        for length in lengths.unique().tolist():
            some = (lengths == length).nonzero().squeeze(1)
            kept = ids[some][real[some]].view(len(some), length)
            found.append(self(input_ids=kept, attention_mask=torch.ones_like(kept)))
            rows.append(some)
        vectors: Tensor = torch.cat(found)[torch.cat(rows).argsort()]
        return vectors


def pool(tokens: Tensor, mask: Tensor, mode: Mode) -> Tensor:
    """Pool token vectors ``(batch, tokens, width)`` to ``(batch, width)``, without padding."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    if mode == "mean":
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    if mode == "max":
        return tokens.masked_fill(weights == 0, -torch.inf).max(1).values
    # the first or last real token, with padding on either side
    place = torch.arange(mask.shape[1], device=mask.device)
    chosen = mask.argmax(1) if mode == "cls" else (mask * place).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), chosen]


def read_pooling(source: str, revision: str | None) -> Pooling | None:
    """Return the pooling that a checkpoint's sentence-transformers files declare, if any.

    Raises:
        Unsupported: Students cannot have one of the checkpoint's modules or its pooling.
    """
    modules = _read_json(source, "modules.json", revision)
    if not modules or reads_pairs(source, revision):
        return None
    limits = _settings(source, revision)
    found: dict[str, Any] = {
        "max_tokens": _limit(limits),
        "lower_case": bool(limits.get("do_lower_case")),
        "settings": _read_json(source, ABOUT, revision) or {},
    }
    for module in modules:
        found |= _read_module(source, module, revision)
    if "mode" not in found:
        raise Unsupported(
            f"{source}: its modules.json names no Pooling, so it makes no vector of a text; "
            "expected a sentence encoder, or a checkpoint without modules.json"
        )
    return Pooling(**found)


def _read_module(source: str, module: dict[str, Any], revision: str | None) -> dict[str, Any]:
    """Return what a module adds to a `Pooling`.

    Raises:
        Unsupported: Students cannot have it.
    """
    kind = module["type"].rpartition(".")[2]
    if kind == "Pooling":
        return {"mode": _mode(_read_json(source, f"{module['path']}/config.json", revision))}
    if kind == "Normalize":
        return {"normalize": True}
    if kind == "Dense":
        return {"projection": _read_dense(source, module["path"], revision)}
    if kind == "StaticEmbedding":  # it pools by itself
        return {"mode": "mean"}
    if kind != "Transformer":
        raise Unsupported(
            f"{source}: the sentence-transformers module {module['type']} cannot be carried over "
            "to students; supported are Transformer, StaticEmbedding, Pooling, Dense and Normalize"
        )
    return {}


def reads_pairs(source: str, revision: str | None) -> bool:
    """Return whether a checkpoint is a cross-encoder of sentence-transformers."""
    if not _read_json(source, "modules.json", revision):
        return False
    about = _read_json(source, ABOUT, revision) or {}
    task = _settings(source, revision).get("transformer_task")
    return about.get("model_type") == "CrossEncoder" or task == "sequence-classification"


def _settings(source: str, revision: str | None) -> dict[str, Any]:
    """Return the settings of the checkpoint's transformer module."""
    for name in _SETTINGS:
        found: dict[str, Any] | None = _read_json(source, name, revision)
        if found:
            return found
    return {}


def _limit(settings: Mapping[str, Any]) -> int | None:
    """Return the limit at which texts are truncated; None for the tokenizer's limit.

    The precedence is that of sentence-transformers 6: call arguments, tokenizer arguments, then
    ``max_seq_length``, which version 6 reads but no longer writes.
    """
    called = (settings.get("processing_kwargs") or {}).get("text") or {}
    loaded = settings.get("processor_kwargs") or settings.get("tokenizer_args") or {}
    limits = (
        called.get("max_length"),
        loaded.get("model_max_length"),
        settings.get("max_seq_length"),
    )
    return next((int(limit) for limit in limits if limit), None)


def write_sentence_transformer(
    folder: Path,
    pooling: Pooling,
    projection: nn.Linear | None,
    width: int,
    *,
    is_static: bool = False,
) -> None:
    """Write the files beside a saved transformer that make the folder a SentenceTransformer.

    A static embedding becomes the module that sentence-transformers has for it.
    """
    kinds = ["StaticEmbedding"] if is_static else ["Transformer", "Pooling"]
    kinds += ["Dense"] if projection is not None else []
    kinds += ["Normalize"] if pooling.normalize else []
    modules: list[dict[str, Any]] = [
        {
            "idx": number,
            "name": str(number),
            "path": f"{number}_{kind}" if number else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    _write_json(folder / "modules.json", modules)
    limits: dict[str, Any] = {"do_lower_case": pooling.lower_case}
    if pooling.max_tokens is not None:
        limits = {"max_seq_length": pooling.max_tokens, **limits}
    if pooling.settings:
        _write_json(folder / ABOUT, dict(pooling.settings))
    _write_json(folder / _SETTINGS[0], limits)
    places = {kind: folder / one["path"] for kind, one in zip(kinds, modules, strict=True)}
    if not is_static:
        modes: dict[str, Any] = {name: mode == pooling.mode for name, mode in _OLD_NAMES.items()}
        modes |= {"pooling_mode": POOLER} if pooling.mode == POOLER else {}
        _write_json(places["Pooling"] / "config.json", {"word_embedding_dimension": width, **modes})
    if projection is not None:
        _write_dense(places["Dense"], projection)
    if pooling.normalize:
        places["Normalize"].mkdir(exist_ok=True)


def _mode(config: dict[str, Any] | None) -> Mode:
    config = config or {}
    named = config.get("pooling_mode")
    modes = [named] if named else [mode for name, mode in _OLD_NAMES.items() if config.get(name)]
    if len(modes) != 1 or modes[0] not in {*_OLD_NAMES.values(), POOLER}:
        raise Unsupported(
            f"pooling {config}: expected exactly one of {', '.join(_OLD_NAMES.values())}"
        )
    mode: Mode = modes[0]
    return mode


def _read_dense(source: str, path: str, revision: str | None) -> tuple[Tensor, Tensor]:
    config = _read_json(source, f"{path}/config.json", revision) or {}
    activation = str(config.get("activation_function", "Identity"))
    weights = cached_file(source, f"{path}/model.safetensors", revision=revision)
    if not activation.endswith("Identity") or weights is None:
        raise Unsupported(
            f"{source}/{path}: expected a linear layer in safetensors with no activation function, "
            f"found {activation}"
        )
    tensors = load_file(weights)
    weight = tensors["linear.weight"].float()
    return weight, tensors.get("linear.bias", torch.zeros(len(weight))).float()


def _write_dense(folder: Path, projection: nn.Linear) -> None:
    config = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write_json(folder / "config.json", config)
    tensors = {
        f"linear.{name}": t.detach().contiguous() for name, t in projection.named_parameters()
    }
    save_file(tensors, folder / "model.safetensors")


def _read_json(source: str, name: str, revision: str | None) -> Any:
    path = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
