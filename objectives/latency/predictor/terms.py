"""What a call of a model is made of: the terms that its latency is a sum of."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from protege.objectives.latency.workload import Workload
from protege.spaces import Architecture, Task, family_of

Terms = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """What every student of a study is asked to do.

    Attributes:
        workload: The size of the call.
        task: What the models are for: it says which have a head over the vocabulary.
    """

    workload: Workload = Workload()
    task: Task = Task.FEATURES

    def terms(self, own: Architecture) -> Terms:
        """The amounts that a call's time is a weighted sum of, none of them negative.

        One; layers run; operations on many tokens at a time; values written between layers; and
        weights, keys and values read by steps of one token. Images and sound have the prompt's
        tokens here, whatever they have: a study's students all have the same.
        """
        return np.array(
            [1.0, self._layers(own), self._operations(own), self._values(own), self._read(own)]
        )

    @property
    def _tokens(self) -> int:
        return self.workload.batch_size * self.workload.prompt_tokens

    @property
    def _writes(self) -> bool:
        """Whether a token is chosen at the end of the call."""
        return self.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}

    def _steps(self, own: Architecture) -> int:
        """Steps of one token; a pair's decoder reads its first one too."""
        return self.workload.new_tokens + bool(own.num_decoder_layers)

    def _stepping(self, own: Architecture) -> int:
        """Layers that run in a step: the decoder's of a pair, else all."""
        return own.num_decoder_layers or own.num_hidden_layers

    def _layers(self, own: Architecture) -> float:
        return own.num_hidden_layers + self._steps(own) * self._stepping(own)

    def _operations(self, own: Architecture) -> float:
        """Multiplications and additions of the prompt: products with weights, and attention."""
        scores = 4 * self.workload.prompt_tokens * attention_width(own)
        of_layers = own.num_hidden_layers * self._tokens * (2 * _weights(own) + scores)
        # keys and values that a pair's decoder attends to are made once
        crossed = own.num_decoder_layers * self._tokens * 4 * own.hidden_size * _keys(own)
        return of_layers + crossed + 2 * self._logits(own) * own.hidden_size

    def _logits(self, own: Architecture) -> int:
        """Logits of the prompt: of every token, of the last one of each sequence, or none."""
        if self.task is Task.FILL_MASK:
            return self._tokens * own.vocab_size
        last_only = self._writes and not own.num_decoder_layers
        return self.workload.batch_size * own.vocab_size * last_only

    def _values(self, own: Architecture) -> float:
        """Values that layers write for others to read."""
        stepped = self.workload.batch_size * self._steps(own) * self._stepping(own)
        passes = own.num_hidden_layers * self._tokens + stepped
        return passes * (own.hidden_size + _feed_forward(own))

    def _read(self, own: Architecture) -> float:
        """Weights, keys and values that steps of one token read; those of a middle step for all."""
        work, keys = self.workload, 2 * _keys(own)
        pair = bool(own.num_decoder_layers)
        written = work.new_tokens / 2 + (0 if pair else work.prompt_tokens)
        cached = work.batch_size * keys * (written + pair * work.prompt_tokens)
        crossed = pair * 2 * own.hidden_size * attention_width(own)
        head = own.vocab_size * own.hidden_size * self._writes
        return self._steps(own) * (self._stepping(own) * (_weights(own) + crossed + cached) + head)


def attention_width(own: Architecture) -> int:
    """Channels of all query heads together."""
    if family_of(own.model_type).heads_follow_hidden:
        return own.hidden_size
    return own.num_attention_heads * own.head_dim


def _keys(own: Architecture) -> float:
    """Channels of the keys of one token, and as many of its values."""
    return attention_width(own) * own.num_key_value_heads / own.num_attention_heads


def _feed_forward(own: Architecture) -> int:
    """Neurons that a token passes in a layer; where there are experts, those it is sent to."""
    if own.num_experts:
        return own.num_experts_per_tok * own.moe_intermediate_size
    return own.intermediate_size


def _weights(own: Architecture) -> float:
    """Weights of a layer's matrices that a token is multiplied by."""
    attention = 2 * own.hidden_size * (attention_width(own) + _keys(own))
    return attention + _matrices(own.model_type) * own.hidden_size * _feed_forward(own)


@cache
def _matrices(model_type: str) -> int:
    """Matrices of one feed-forward network, by the family's table: three if there is a gate."""
    found = {"ffn": 0, "expert_ffn": 0}
    for name, axes in family_of(model_type).tensors.items():
        words = axes.replace("+", " ").split()
        if "*" in name and "hidden" in words:
            module = name.removesuffix(".weight").rpartition(".")[2]
            for unit in found:
                found[unit] += words.count(unit) * (module.count(",") + 1)
    # T5's table has its plain and its gated network side by side
    return min(3, max(found.values()))
