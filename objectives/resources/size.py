"""Objectives counted exactly from the architecture, without running the model."""

import math
from dataclasses import dataclass
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedModel

from protege.objectives.candidate import Candidate
from protege.objectives.latency.workload import Workload
from protege.objectives.machine.precision import BYTES, Precision, check_precision
from protege.objectives.measurement import Direction, Measurement, Stage, name_of
from protege.spaces import Architecture
from protege.spaces.arguments import checks_fields


@checks_fields
@dataclass(frozen=True)
class Parameters:
    """Number of parameters of the student, in millions; tied weights count once.

    Attributes:
        limit: Maximum of a student, in millions.
    """

    limit: float | None = None

    name: ClassVar[str] = "parameters_m"
    unit: ClassVar[str] = "M"
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE

    def measure(self, candidate: Candidate) -> Measurement:
        return Measurement(parameters(candidate) / 1e6)


@checks_fields
@dataclass(frozen=True)
class Memory:
    """Memory of weights and of the key-value cache after the workload, in MB of 10**6 bytes.

    Attributes:
        workload: Batch size and tokens of the key-value cache; encoders have no cache.
        precision: Precision of weights and cache.
        limit: Maximum memory of a student, in MB.
        label: Distinguishes several objectives of the kind: ``memory_<label>_mb``.
    """

    workload: Workload = Workload()
    precision: Precision = "float32"
    limit: float | None = None
    label: str = ""

    unit: ClassVar[str] = "MB"
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.ARCHITECTURE

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
    """Count the student's parameters; tied weights count once.

    For a sentence encoder narrower than its teacher, this includes the projection to the teacher's
    dimension.
    """
    skeleton: PreTrainedModel = candidate.blueprint.skeleton()
    return skeleton.num_parameters() + candidate.projection_size


def cached_values(candidate: Candidate, workload: Workload) -> int:
    """Count the values in a decoder's key-value cache after all tokens of the workload."""
    if not candidate.teacher.generates:
        return 0
    own, config = candidate.architecture, candidate.blueprint.configuration()
    read, written = workload.prompt_tokens, workload.new_tokens
    if own.num_decoder_layers:
        # an encoder-decoder caches self-attention and cross-attention
        read = getattr(config, "max_source_positions", read)
        tokens = own.num_decoder_layers * (read + written)
    else:
        tokens = int(sum(min(read + written, window) for window in windows(own, config)))
    return 2 * tokens * own.num_key_value_heads * own.head_dim * workload.batch_size


def windows(own: Architecture, config: PretrainedConfig) -> list[float]:
    """Return the maximum number of cached tokens per layer; infinite without a sliding window.

    Between steps a sliding-window layer caches one token less than its window
    (`transformers.cache_utils.DynamicSlidingWindowLayer`).
    """
    window = (getattr(config, "sliding_window", None) or math.inf) - 1
    types = getattr(config, "layer_types", None)
    if types is None:
        return [window] * own.num_hidden_layers
    return [window if kind == "sliding_attention" else math.inf for kind in types]
