"""The student: a plain Hugging Face model, the record of how it was made, and how it is saved."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.arguments import checks_arguments
from protege.spaces.checkpoints.pooling import Embedder, write_sentence_transformer
from protege.spaces.checkpoints.processors import save_processor, tokenizer_of, with_tokenizer
from protege.spaces.checkpoints.source import quiet
from protege.spaces.errors import BadInput
from protege.spaces.files.manifest import write_manifest
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.students.config import configured
from protege.spaces.students.inference import Columns, Inference
from protege.spaces.students.selection import Selection, Units
from protege.spaces.vocabulary.renumbering import renumbered
from protege.spaces.vocabulary.tokenizer import choose_tokens, shrunk

Initialisation = Literal["random", "xavier"]
"""Random initialisation of weights.

``random`` uses the model class's own initialisation, mostly normal with ``initializer_range``.
``xavier`` also draws the matrices of linear layers, convolutions and experts uniformly from
±sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, "Understanding the difficulty of training
deep feedforward neural networks"); a fused matrix counts as one. Embeddings, biases and norms keep
the class's initialisation, because some classes store a norm's gain minus one.
"""


@dataclass(eq=False)
class Student:
    """A student, ready to train and to save.

    Attributes:
        model: The model, of the teacher's own class or of another family.
        processor: The teacher's tokenizer or image processor, reduced to the kept tokens.
        architecture: Its sizes and policies.
        kept: The teacher's units that it keeps; only tokens if its weights are random.
        embedder: The model with its pooling, or None if it makes no vectors.
        is_sentence_transformer: Whether it is saved as a SentenceTransformer. A student with a
            projection always is, because a bare transformer cannot store the projection.
        initialised: The random initialisation, or None if the weights are the teacher's.
        taken: Of a student of another family, the tensors that come from its teacher all the same.
    """

    model: PreTrainedModel
    processor: Any
    architecture: Architecture
    kept: Selection
    embedder: Embedder | None = None
    is_sentence_transformer: bool = False
    initialised: Initialisation | None = None
    taken: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Student {self.model.config.model_type}: {self.architecture}>"

    @property
    def module(self) -> nn.Module:
        """The module to train: the embedder if there is one, else the model."""
        return self.model if self.embedder is None else self.embedder

    @property
    def nbytes(self) -> int:
        """Size of the weights in bytes."""
        return sum(parameter.nbytes for parameter in self.module.parameters())

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            Unsupported: The model reads only images.
        """
        return tokenizer_of(self.processor)

    def encode(
        self, texts: Sequence[str], batch_size: int = 32, prompt: str | None = None
    ) -> Tensor:
        """Return sentence vectors, ``(texts, dimension)``, as sentence-transformers makes them.

        Like `predict` and `generate` it pads and truncates, runs on the model's device without
        dropout and gradients, and returns 32-bit floats on the CPU.

        Args:
            texts: The texts.
            batch_size: Texts per batch.
            prompt: Text before each text; None for the checkpoint's default prompt.

        Raises:
            Unsupported: The model makes no sentence vectors.
        """
        return self._inference.encode(texts, batch_size, prompt)

    def predict(self, inputs: Sequence[Any] | Columns, batch_size: int = 32) -> Tensor:
        """Return logits.

        Args:
            inputs: Texts; pairs of texts as tuples; texts split into lists of words; images;
                recordings as one-dimensional arrays or mappings with ``array`` and
                ``sampling_rate``; or arguments of the forward by name, token ids as lists.
            batch_size: Inputs per batch.

        Returns:
            ``(inputs, classes)``; with one output per token ``(inputs, tokens, classes)``, where
            padding is minus infinity. The two classes of question answering are start and end.

        Raises:
            Unsupported: The model has no head.
        """
        return self._inference.predict(inputs, batch_size)

    def generate(
        self, prompts: Sequence[Any] | Columns, max_new_tokens: int = 64, batch_size: int = 32
    ) -> list[str]:
        """Return the text that the model generates greedily, without the prompt.

        Args:
            prompts: Texts or recordings, as in `predict`. Of a prompt that is too long, a decoder
                reads the end.
            max_new_tokens: Maximum tokens of a text, at most what the model has positions for.
            batch_size: Prompts per batch.

        Raises:
            Unsupported: The model generates no text.
        """
        return self._inference.generate(prompts, max_new_tokens, batch_size)

    @property
    def _inference(self) -> Inference:
        return Inference(self.model, self.processor, self.embedder)

    @property
    def max_tokens(self) -> int | None:
        """The maximum input length in tokens, or None if unbounded."""
        return self._inference.max_tokens

    def copy(self) -> "Student":
        """Return this student with a copy of its weights."""
        model, embedder = deepcopy((self.model, self.embedder))  # together: one holds the other
        return replace(self, model=model, embedder=embedder)

    def manifest(self) -> dict[str, Any]:
        """Return sizes, policies, kept units and initialisation as JSON values."""
        drawn: dict[str, Any] = (
            {} if self.initialised is None else {"initialised": self.initialised}
        )
        drawn |= {"from_teacher": list(self.taken)} if self.taken else {}
        drawn |= {"has_code": True} if getattr(self.model.config, "auto_map", None) else {}
        return {"architecture": self.architecture.fields(), "kept": self.kept.manifest(), **drawn}

    @checks_arguments
    def save(self, folder: str | Path, **about: Any) -> Path:
        """Write the checkpoint: configuration, safetensors, tokenizer and manifest.

        Sentence encoders also get the files of a SentenceTransformer. The umask sets the mode of
        all files.

        Args:
            folder: The target folder; created if it does not exist.
            about: Further manifest entries, as JSON values.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(path)
            if self.processor is not None:
                save_processor(self.processor, path)
        embedder = self.embedder
        if embedder and (self.is_sentence_transformer or embedder.projection):
            width = self.architecture.hidden_size
            is_static = self.model.config.model_type == "static"
            write_sentence_transformer(
                path, embedder.pooling, embedder.projection, width, is_static=is_static
            )
        manifest = write_manifest(path, {**self.manifest(), **about})
        for weights in path.rglob("*.safetensors"):  # safetensors writes them with mode 0600
            weights.chmod(manifest.stat().st_mode & 0o777)
        return path


_MODES = ("do_sample", "num_beams")
"""Fields that select the generation mode; other fields apply only in some modes."""


def generation_config(model: PreTrainedModel, vocab: Units | None) -> Any:
    """Return a teacher's generation config for students with some or all tokens, to be saved."""
    own: Any = deepcopy(model.generation_config)
    if vocab is not None:
        own = type(own)(**renumbered(own.to_dict(), vocab))
    return savable(own)


