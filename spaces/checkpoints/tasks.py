"""The task of a model, and how to read it from the checkpoint."""

from enum import StrEnum
from typing import TYPE_CHECKING

from protege.spaces.errors import BadInput, Unsupported
from protege.spaces.families.family import family_or_bare

if TYPE_CHECKING:  # records name tasks without torch
    from transformers import PretrainedConfig


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


def task_of(given: str | None, config: "PretrainedConfig", *, pools: bool, is_gguf: bool) -> Task:
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
    if pools:
        return Task.SENTENCES
    if is_gguf:
        return Task.GENERATION
    declared = (getattr(config, "architectures", None) or ["Model"])[0]
    for ending, task in _TASKS.items():
        if declared.endswith(ending):
            return task
    raise Unsupported(
        f"{declared}: this head is not supported; give task=, one of {', '.join(Task)}"
    )


def makes_vectors(task: Task, config: "PretrainedConfig") -> bool:
    """Return whether a model for the task makes sentence vectors by pooling."""
    paired = getattr(config, "is_encoder_decoder", False)
    family = family_or_bare(config.model_type)
    width = family.field_of(config, "hidden_size")
    narrow = getattr(config, family.outputs or "hidden_size", width) != width
    return task is Task.SENTENCES or (task is Task.FEATURES and not paired and not narrow)


class Outputs(StrEnum):
    """What a head's outputs are."""

    OTHER = "states, tokens or spans"
    CLASSES = "one class for each input"
    LABELS = "several classes for each input"
    SCORES = "scores"


_HEADS = {Task.TEXTS, Task.TOKENS, Task.IMAGES}

_SEVERAL = "multi_label_classification"

_OF_PAIRS = {
    *("entailment", "contradiction", "not_entailment"),
    *("duplicate", "not_duplicate", "equivalent", "not_equivalent", "paraphrase"),
}
"""Class names that describe a relation between two texts."""


def outputs_of(task: Task, config: "PretrainedConfig") -> Outputs:
    """Return what the outputs of a model's head are."""
    if task not in _HEADS:
        return Outputs.OTHER
    if config.problem_type == _SEVERAL:
        return Outputs.LABELS
    is_scored = config.num_labels == 1 or config.problem_type == "regression"
    return Outputs.SCORES if is_scored else Outputs.CLASSES


def compares_texts(config: "PretrainedConfig") -> bool:
    """Return whether a classifier of texts declares that it reads pairs of them.

    Cross-encoders of sentence-transformers do, and those with classes such as entailment.
    """
    names = [str(name).lower() for name in (config.id2label or {}).values()]
    named = any(name.replace(" ", "_").replace("-", "_") in _OF_PAIRS for name in names)
    return named or bool(getattr(config, "sentence_transformers", None))
