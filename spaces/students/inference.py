"""Run a model on texts, images or recordings: sentence vectors, logits and generated text."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from protege.spaces.checkpoints.padding import longest_text, pad_id
from protege.spaces.checkpoints.pooling import Embedder
from protege.spaces.checkpoints.processors import tokenizer_in, tokenizer_of
from protege.spaces.errors import BadInput, Unsupported

Columns = Mapping[str, Sequence[Any] | Tensor]
"""Arguments of the forward by name: tensors, or lists of token ids without padding."""

_PREFIX = 8
"""Tokens that an encoder-decoder may start its text with, such as Whisper's language and task."""


@dataclass(frozen=True, eq=False)
class Inference:
    """A model with its processor and pooling; batches are padded, truncated and on its device.

    Attributes:
        model: The model.
        processor: Its tokenizer, image processor, or feature extractor with a tokenizer.
        embedder: The model with its pooling, or None if it makes no sentence vectors.
    """

    model: PreTrainedModel
    processor: Any
    embedder: Embedder | None

    def encode(self, texts: Sequence[str], batch_size: int, prompt: str | None) -> Tensor:
        """Return sentence vectors; see `Student.encode`."""
        if self.embedder is None:
            raise Unsupported(f"{type(self.model).__name__}: it makes no sentence vectors")
        pooling = self.embedder.pooling
        prompts, default = (pooling.settings.get(f) for f in ("prompts", "default_prompt_name"))
        start = ((prompts or {}).get(default) or "") if prompt is None else prompt
        given = [f"{start}{one}" for one in texts]
        given = [one.lower() for one in given] if pooling.lower_case else given
        columns, run = self._tokenized(given), self.embedder
        columns = {name: columns[name] for name in ("input_ids", "attention_mask")}
        return torch.stack(
            self._mapped(lambda batch: run(**batch).float().cpu(), columns, batch_size)
        )

    def predict(self, inputs: Sequence[Any] | Columns, batch_size: int) -> Tensor:
        """Return logits; see `Student.predict`."""
        rows = self._mapped(self._logits, self._read(inputs), batch_size)
        return pad_sequence(rows, batch_first=True, padding_value=-torch.inf)

    def generate(
        self, prompts: Sequence[Any] | Columns, max_new_tokens: int, batch_size: int
    ) -> list[str]:
        """Return generated texts; see `Student.generate`."""
        model: Any = self.model
        if not model.can_generate():
            raise Unsupported(f"{type(model).__name__}: it generates no text")
        continues, limit = not model.config.is_encoder_decoder, self.max_tokens
        columns = self._read(prompts, cut=not continues)
        if limit is not None:
            room = limit - (1 if continues else min(_PREFIX, limit - 1))
            max_new_tokens = min(max_new_tokens, room)
            if continues:  # the end of a prompt matters
                kept = limit - max_new_tokens
                columns = {name: [row[-kept:] for row in rows] for name, rows in columns.items()}
        tokenizer, config = tokenizer_of(self.processor), self._greedy(max_new_tokens)

        def run(batch: dict[str, Tensor]) -> list[str]:
            # in place of the model's own, whose maximum length would log a warning a batch
            own, model.generation_config = model.generation_config, config
            try:
                ids = model.generate(**batch)
            finally:
                model.generation_config = own
            new = ids[:, batch["input_ids"].shape[1] :] if continues else ids
            texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
            return texts

        return self._mapped(run, columns, batch_size, "left" if continues else "right")

    def _logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the logits of a batch, on the CPU, with padding at minus infinity."""
        output: Any = self.model(**batch)
        if "start_logits" in output:
            found = torch.stack([output.start_logits, output.end_logits], dim=-1)
        elif "logits" in output:
            found = output.logits
        else:
            raise Unsupported(f"{type(self.model).__name__}: it has no logits; use encode")
        writes = not {"decoder_input_ids", "labels"}.isdisjoint(batch)
        side = "decoder_" if writes and self.model.config.is_encoder_decoder else ""
        mask = batch.get(f"{side}attention_mask")
        if mask is not None and found.ndim == 3 and found.shape[:2] == mask.shape:
            found = found.masked_fill(mask[..., None] == 0, -torch.inf)
        logits: Tensor = found.to(torch.promote_types(found.dtype, torch.float32)).cpu()
        return logits

    def _greedy(self, max_new_tokens: int) -> Any:
        """Return the model's generation config for the most likely token at each step."""
        config: Any = deepcopy(self.model.generation_config)
        for name in ("temperature", "top_p", "top_k", "min_p", "typical_p", "max_length"):
            setattr(config, name, None)
        config.do_sample, config.num_beams, config.max_new_tokens = False, 1, max_new_tokens
        config.pad_token_id = pad_id(self.model, tokenizer_of(self.processor))
        return config

    @property
    def max_tokens(self) -> int | None:
        """Maximum tokens of a text; None if unbounded."""
        own = None if self.embedder is None else self.embedder.pooling.max_tokens
        return longest_text(self.model.config.to_dict(), tokenizer_in(self.processor), own)

    def _tokenized(self, texts: Sequence[Any], *, cut: bool = True) -> Columns:
        """Tokenise texts, pairs of texts as tuples, or lists of words."""
        if not len(texts):
            raise BadInput("no texts; expected one or more")
        given: list[Any] = [list(texts)]
        if isinstance(texts[0], tuple):
            given = [list(part) for part in zip(*texts, strict=True)]
        options: dict[str, Any] = {"is_split_into_words": isinstance(texts[0], list)}
        if cut and self.max_tokens is not None:
            options |= {"truncation": True, "max_length": self.max_tokens}
        found: Columns = tokenizer_of(self.processor)(*given, **options)
        return found

    def _read(self, inputs: Sequence[Any] | Columns, *, cut: bool = True) -> Columns:
        """Convert texts, images or recordings to arguments of the forward."""
        if isinstance(inputs, Mapping):
            return inputs
        reader = getattr(self.processor, "feature_extractor", None)
        if reader is not None and not isinstance(inputs[0], str):
            rate = reader.sampling_rate
            if isinstance(inputs[0], Mapping):
                rate, inputs = inputs[0]["sampling_rate"], [one["array"] for one in inputs]
            read: Columns = reader(list(inputs), sampling_rate=rate, return_tensors="pt")
            return read
        if tokenizer_in(self.processor) is None:
            seen: Columns = self.processor(images=list(inputs), return_tensors="pt")
            return seen
        return self._tokenized(inputs, cut=cut)

    def _mapped(
        self,
        run: Callable[[dict[str, Tensor]], Iterable[Any]],
        columns: Columns,
        size: int,
        side: str = "right",
    ) -> list[Any]:
        """Run padded batches of rows of similar length; return one result per row, in order."""
        reader = self.model if self.embedder is None else self.embedder
        known = signature(reader.forward).parameters
        columns = {name: rows for name, rows in columns.items() if name in known}
        first = next(iter(columns.values()))
        order = sorted(range(len(first)), key=lambda number: len(first[number]))
        tokenizer = tokenizer_in(self.processor)
        pad = 0 if tokenizer is None else pad_id(self.model, tokenizer)
        device, found = next(self.model.parameters()).device, dict[int, Any]()
        with _evaluating(self.model):
            for begin in range(0, len(order), size):
                numbers = order[begin : begin + size]
                batch = {
                    name: _padded(name, [rows[n] for n in numbers], pad, side).to(device)
                    for name, rows in columns.items()
                }
                found |= zip(numbers, run(batch), strict=True)
        return [found[number] for number in range(len(order))]


def _padded(name: str, rows: Sequence[Any], pad: int, side: str) -> Tensor:
    """Stack rows; pad lists of different lengths."""
    tensors = [torch.as_tensor(row) for row in rows]
    if tensors[0].ndim != 1:
        return torch.stack(tensors)
    fill = pad if name.endswith("input_ids") else -100 if name == "labels" else 0
    return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Run the block without dropout and gradients; its results may take part in a training."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():  # not inference_mode, whose tensors no gradient can pass
            yield
    finally:
        model.train(was_training)
