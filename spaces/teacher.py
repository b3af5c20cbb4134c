"""The model that students are cut from."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from typing_extensions import Buffer

from protege.spaces.architecture import Architecture
from protege.spaces.blueprint import Blueprint
from protege.spaces.cache import digest, tensor_bytes
from protege.spaces.calibration import Calibration
from protege.spaces.cut import cut
from protege.spaces.errors import BadInput, Mismatch, ProtegeError
from protege.spaces.families import Family, family_of
from protege.spaces.kept import Kept, choose
from protege.spaces.missing import settle
from protege.spaces.pooling import Embedder, Pooling, read_pooling
from protege.spaces.quiet import quiet
from protege.spaces.student import Student
from protege.spaces.tasks import Task, task_of


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded model with all that its students inherit.

    Attributes:
        model: The model, in fp32, in evaluation mode.
        tokenizer: Its tokenizer.
        task: What it is for.
        family: The table it is cut by.
        source: The folder or hub id it came from.
        pooling: How it makes sentence vectors; only for `Task.SENTENCES` and `Task.FEATURES`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    family: Family
    source: str
    pooling: Pooling | None = None

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        task: str | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        trust_remote_code: bool = False,
    ) -> "Teacher":
        """The teacher in a local folder or under a hub id.

        Args:
            source: A folder with a checkpoint, or the id of one on the Hugging Face hub.
            task: One of `Task`; read from the checkpoint if not given.
            revision: Branch, tag or commit on the hub.
            gguf_file: Name of a GGUF file in the folder; its weights are dequantised.
            trust_remote_code: Whether code that comes with the checkpoint may run.

        Raises:
            BadInput: There is no model there, or none for the task, or no such task.
            Unsupported: The model type is not one that protege knows.
        """
        place = _place(source)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        if gguf_file is not None:
            options["gguf_file"] = gguf_file
        with _as_bad_input(place), quiet():
            config = AutoConfig.from_pretrained(place, **options)
            family = family_of(config.model_type)
            pooling = None if gguf_file else read_pooling(place, revision)
            kind = task_of(task, config, pooling, gguf_file)
            auto_class = getattr(transformers, kind.auto_class)
            # given the configuration, neither reads it again: from GGUF that takes seconds
            model, loading = auto_class.from_pretrained(
                place, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
            settle(model.eval(), loading["missing_keys"], kind)
            tokenizer = AutoTokenizer.from_pretrained(place, config=config, **options)
        if kind not in {Task.FEATURES, Task.SENTENCES}:
            pooling = None
        elif pooling is None:
            pooling = Pooling(max_tokens=min(512, tokenizer.model_max_length))
        return cls(model, tokenizer, kind, family, place, pooling)

    @property
    def config(self) -> PretrainedConfig:
        """The model's configuration."""
        config: PretrainedConfig = self.model.config
        return config

    @cached_property
    def architecture(self) -> Architecture:
        """The teacher's own sizes: ratio 1.0."""
        config = self.config
        heads = config.num_attention_heads
        return Architecture(
            model_type=config.model_type,
            num_hidden_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            num_attention_heads=heads,
            num_key_value_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the configuration and of every weight; the same wherever the files lie."""
        fields = self.config.to_dict()
        for place_or_version in ("_name_or_path", "transformers_version", "quantization_config"):
            fields.pop(place_or_version, None)
        parts: list[Buffer] = [json.dumps(fields, sort_keys=True, default=str).encode()]
        for name, tensor in sorted(self.model.state_dict().items()):
            parts += [name.encode(), tensor_bytes(tensor)]
        if self.pooling is not None and self.pooling.projection is not None:
            parts += [tensor_bytes(tensor) for tensor in self.pooling.projection]
        return digest(*parts)

    @property
    def generates(self) -> bool:
        """Whether it writes text token by token, keeping keys and values."""
        return self.task is Task.GENERATION

    def projection_size(self, architecture: Architecture) -> int:
        """Weights of the projection that a sentence encoder of that architecture ends with."""
        own = self.architecture.hidden_size
        if self.pooling is None:
            return 0
        if self.pooling.projection is None and architecture.hidden_size == own:
            return 0
        outputs = own if self.pooling.projection is None else len(self.pooling.projection[0])
        return outputs * (architecture.hidden_size + 1)

    def blueprint(self, architecture: Architecture) -> Blueprint:
        """Class and configuration of the student of that architecture.

        Raises:
            Infeasible: The configuration class refuses the sizes.
        """
        return Blueprint.of(type(self.model).__name__, self._configured(architecture))

    def student(
        self, architecture: Architecture, calibration: Calibration | None = None
    ) -> Student:
        """The student of that architecture, cut from this teacher.

        Raises:
            BadInput: The architecture's width policy needs a calibration and none is given.
            Infeasible: The configuration class refuses the sizes.
        """
        return self.student_of(architecture, choose(self.architecture, architecture, calibration))

    def student_of(self, architecture: Architecture, kept: Kept) -> Student:
        """The student that keeps exactly these units.

        Raises:
            Mismatch: The units are not as many as the architecture has.
        """
        prefix = f"{self.model.base_model_prefix}."
        tensors = cut(
            self.model.state_dict(), prefix, self.family, kept, self.architecture.head_dim
        )
        model = self._filled(self._configured(architecture), tensors)
        if model.can_generate():
            # how text is sampled and where it ends is no part of the configuration
            model.generation_config = deepcopy(self.model.generation_config)
        return Student(
            model=model.eval(),
            tokenizer=self.tokenizer,
            architecture=architecture,
            kept=kept,
            embedder=self._embedder(model, kept),
            is_sentence_transformer=self.task is Task.SENTENCES,
        )

    def embedder(self) -> Embedder | None:
        """The teacher with its pooling; none where it is not for sentence vectors."""
        own = self.architecture
        return self._embedder(self.model, choose(own, own, None))

    def _filled(self, config: PretrainedConfig, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
        """A model of the teacher's class with these tensors, ties renewed.

        Raises:
            Mismatch: The tensors are not the ones that the configuration asks for.
        """
        # given both, from_pretrained builds, fills and re-ties in one pass, and spends no time on
        # random weights
        with quiet():
            loaded: Any = type(self.model).from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        model: PreTrainedModel = loaded[0]
        unfit = loaded[1]["missing_keys"] | {name for name, *_ in loaded[1]["mismatched_keys"]}
        if unfit:
            first = ", ".join(sorted(unfit)[:3])
            raise Mismatch(f"the units kept do not fit the student's sizes: see {first}")
        return model

    def _configured(self, architecture: Architecture) -> PretrainedConfig:
        own = self.architecture
        layers = architecture.layer_policy.layers(
            own.num_hidden_layers, architecture.num_hidden_layers
        )
        return self.family.configure(self.config, architecture.sizes(), layers)

    def _embedder(self, model: PreTrainedModel, kept: Kept) -> Embedder | None:
        """The model with the teacher's pooling, in the teacher's own space of vectors.

        A narrower student gets a linear layer back to the teacher's dimension; before training it
        puts each kept channel where the teacher has it.
        """
        if self.pooling is None:
            return None
        width = self.architecture.hidden_size
        dense = self.pooling.projection
        projection = None
        if dense is not None or len(kept.hidden) < width:
            weight, bias = dense or (torch.eye(width), torch.zeros(width))
            projection = nn.Linear(len(kept.hidden), len(weight))
            with torch.no_grad():
                projection.weight.copy_(weight[:, list(kept.hidden)])
                projection.bias.copy_(bias)
        return Embedder(model, self.pooling, projection).eval()


def _place(source: str | Path) -> str:
    """The source as transformers takes it; what is written as a path must be there."""
    place = Path(source).expanduser()
    written_as_path = isinstance(source, Path) or str(source).startswith((".", "/", "~"))
    if written_as_path and not place.is_dir():
        raise BadInput(f"{source}: no such folder; expected one with a checkpoint, or a hub id")
    return str(place)


@contextlib.contextmanager
def _as_bad_input(source: str) -> Iterator[None]:
    """Turn what transformers raises for a path that is no model into one line."""
    try:
        yield
    except ProtegeError:
        raise
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{source}: no teacher can be loaded from there; expected a folder with config.json "
            f"and weights, or a hub id ({reason})"
        ) from error
