"""What a model is for, and how that is read from its checkpoint."""

from enum import StrEnum

from transformers import PretrainedConfig

from protege.spaces.errors import BadInput, Unsupported
from protege.spaces.pooling import Pooling


class Task(StrEnum):
    """What the model is for, by the names of Hugging Face pipelines."""

    FEATURES = "feature-extraction"
    SENTENCES = "sentence-similarity"
    FILL_MASK = "fill-mask"
    GENERATION = "text-generation"
    TEXTS = "text-classification"
    TOKENS = "token-classification"

    @property
    def auto_class(self) -> str:
        """The transformers class that loads a checkpoint for it."""
        return _AUTO_CLASSES[self]


_AUTO_CLASSES = {
    Task.FEATURES: "AutoModel",
    Task.SENTENCES: "AutoModel",
    Task.FILL_MASK: "AutoModelForMaskedLM",
    Task.GENERATION: "AutoModelForCausalLM",
    Task.TEXTS: "AutoModelForSequenceClassification",
    Task.TOKENS: "AutoModelForTokenClassification",
}

_TASKS = {
    "ForMaskedLM": Task.FILL_MASK,
    "ForPreTraining": Task.FILL_MASK,
    "ForCausalLM": Task.GENERATION,
    "LMHeadModel": Task.GENERATION,
    "ForSequenceClassification": Task.TEXTS,
    "ForTokenClassification": Task.TOKENS,
    "Model": Task.FEATURES,
}


def task_of(
    given: str | None, config: PretrainedConfig, pooling: Pooling | None, gguf_file: str | None
) -> Task:
    """The task given, or the one that the checkpoint declares."""
    if given is not None:
        try:
            return Task(given)
        except ValueError:
            raise BadInput(f"task {given!r}: expected one of {', '.join(Task)}") from None
    if pooling is not None:
        return Task.SENTENCES
    if gguf_file is not None:
        return Task.GENERATION
    declared = (getattr(config, "architectures", None) or ["Model"])[0]
    for ending, task in _TASKS.items():
        if declared.endswith(ending):
            return task
    raise Unsupported(
        f"{declared}: this head is not supported; give task=, one of {', '.join(Task)}"
    )
