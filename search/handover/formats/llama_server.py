"""Run a GGUF file in llama.cpp."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import torch
from torch import Tensor

CONTEXT = 512
"""Tokens that it has room for."""


class LlamaServer:
    """llama.cpp's own server in this process, on a port of the loopback.

    Args:
        path: The GGUF file.
        embeds: Whether the model is an encoder.
        precision: The precision of the file; in float32 the cache is in float32 too.
    """

    def __init__(self, path: Path, *, embeds: bool, precision: str) -> None:
        import xllamacpp

        params: Any = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = CONTEXT
        params.n_parallel = 1
        params.verbosity = -1
        params.warmup = False
        params.cpuparams.n_threads = 1
        params.embedding = embeds
        if precision == "float32":
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(params)
        self._address = self._server.listening_address
        self._open = build_opener(ProxyHandler({})).open  # the loopback needs no proxy

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text, with those around it."""
        asked = {"content": text, "add_special": True}
        found: list[int] = self._answer("tokenize", asked)["tokens"]
        return found

    def generate(self, prompt: Sequence[int], count: int) -> list[int]:
        """Write a number of tokens after a prompt, the most likely one each time."""
        asked = {
            "prompt": [*prompt],
            "n_predict": count,
            "temperature": 0,
            "return_tokens": True,
            "cache_prompt": False,
        }
        found: list[int] = self._answer("completion", asked)["tokens"]
        return found

    def vectors(self, given: dict[str, Tensor]) -> Tensor:
        """Return the vector of each text, or the states of its tokens, padded with zeros."""
        rows = [
            ids[kept == 1].tolist()
            for ids, kept in zip(given["input_ids"], given["attention_mask"], strict=True)
        ]
        asked = [{"input": row, "content": row} for row in rows]
        found = [torch.tensor(self._answer("embeddings", one)[0]["embedding"]) for one in asked]
        if len({len(one) for one in found}) == 1 and len(found[0]) == 1:
            return torch.cat(found)
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)

    def _answer(self, path: str, asked: dict[str, Any]) -> Any:
        request = Request(
            f"{self._address}/{path}",
            data=json.dumps(asked).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._open(request, timeout=300) as answer:
            return json.load(answer)
