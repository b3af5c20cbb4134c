"""The task of a model, and how to read it from the checkpoint."""

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from protege.spaces.checkpoints.padding import longest_text
from protege.spaces.errors import BadInput, Unsupported
from protege.spaces.families import family_or_bare

if TYPE_CHECKING:  # records name tasks without torch
    from transformers import PretrainedConfig

    from protege.spaces.checkpoints.pooling import Pooling


class Task(StrEnum):
    """The task of a model, by the names of Hugging Face pipelines."""

    FEATURES = "feature-extraction"
    SENTENCES = "sentence-similarity"
    FILL_MASK = "fill-mask"
    GENERATION = "text-generation"
    TEXT_TO_TEXT = "text2text-generation"
    TEXTS = "text-classification"
    TOKENS = "token-classification"
    QUESTIONS = "question-answering"
    IMAGE_FEATURES = "image-feature-extraction"
    IMAGES = "image-classification"
    SPEECH = "automatic-speech-recognition"

    @property
    def auto_class(self) -> str:
        """The transformers class that loads the model."""
        return _AUTO_CLASSES[self]

    @property
    def auto_processor(self) -> str:
        """The transformers class that loads the processor."""
        if self in {Task.IMAGES, Task.IMAGE_FEATURES}:
            return "AutoImageProcessor"
        return "AutoProcessor" if self is Task.SPEECH else "AutoTokenizer"

    @property
    def has_logits(self) -> bool:
        """Whether the model outputs logits; otherwise states."""
        return self.auto_class != "AutoModel"


_AUTO_CLASSES = {
    Task.FEATURES: "AutoModel",
    Task.SENTENCES: "AutoModel",
    Task.FILL_MASK: "AutoModelForMaskedLM",
    Task.GENERATION: "AutoModelForCausalLM",
    Task.TEXT_TO_TEXT: "AutoModelForSeq2SeqLM",
    Task.TEXTS: "AutoModelForSequenceClassification",
    Task.TOKENS: "AutoModelForTokenClassification",
    Task.QUESTIONS: "AutoModelForQuestionAnswering",
    Task.IMAGE_FEATURES: "AutoModel",
    Task.IMAGES: "AutoModelForImageClassification",
    Task.SPEECH: "AutoModelForSpeechSeq2Seq",
}

_TASKS = {
    "WhisperForConditionalGeneration": Task.SPEECH,
    "ForConditionalGeneration": Task.TEXT_TO_TEXT,
    "ForMaskedLM": Task.FILL_MASK,
    "ForPreTraining": Task.FILL_MASK,
    "ForCausalLM": Task.GENERATION,
    "LMHeadModel": Task.GENERATION,
    "ForSequenceClassification": Task.TEXTS,
    "ForTokenClassification": Task.TOKENS,
    "ForQuestionAnswering": Task.QUESTIONS,
    "ForImageClassification": Task.IMAGES,
    "ForImageClassificationWithTeacher": Task.IMAGES,
    "Model": Task.FEATURES,
}


def task_of(
    given: str | None, config: "PretrainedConfig", pooling: "Pooling | None", gguf_file: str | None
) -> Task:
    """Return the given task, or the one that the checkpoint declares.

    Raises:
        BadInput: The given task is unknown.
        Unsupported: The checkpoint's head is not supported.
    """
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


def read_as(
    pooling: "Pooling | None", task: Task, config: "PretrainedConfig", tokenizer: Any
) -> "Pooling | None":
    """Return the pooling of a model for the task, with its maximum input length.

    Args:
        pooling: The checkpoint's pooling; None for the mean over tokens.
        task: The task.
        config: The configuration, which has the number of positions.
        tokenizer: The tokenizer, which may have a limit of its own.

    Returns:
        The pooling, or None if the model makes no sentence vectors.
    """
    from protege.spaces.checkpoints.pooling import Pooling

    if not makes_vectors(task, config):
        return None
    pooling = pooling or Pooling()
    limit = longest_text(config.to_dict(), tokenizer, pooling.max_tokens)
    return replace(pooling, max_tokens=limit)


def makes_vectors(task: Task, config: "PretrainedConfig") -> bool:
    """Return whether a model for the task makes sentence vectors by pooling."""
    paired = getattr(config, "is_encoder_decoder", False)
    family = family_or_bare(config.model_type)
    width = family.field_of(config, "hidden_size")
    narrow = getattr(config, family.outputs or "hidden_size", width) != width
    return task is Task.SENTENCES or (task is Task.FEATURES and not paired and not narrow)


_HEADS = {Task.TEXTS, Task.TOKENS, Task.IMAGES}

_SEVERAL = "multi_label_classification"

_OF_PAIRS = {
    *("entailment", "contradiction", "not_entailment"),
    *("duplicate", "not_duplicate", "equivalent", "not_equivalent", "paraphrase"),
}
"""Class names that describe a relation between two texts."""


def is_scored(task: Task, config: "PretrainedConfig") -> bool:
    """Return whether a head outputs independent scores instead of exclusive classes."""
    return task in _HEADS and (
        config.num_labels == 1 or config.problem_type in {"regression", _SEVERAL}
    )


def unjudged(task: Task, config: "PretrainedConfig", *, reads_pairs: bool) -> str | None:
    """Return why the quality of a model's students cannot be judged by its classes.

    Args:
        task: The task.
        config: The configuration.
        reads_pairs: Whether the model reads pairs of texts.

    Returns:
        The reason, or None if each output is one class of one text or image.
    """
    if task not in _HEADS:
        return None
    if is_scored(task, config):
        kind = config.problem_type
        what = "several classes at once" if kind == _SEVERAL else "scores"
        return f"num_labels={config.num_labels}, problem_type={kind!r}: it answers with {what}"
    names = [str(name) for name in (config.id2label or {}).values()]
    if any(name.lower().replace(" ", "_").replace("-", "_") in _OF_PAIRS for name in names):
        return f"classes {', '.join(names)}: it reads pairs of texts"
    if reads_pairs or getattr(config, "sentence_transformers", None):
        return "a cross-encoder: it reads pairs of texts"
    return None
