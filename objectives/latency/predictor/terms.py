"""The terms of the linear latency model: layers, operations and memory traffic of a call."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protege.objectives.latency.workload import Workload
from protege.spaces import Architecture, Task, family_of

Terms = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Call:
    """The call that all students of a study are timed with.

    Attributes:
        workload: The size of the call.
        task: The models' task, which determines whether they have a vocabulary head.
    """

    workload: Workload = Workload()
    task: Task = Task.FEATURES

    def terms(self, own: Architecture) -> Terms:
        """Return the nonnegative terms of a call, ``(5,)``.

        They are: 1; layers run; operations of the prompt; activations written between layers; and
        weights, keys and values read by decoding steps. Images and audio count as the prompt's
        tokens, since all students of a study have the same number.
        """
        return np.array(
            [1.0, self._layers(own), self._operations(own), self._values(own), self._read(own)]
        )

    @property
    def _tokens(self) -> int:
        return self.workload.batch_size * self.workload.prompt_tokens

    @property
    def _writes(self) -> bool:
        """Whether the call ends with choosing a token."""
        return self.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}

    def _steps(self, own: Architecture) -> int:
        """Return the decoding steps; an encoder-decoder has one more for the start token."""
        return self.workload.new_tokens + bool(own.num_decoder_layers)

    def _stepping(self, own: Architecture) -> int:
        """Return the layers of a decoding step: the decoder's of an encoder-decoder, else all."""
        return own.num_decoder_layers or own.num_hidden_layers

    def _layers(self, own: Architecture) -> float:
        return own.num_hidden_layers + self._steps(own) * self._stepping(own)

    def _operations(self, own: Architecture) -> float:
        """Return the FLOPs of the prompt: products with weights, and attention."""
        scores = 4 * self.workload.prompt_tokens * attention_width(own)
        of_layers = own.num_hidden_layers * self._tokens * (2 * _weights(own) + scores)
        # cross-attention keys and values are computed once
        crossed = own.num_decoder_layers * self._tokens * 4 * own.hidden_size * _keys(own)
        return of_layers + crossed + 2 * self._logits(own) * own.hidden_size

    def _logits(self, own: Architecture) -> int:
        """Return the number of logits of the prompt: all tokens', the last token's, or 0."""
        if self.task is Task.FILL_MASK:
            return self._tokens * own.vocab_size
        last_only = self._writes and not own.num_decoder_layers
        return self.workload.batch_size * own.vocab_size * last_only

    def _values(self, own: Architecture) -> float:
        """Return the number of activations that layers write."""
        stepped = self.workload.batch_size * self._steps(own) * self._stepping(own)
        passes = own.num_hidden_layers * self._tokens + stepped
        return passes * (own.hidden_size + _feed_forward(own))

    def _read(self, own: Architecture) -> float:
        """Return the weights, keys and values read by decoding steps, all as the middle step."""
        work, keys = self.workload, 2 * _keys(own)
        pair = bool(own.num_decoder_layers)
        written = work.new_tokens / 2 + (0 if pair else work.prompt_tokens)
        cached = work.batch_size * keys * (written + pair * work.prompt_tokens)
        crossed = pair * 2 * own.hidden_size * attention_width(own)
        head = own.vocab_size * own.hidden_size * self._writes
        return self._steps(own) * (self._stepping(own) * (_weights(own) + crossed + cached) + head)


def attention_width(own: Architecture) -> int:
    """Return the channels of all query heads together."""
    if family_of(own.model_type).heads_follow_hidden:
        return own.hidden_size
    return own.num_attention_heads * own.head_dim


def _keys(own: Architecture) -> float:
    """Return the channels of one token's keys, which equal those of its values."""
    return attention_width(own) * own.num_key_value_heads / own.num_attention_heads


def _feed_forward(own: Architecture) -> int:
    """Return the FFN neurons that a token passes in a layer; with experts, those routed to."""
    if own.num_experts:
        return own.num_experts_per_tok * own.moe_intermediate_size
    return own.intermediate_size


def _weights(own: Architecture) -> float:
    """Return the number of weights that a token is multiplied by in a layer."""
    attention = 2 * own.hidden_size * (attention_width(own) + _keys(own))
    return attention + family_of(own.model_type).ffn_matrices * own.hidden_size * _feed_forward(own)