def savable(config: GenerationConfig) -> GenerationConfig:
    """Return a generation config that generates the same text and can be saved.

    Transformers loads a config with fields that have no effect, such as a temperature with
    ``do_sample: false``, but refuses to save it after a change. Such fields are left out. A config
    that can be saved is returned unchanged.
    """
    with quiet():
        if not _refusal(config.save_pretrained):
            return config
        given = {name: value for name, value in config.to_dict().items() if value is not None}
        kept: dict[str, Any] = {}
        for name in sorted(given, key=lambda name: name not in _MODES):
            if _is_valid(type(config), {**kept, name: given[name]}):
                kept[name] = given[name]
        return type(config)(**kept)


def check_saves(teacher: LaidOutModel, vocab_size: int) -> None:
    """Save a student's files except its weights to a temporary folder, to check that they can be.

    Raises:
        BadInput: Transformers refuses to save the configuration, the generation config or the
            tokenizer.
    """
    own, vocab, processor = teacher.architecture, None, teacher.processor
    if vocab_size < own.vocab_size:
        importance = torch.ones(own.vocab_size)
        vocab = choose_tokens(teacher.tokenizer, importance, vocab_size)
        processor = with_tokenizer(processor, shrunk(teacher.tokenizer, vocab))
    student = replace(own, vocab_size=vocab_size)
    parts: dict[str, Any] = {
        "configuration": configured(teacher.layout, teacher.config, student, vocab),
        "generation config": generation_config(teacher.model, vocab)
        if teacher.model.can_generate()
        else None,
        type(processor).__name__: processor,
    }
    for part, content in parts.items():
        with quiet():
            refusal = "" if content is None else _refusal(content.save_pretrained)
        if refusal:
            raise BadInput(
                f"the teacher's {part} cannot be saved, so no student could be: {refusal}; fix it "
                "in the teacher's folder"
            )


def _refusal(save: Callable[[Path], object]) -> str:
    """Return why saving fails, in one line; empty if it succeeds."""
    try:
        with TemporaryDirectory() as name:
            save(Path(name))
    except Exception as error:  # noqa: BLE001 - a tokenizer may run custom code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _is_valid(kind: type[GenerationConfig], fields: Mapping[str, Any]) -> bool:
    try:
        kind(**fields).validate(strict=True)
    except (ValueError, TypeError):
        return False
    return True
