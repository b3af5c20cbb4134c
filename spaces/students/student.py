"""The student: a plain Hugging Face model and the record of how it was made."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.checkpoints.muted import quiet
from protege.spaces.checkpoints.pooling import Embedder, write_sentence_transformer
from protege.spaces.checkpoints.processors import save_processor, tokenizer_of
from protege.spaces.students.manifest import write_manifest
from protege.spaces.students.selection import Kept

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
        model: The model, of the teacher's own class.
        processor: The teacher's tokenizer or image processor, reduced to the kept tokens.
        architecture: Its sizes and policies.
        kept: The teacher's units that it keeps; only tokens if its weights are random.
        embedder: The model with its pooling, or None if it makes no sentence vectors.
        is_sentence_transformer: Whether it is saved as a SentenceTransformer. A student with a
            projection always is, because a bare transformer cannot store the projection.
        initialised: The random initialisation, or None if the weights are the teacher's.
    """

    model: PreTrainedModel
    processor: Any
    architecture: Architecture
    kept: Kept
    embedder: Embedder | None = None
    is_sentence_transformer: bool = False
    initialised: Initialisation | None = None

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

    def copy(self) -> "Student":
        """Return this student with a copy of its weights."""
        model, embedder = deepcopy((self.model, self.embedder))  # together: one holds the other
        return replace(self, model=model, embedder=embedder)

    def manifest(self) -> dict[str, Any]:
        """Return sizes, policies, kept units and initialisation as JSON values."""
        drawn = {} if self.initialised is None else {"initialised": self.initialised}
        return {"architecture": self.architecture.fields(), "kept": self.kept.manifest(), **drawn}

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
            write_sentence_transformer(path, embedder.pooling, embedder.projection, width)
        manifest = write_manifest(path, {**self.manifest(), **about})
        _give_modes(path, manifest)
        return path


def _give_modes(folder: Path, like: Path) -> None:
    """Copy a file's mode to the weights: safetensors writes them with mode 0600."""
    mode = like.stat().st_mode & 0o777
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)
