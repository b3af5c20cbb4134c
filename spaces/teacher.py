"""The teacher: the model that students are cut from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.arguments import checks_arguments, checks_fields
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.checkpoints.padding import longest_text, pad_id, rows_of, settle_pad
from protege.spaces.checkpoints.pooling import Embedder, Pooling
from protege.spaces.checkpoints.processors import tokenizer_in, tokenizer_of
from protege.spaces.checkpoints.tasks import Outputs, Task, outputs_of
from protege.spaces.errors import Infeasible, Mismatch, Unsupported
from protege.spaces.families.family import Family
from protege.spaces.models.blueprint import Blueprint
from protege.spaces.models.layout import Layout
from protege.spaces.models.loading import fingerprint_of, loaded
from protege.spaces.models.placement import Place, elsewhere, placed
from protege.spaces.others.table import is_other
from protege.spaces.others.token_vectors import token_vectors
from protege.spaces.plain_text import printable
from protege.spaces.students.builder import embedder, made
from protege.spaces.students.config import configured
from protege.spaces.students.other_family import blueprint_of, made_otherwise
from protege.spaces.students.random_init import redrawn
from protege.spaces.students.rotation import check_turns
from protege.spaces.students.selection import Selection, choose
from protege.spaces.students.student import Initialisation, Student
from protege.spaces.vocabulary.tokenizer import choose_tokens, must_keep


@checks_fields
@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded model, its processor, task and family.

    Attributes:
        model: The model, in fp32, in evaluation mode.
        processor: The tokenizer, image processor, or feature extractor with a tokenizer.
        task: The model's task.
        family: The family, whose table says how tensors are cut.
        source: The folder or hub id that it was loaded from.
        pooling: The pooling into one vector per text or image; None for models with a head.
        loaded_with: Arguments of `load` if the model is not entirely on the CPU, else None. Other
            processes then load it again instead of receiving a copy of the weights.
        hub_id: Its id on the Hugging Face hub, or None if it came from a folder.
        reads_pairs: Whether it reads pairs of texts, as a cross-encoder does.
    """

    model: PreTrainedModel
    processor: Any
    task: Task
    family: Family
    source: str
    pooling: Pooling | None = None
    loaded_with: Mapping[str, Any] | None = None
    hub_id: str | None = None
    reads_pairs: bool = False

    def __post_init__(self) -> None:
        if self.task is Task.TEXTS and self.family.stacks.keys() == {"decoder"}:
            settle_pad(self.model, self.tokenizer)

    @classmethod
    @checks_arguments
    def load(  # noqa: PLR0913 - the names that from_pretrained has for them
        cls,
        source: str | Path,
        *,
        task: str | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        trust_remote_code: bool = False,
        device_map: Place | Mapping[str, Place] | None = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        offload_folder: str | Path | None = None,
    ) -> "Teacher":
        """Load a teacher from a local folder or the Hugging Face hub.

        Args:
            source: A folder with a checkpoint, or a hub id.
            task: A value of `Task`; read from the checkpoint if None.
            revision: Branch, tag or commit on the hub.
            gguf_file: Name of a GGUF file in the folder; its weights are dequantised.
            trust_remote_code: Whether code in the checkpoint may run.
            device_map: Placement of the weights, as in accelerate: ``"auto"``, a device, or a
                mapping from modules to devices, ``"cpu"`` or ``"disk"``. The CPU if None.
            max_memory: Limit of each device for ``"auto"``, in bytes or as ``"20GiB"``.
            offload_folder: Folder for weights on disk that are not stored as safetensors.

        Raises:
            BadInput: The model, the task, the device or accelerate is not available, or the model
                does not fit the task.
            Unsupported: The model type is unknown or cannot be cut, or its weights cannot be read
                from disk.
        """
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        options |= {} if gguf_file is None else {"gguf_file": gguf_file}
        return cls(**loaded(source, task, options, placed(device_map, max_memory, offload_folder)))

    def __repr__(self) -> str:
        # the model's own is a tree of all modules
        sizes = f"{self.config.model_type}, {self.task}, {self.architecture}"
        return f"<Teacher {printable(self.source)!r}: {sizes}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes; for a sharded model only its source and fingerprint."""
        if self.loaded_with is None:
            return vars(self)
        folder = Path(self.source)
        return {
            "source": str(folder.resolve()) if folder.is_dir() else self.source,
            "loaded_with": self.loaded_with,
            "fingerprint": self.fingerprint,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes; load a sharded model again.

        Raises:
            Mismatch: The weights at the source have changed.
        """
        if "model" not in state:
            again = Teacher.load(state["source"], **elsewhere(state["loaded_with"]))
            if again.fingerprint != state["fingerprint"]:
                raise Mismatch(f"{again.source}: the teacher there is no longer the study's")
            state = vars(again)
        vars(self).update(state)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            Unsupported: The model reads only images.
        """
        return tokenizer_of(self.processor)

    @cached_property
    def pad_id(self) -> int:
        """The padding token's id."""
        return pad_id(self.model, self.tokenizer)

    @cached_property
    def max_tokens(self) -> int | None:
        """The maximum input length in tokens, or None if unbounded."""
        declared = None if self.pooling is None else self.pooling.max_tokens
        return longest_text(self.config.to_dict(), tokenizer_in(self.processor), declared)

    def at_most(self, tokens: int) -> int:
        """Return the number of tokens, or `max_tokens` if that is less."""
        return tokens if self.max_tokens is None else min(tokens, self.max_tokens)

    @property
    def config(self) -> PretrainedConfig:
        """The model's configuration."""
        config: PretrainedConfig = self.model.config
        return config

    @cached_property
    def layout(self) -> Layout:
        """The axes of each tensor.

        Raises:
            Mismatch: A tensor is missing in the family's table or has another shape.
            Unsupported: A model of this configuration cannot be cut.
        """
        return Layout.of(self.family, self.model)

    @property
    def architecture(self) -> Architecture:
        """The teacher's sizes."""
        return self.layout.architecture

    @cached_property
    def least_vocab_size(self) -> int:
        """Number of tokens that every student keeps: special tokens, bytes and characters."""
        tokenizer = tokenizer_in(self.processor)
        return 0 if tokenizer is None else len(must_keep(tokenizer) | {self.pad_id})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the configuration and the weights, independent of the files' location."""
        return fingerprint_of(self.model, self.pooling)

    @cached_property
    def magnitudes(self) -> Calibration:
        """The importance of units by their weights alone."""
        return Calibration.of_weights(self)

    @cached_property
    def token_vectors(self) -> Tensor:
        """The sentence vector of each token alone, ``(tokens, dimension)``.

        Raises:
            Unsupported: It makes no sentence vectors.
        """
        embedder = self.embedder()
        if embedder is None:
            raise Unsupported(f"{self.source}: a model for {self.task} makes no sentence vectors")
        return token_vectors(embedder, self.tokenizer, rows_of(self.model))

    @property
    def generates(self) -> bool:
        """Whether it generates text autoregressively with a KV cache."""
        return self.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}

    @property
    def has_logits(self) -> bool:
        """Whether it outputs class or token logits, not states or scores."""
        scores = {Outputs.SCORES, Outputs.LABELS}
        return self.task.has_logits and outputs_of(self.task, self.config) not in scores

    @property
    def outputs(self) -> int:
        """Number of outputs of a row: the dimension of vectors, or the classes or tokens."""
        if self.pooling is None:
            if self.generates or self.task is Task.FILL_MASK:
                return self.architecture.vocab_size
            return int(self.config.num_labels or 0)
        last = self.pooling.projection
        return self.architecture.hidden_size if last is None else len(last[0])

    def projection_size(self, architecture: Architecture) -> int:
        """Return the number of weights of the sentence projection of that architecture."""
        own, pooling = self.architecture.hidden_size, self.pooling
        last = None if pooling is None else pooling.projection
        if pooling is not None and is_other(architecture):
            return self.outputs * (architecture.hidden_size + 1)
        if pooling is None or (last is None and architecture.hidden_size == own):
            return 0
        return (own if last is None else len(last[0])) * (architecture.hidden_size + 1)

    def can_be(self, architecture: Architecture) -> bool:
        """Return whether a student of an architecture can be made from this model.

        Raises:
            Unsupported: It is of another family, which has no model for this one's task.
        """
        if is_other(architecture):
            return self._can_be_other(architecture)
        is_pruned = architecture.vocab_size < self.architecture.vocab_size
        # read the tokenizer only if needed: not every tokenizer can be pruned
        if is_pruned and architecture.vocab_size < self.least_vocab_size:
            return False
        turned = architecture.rotation(self.architecture) is not None
        if not (turned or self.family.first_layer_stays or self.family.as_hidden):
            return True  # the family's own checks suffice
        try:
            if turned:
                check_turns(self)
            configured(self.layout, self.config, architecture)
        except Infeasible:
            return False
        return True

    def _can_be_other(self, architecture: Architecture) -> bool:
        try:
            blueprint_of(self, architecture).skeleton()
        except Infeasible:
            return False
        return not 0 < architecture.vocab_size < self.least_vocab_size

    def blueprint(self, architecture: Architecture) -> Blueprint:
        """Return class and configuration of the student of an architecture.

        Raises:
            Infeasible: The configuration class refuses the sizes.
        """
        if is_other(architecture):
            return blueprint_of(self, architecture)
        config = configured(self.layout, self.config, architecture)
        return Blueprint.of(type(self.model).__name__, config)

    @checks_arguments
    def student(
        self, architecture: Architecture, calibration: Calibration | None = None
    ) -> Student:
        """Cut the student of an architecture from this teacher and heal it.

        Policies that the architecture does not name are those of a search: with a calibration
        ``Closest()``, ``Surgeon()`` and sequential healing; without one ``Ends()``, ``Magnitude()``
        and no healing.

        Args:
            architecture: The student's sizes and policies.
            calibration: What `Calibration.of` measured of this teacher, or None without data.

        Raises:
            BadInput: The calibration is missing or lacks what a policy or healing needs.
            Infeasible: The configuration class refuses the sizes, the vocabulary is too small, or
                the residual stream cannot be rotated.
        """
        if is_other(architecture):
            return made_otherwise(self, architecture)
        architecture = architecture.resolved(calibration)
        vocab = None
        if architecture.vocab_size < self.architecture.vocab_size:
            known = calibration if architecture.width_policy.needs_calibration else None
            frequency = (known or Calibration.flat(self.layout)).vocab.clone()
            frequency[self.pad_id] = torch.inf  # the padding token stays
            vocab = choose_tokens(self.tokenizer, frequency, architecture.vocab_size)
        ranked = self.magnitudes if architecture.width_policy.needs_weights else calibration
        kept = choose(self.layout, architecture, ranked, vocab)
        return self.student_of(architecture, kept, calibration)

    def student_of(
        self, architecture: Architecture, kept: Selection, calibration: Calibration | None = None
    ) -> Student:
        """Cut and heal the student that keeps exactly these units.

        Raises:
            Mismatch: The number of units differs from the architecture's sizes.
        """
        return made(self, architecture.resolved(calibration), kept, calibration)

    def fresh(
        self,
        architecture: Architecture,
        how: Initialisation = "xavier",
        seed: int = 0,
        calibration: Calibration | None = None,
    ) -> Student:
        """Build the student of an architecture with random weights, as a baseline.

        Configuration, tokens and pooling are those of `student`.

        Args:
            architecture: The sizes.
            how: The initialisation.
            seed: Seed of the draw.
            calibration: Chooses the kept tokens; needed by the same policies as in `student`.

        Raises:
            BadInput: The initialisation is unknown, or the calibration is missing.
            Infeasible: As in `student`.
        """
        architecture = architecture.resolved(calibration)
        with torch.random.fork_rng(devices=[]):  # leaves the global random state unchanged
            cut = self.student(replace(architecture, healing="none"), calibration)
        return redrawn(replace(cut, architecture=architecture), self.family, how, seed)

    def with_model(self, model: PreTrainedModel, pooling: Pooling | None) -> "Teacher":
        """Return this teacher with another model of the family and its pooling."""
        return replace(self, model=model, pooling=pooling)

    def embedder(self) -> Embedder | None:
        """Return the teacher with its pooling, or None if it makes no vectors."""
        return embedder(self, self.model)
