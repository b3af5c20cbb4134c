"""Objectives that need no measuring: they are counted on the meta device, exactly."""

import math
from dataclasses import dataclass
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedModel

from protege.objectives.candidate import Candidate
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Cost, Direction, Measurement, name_of
from protege.objectives.precision import BYTES, Precision, check_precision
from protege.spaces import Architecture


@dataclass(frozen=True)
class Parameters:
    """Weights of the student, tied ones once, in millions.

    Attributes:
        limit: The most a student may have, in millions.
    """

    limit: float | None = None

    name: ClassVar[str] = "parameters_m"
    unit: ClassVar[str] = "M"
    direction: ClassVar[Direction] = "minimize"
    cost: ClassVar[Cost] = Cost.FREE

    def measure(self, candidate: Candidate) -> Measurement:
        return Measurement(parameters(candidate) / 1e6)


@dataclass(frozen=True)
class Memory:
    """Bytes of weights, and of keys and values at the end of the workload, in MB of 10**6 bytes.

    Attributes:
        workload: Fixes how many sequences of how many tokens the key-value cache holds; encoders
            have none.
        precision: Of weights and cache.
        limit: The most megabytes that a student may need.
        label: Sets this objective apart from others of the study, as in ``memory_<label>_mb``.
    """

    workload: Workload = Workload()
    precision: Precision = "float32"
    limit: float | None = None
    label: str = ""

    unit: ClassVar[str] = "MB"
    direction: ClassVar[Direction] = "minimize"
    cost: ClassVar[Cost] = Cost.FREE

    def __post_init__(self) -> None:
        _ = self.name  # checks the label
        check_precision(self.precision)

    @property
    def name(self) -> str:
        return name_of("memory", self.label, "mb")

    def measure(self, candidate: Candidate) -> Measurement:
        size = BYTES[self.precision]
        weights = parameters(candidate) * size / 1e6
        cache = cached_values(candidate, self.workload) * size / 1e6
        details: dict[str, float | str] = {"weights_mb": weights, "kv_cache_mb": cache}
        return Measurement(weights + cache, details=details)


def parameters(candidate: Candidate) -> int:
    """Weights of the student, counted on its skeleton; tied ones once.

    A sentence encoder that is narrower than its teacher has a projection back to the teacher's
    dimension, which counts too.
    """
    skeleton: PreTrainedModel = candidate.blueprint.skeleton()
    return skeleton.num_parameters() + candidate.teacher.projection_size(candidate.architecture)


def cached_values(candidate: Candidate, workload: Workload) -> int:
    """Keys and values that a decoder holds once all tokens of the workload are read and written."""
    if not candidate.teacher.generates:
        return 0
    own, config = candidate.architecture, candidate.blueprint.configuration()
    read, written = workload.prompt_tokens, workload.new_tokens
    if own.num_decoder_layers:
        # a pair keeps what the decoder wrote, and what it attends to of the encoder's output
        read = getattr(config, "max_source_positions", read)
        tokens = own.num_decoder_layers * (read + written)
    else:
        tokens = int(sum(min(read + written, window) for window in windows(own, config)))
    return 2 * tokens * own.num_key_value_heads * own.head_dim * workload.batch_size


def windows(own: Architecture, config: PretrainedConfig) -> list[float]:
    """How many tokens each layer's cache can hold; endless where it slides over none.

    Between two steps a layer with a sliding window keeps what the window covers beside the token
    to come (`transformers.cache_utils.DynamicSlidingWindowLayer`).
    """
    window = (getattr(config, "sliding_window", None) or math.inf) - 1
    types = getattr(config, "layer_types", None)
    if types is None:
        return [window] * own.num_hidden_layers
    return [window if kind == "sliding_attention" else math.inf for kind in types]
