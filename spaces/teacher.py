"""The model that students are cut from."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from typing_extensions import Buffer

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.unit_policies import rotation_of
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.checkpoints.missing import check_finite, settle
from protege.spaces.checkpoints.muted import quiet
from protege.spaces.checkpoints.padding import pad_id, settle_pad
from protege.spaces.checkpoints.pooling import Embedder, Pooling, read_pooling, reads_pairs
from protege.spaces.checkpoints.positions import longest_text
from protege.spaces.checkpoints.processors import read_processor, tokenizer_in, tokenizer_of
from protege.spaces.checkpoints.source import (
    as_bad_input,
    hub_id_of,
    place_of,
    tell_of_attention,
    usable,
)
from protege.spaces.checkpoints.tasks import Task, is_scored, read_as, task_of
from protege.spaces.errors import Infeasible, Mismatch
from protege.spaces.families import TOWERS, Family, family_of
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest_of
from protege.spaces.models.blueprint import Blueprint
from protege.spaces.models.layout import Layout
from protege.spaces.models.placement import (
    Place,
    as_bad_placement,
    elsewhere,
    is_sharded,
    joined,
    placed,
    weights,
)
from protege.spaces.students.builder import embedder, made
from protege.spaces.students.config import configured
from protege.spaces.students.random_init import redrawn
from protege.spaces.students.rotation import check_turns
from protege.spaces.students.saving import savable
from protege.spaces.students.selection import Kept, Units, choose
from protege.spaces.students.student import Initialisation, Student
from protege.spaces.vocabulary.tokenizer import choose_tokens, must_keep, renumbered


@dataclass(frozen=True, eq=False)
class Teacher:
    """A loaded model with all that its students inherit.

    Attributes:
        model: The model, in fp32, in evaluation mode.
        processor: What turns the user's data into its inputs: a tokenizer, an image processor, a
            feature extractor with a tokenizer.
        task: What it is for.
        family: The table it is cut by.
        source: The folder or hub id it came from.
        pooling: How it makes sentence vectors; only for `Task.SENTENCES` and `Task.FEATURES`.
        loaded_with: What `load` was told, of a teacher that is not on the CPU as a whole: another
            process loads it again, where a copy of its weights would have no room.
        hub_id: Its id on the Hugging Face hub, or None if it came from a folder.
        reads_pairs: Whether it reads two texts at once, as a cross-encoder does.
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
        """The teacher in a local folder or under a hub id.

        Args:
            source: A folder with a checkpoint, or the id of one on the Hugging Face hub.
            task: One of `Task`; read from the checkpoint if not given.
            revision: Branch, tag or commit on the hub.
            gguf_file: Name of a GGUF file in the folder; its weights are dequantised.
            trust_remote_code: Whether code that comes with the checkpoint may run.
            device_map: Where its weights lie, as accelerate takes it: ``"auto"``, a device, or
                devices by module, ``"cpu"`` and ``"disk"`` among them. On the CPU if not given.
            max_memory: What ``"auto"`` may fill of each device, in bytes or as ``"20GiB"``.
            offload_folder: Where weights on disk are written that are not in safetensors already.

        Raises:
            BadInput: There is no model there, or none for the task, or no such task; or there is
                no such device, or accelerate is not installed.
            Unsupported: The model type is not one that protege knows, or not one it can cut; or it
                is to be read from disk and cannot.
        """
        place = place_of(source)
        placement = placed(device_map, max_memory, offload_folder)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        if gguf_file is not None:
            options["gguf_file"] = gguf_file
        with as_bad_input(place, revision, gguf_file), quiet():
            config = AutoConfig.from_pretrained(place, **options)
            config = getattr(config, TOWERS.get(config.model_type, ""), config)
            attention = usable(config)
            family = family_of(config.model_type)
            pooling = None if gguf_file else read_pooling(place, revision)
            kind = task_of(task, config, pooling, gguf_file)
            if kind is Task.FEATURES and "vocab_size" not in family.sizes:
                kind = Task.IMAGE_FEATURES  # their classes are named alike
            auto_class = getattr(transformers, kind.auto_class)
            # given the configuration, neither reads it again: from GGUF that takes seconds
            with as_bad_placement(placement):
                model, loading = auto_class.from_pretrained(
                    place,
                    config=config,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # `settle` names them
                    **options,
                    **placement,
                )
            settle(model.eval(), loading, kind)
            joined(model, family)
            processor = read_processor(place, config, kind, options)
        pooling = read_as(pooling, kind, config, tokenizer_in(processor))
        tell_of_attention(place, attention, model.config)
        known = {"task": kind.value, **options, **placement} if is_sharded(model) else None
        pairs = kind is Task.TEXTS and not gguf_file and reads_pairs(place, revision)
        return cls(model, processor, kind, family, place, pooling, known, hub_id_of(place), pairs)

    def __getstate__(self) -> dict[str, Any]:
        """All of it; of a sharded one where to load it from, and what must be found there."""
        if self.loaded_with is None:
            return vars(self)
        folder = Path(self.source)
        return {
            "source": str(folder.resolve()) if folder.is_dir() else self.source,
            "loaded_with": self.loaded_with,
            "fingerprint": self.fingerprint,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Raises what `load` does, and Mismatch where the weights are no longer the same."""
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
            Unsupported: It reads images alone.
        """
        return tokenizer_of(self.processor)

    @cached_property
    def pad_id(self) -> int:
        """The id that fills up the shorter texts of a batch; see `padding.pad_id`."""
        return pad_id(self.model, self.tokenizer)

    @cached_property
    def max_tokens(self) -> int | None:
        """The longest text that it reads, in tokens; None without a bound."""
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
        """What each of its tensors is made of.

        Raises:
            Mismatch: A tensor that the family's table does not name, or names otherwise.
            Unsupported: The configuration makes a model that cannot be cut.
        """
        return Layout.of(self.family, self.model)

    @property
    def architecture(self) -> Architecture:
        """The teacher's own sizes: ratio 1.0."""
        return self.layout.architecture

    @cached_property
    def least_vocab_size(self) -> int:
        """Tokens that every student keeps: special ones, bytes and characters; 0 without any."""
        tokenizer = tokenizer_in(self.processor)
        return 0 if tokenizer is None else len(must_keep(tokenizer) | {self.pad_id})

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the configuration and of every weight; the same wherever the files lie."""
        fields = self.config.to_dict()
        for place_or_version in ("_name_or_path", "transformers_version", "quantization_config"):
            fields.pop(place_or_version, None)
        return digest_of(self._parts(json.dumps(fields, sort_keys=True, default=str).encode()))

    def _parts(self, fields: bytes) -> Iterator[Buffer]:
        """What it is told by, one tensor after the other."""
        yield fields
        own = weights(self.model)
        for name in sorted(own):
            yield name.encode()
            tensor = own[name]
            if is_sharded(self.model):  # some are on disk, where nothing has looked at them yet
                check_finite(self.model, {name: tensor})
            yield tensor_bytes(tensor)
        if self.pooling is not None and self.pooling.projection is not None:
            yield from map(tensor_bytes, self.pooling.projection)

    @cached_property
    def magnitudes(self) -> Calibration:
        """The importance of its units by their weights alone."""
        return Calibration.of_weights(self)

    @property
    def generates(self) -> bool:
        """Whether it writes text token by token, keeping keys and values."""
        return self.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}

    @property
    def has_logits(self) -> bool:
        """Whether it answers with logits of which one is right; otherwise with states or scores."""
        return self.task.has_logits and not is_scored(self.task, self.config)

    def projection_size(self, architecture: Architecture) -> int:
        """Weights of the projection that a sentence encoder of that architecture ends with."""
        own = self.architecture.hidden_size
        if self.pooling is None:
            return 0
        if self.pooling.projection is None and architecture.hidden_size == own:
            return 0
        outputs = own if self.pooling.projection is None else len(self.pooling.projection[0])
        return outputs * (architecture.hidden_size + 1)

    def can_be(self, architecture: Architecture) -> bool:
        """Whether a student of that architecture, which the family takes, can be cut from it."""
        is_pruned = architecture.vocab_size < self.architecture.vocab_size
        # only then is the tokenizer looked into: not every one can be pruned
        if is_pruned and architecture.vocab_size < self.least_vocab_size:
            return False
        turned = rotation_of(architecture, self.architecture) is not None
        if not (turned or self.family.first_layer_stays or self.family.as_hidden):
            return True  # nothing that the family itself has not judged already
        try:
            if turned:
                check_turns(self)
            configured(self.layout, self.config, architecture)
        except Infeasible:
            return False
        return True

    def blueprint(self, architecture: Architecture) -> Blueprint:
        """Class and configuration of the student of that architecture.

        Raises:
            Infeasible: The configuration class refuses the sizes.
        """
        config = configured(self.layout, self.config, architecture)
        return Blueprint.of(type(self.model).__name__, config)

    def student(
        self, architecture: Architecture, calibration: Calibration | None = None
    ) -> Student:
        """The student of that architecture, cut from this teacher and healed as it says.

        Raises:
            BadInput: A policy, or the healing, needs of a calibration what is not given.
            Infeasible: The configuration class refuses the sizes, the vocabulary is too small, or
                the residual stream is to be rotated and cannot be.
        """
        architecture = architecture.resolved(calibration)
        vocab = None
        if architecture.vocab_size < self.architecture.vocab_size:
            known = calibration if architecture.width_policy.needs_calibration else None
            frequency = (known or Calibration.flat(self.layout)).vocab.clone()
            frequency[self.pad_id] = torch.inf  # what the model looks for stays
            vocab = choose_tokens(self.tokenizer, frequency, architecture.vocab_size)
        ranked = self.magnitudes if architecture.width_policy.needs_weights else calibration
        kept = choose(self.layout, architecture, ranked, vocab)
        return self.student_of(architecture, kept, calibration)

    def student_of(
        self, architecture: Architecture, kept: Kept, calibration: Calibration | None = None
    ) -> Student:
        """The student that keeps exactly these units, healed as the architecture says.

        Raises:
            Mismatch: The units are not as many as the architecture has.
        """
        return made(self, architecture, kept, calibration)

    def fresh(
        self,
        architecture: Architecture,
        how: Initialisation = "xavier",
        seed: int = 0,
        calibration: Calibration | None = None,
    ) -> Student:
        """The student of that architecture with random weights, to compare a cut one with.

        All but weights is as `student` makes it: configuration, tokens, pooling.

        Args:
            architecture: The sizes.
            how: How weights are drawn.
            seed: Of the draw; the same seed gives the same student.
            calibration: For a policy that asks for it: it tells which tokens stay.

        Raises:
            BadInput: No such initialisation, or no calibration where `student` needs one.
            Infeasible: As `student`.
        """
        with torch.random.fork_rng(devices=[]):  # no draw of any step shows outside
            cut = self.student(replace(architecture, healing="none"), calibration)
        return redrawn(replace(cut, architecture=architecture), self.family, how, seed)

    @property
    def can_generate(self) -> bool:
        """Whether its class has a generation config."""
        return bool(self.model.can_generate())

    def generation_config(self, vocab: Units | None) -> Any:
        """Return how students of these tokens generate text, in a form that can be saved.

        Args:
            vocab: The kept tokens; None if these are all.
        """
        own: Any = deepcopy(self.model.generation_config)
        if vocab is not None:
            own = type(own)(**renumbered(own.to_dict(), vocab))
        return savable(own)

    def with_model(self, model: PreTrainedModel, pooling: Pooling | None) -> "Teacher":
        """Return a teacher with another model of the family and its pooling."""
        return replace(self, model=model, pooling=pooling)

    def embedder(self) -> Embedder | None:
        """The teacher with its pooling; none where it is not for sentence vectors."""
        return embedder(self, self.model)
