"""What is cut out of a teacher: a plain Hugging Face model and the record of how it was made."""

from dataclasses import dataclass
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
"""How weights are drawn.

``random`` is what the model's class does by itself, mostly normal with ``initializer_range``. With
``xavier`` matrices are drawn uniformly from ±sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010,
"Understanding the difficulty of training deep feedforward neural networks"): those of linear
layers, of convolutions, of each expert, and fused ones as the one matrix that they are. Embeddings,
biases and norms stay as the class makes them, for only it knows whether a norm's gain is its weight
or one more than that.
"""


@dataclass(eq=False)
class Student:
    """A student, ready to train and to save.

    Attributes:
        model: The model, of the teacher's own class.
        processor: The teacher's tokenizer or image processor; of fewer tokens where some were cut.
        architecture: Its sizes and policies.
        kept: The teacher's units it was made of; no more than tokens where its weights were drawn.
        embedder: The model with its pooling, for students that make sentence vectors.
        is_sentence_transformer: Whether it is saved as one; a narrower student always is, for its
            projection has no place in a bare transformer.
        initialised: How its weights were drawn, where they are not its teacher's.
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
        """All that is trained: the embedder where there is one, else the model."""
        return self.model if self.embedder is None else self.embedder

    @property
    def nbytes(self) -> int:
        """Bytes that its weights take in memory."""
        return sum(parameter.nbytes for parameter in self.module.parameters())

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            Unsupported: It reads images alone.
        """
        return tokenizer_of(self.processor)

    def manifest(self) -> dict[str, Any]:
        """Sizes, policies and kept units, as JSON values; how weights were drawn, if they were."""
        drawn = {} if self.initialised is None else {"initialised": self.initialised}
        return {"architecture": self.architecture.fields(), "kept": self.kept.manifest(), **drawn}

    def save(self, folder: str | Path, **about: Any) -> Path:
        """Write the checkpoint: configuration, safetensors, tokenizer and manifest.

        Sentence encoders also get the files that make the folder a SentenceTransformer. All files
        have the mode that the umask gives new ones.

        Args:
            folder: Where to; made if it does not exist.
            about: Further entries of the manifest, as JSON values.
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
    """Give weights the mode of another new file: safetensors writes them with mode 0600."""
    mode = like.stat().st_mode & 0o777
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)
