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
    TEXT_TO_TEXT = "text2text-generation"
    TEXTS = "text-classification"
    TOKENS = "token-classification"
    QUESTIONS = "question-answering"
    IMAGE_FEATURES = "image-feature-extraction"
    IMAGES = "image-classification"
    SPEECH = "automatic-speech-recognition"

    @property
    def auto_class(self) -> str:
        """The transformers class that loads a checkpoint for it."""
        return _AUTO_CLASSES[self]

    @property
    def auto_processor(self) -> str:
        """The transformers class that loads what makes the model's inputs."""
        if self in {Task.IMAGES, Task.IMAGE_FEATURES}:
            return "AutoImageProcessor"
        return "AutoProcessor" if self is Task.SPEECH else "AutoTokenizer"

    @property
    def has_logits(self) -> bool:
        """Whether the model answers with logits; otherwise with states."""
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


def makes_vectors(task: Task, config: PretrainedConfig) -> bool:
    """Whether a model for the task makes one vector of a text, by pooling."""
    paired = getattr(config, "is_encoder_decoder", False)
    # the smallest OPT but one answers in the width of its embedding, which is no stream of its own
    narrow = getattr(config, "word_embed_proj_dim", config.hidden_size) != config.hidden_size
    return task is Task.SENTENCES or (task is Task.FEATURES and not paired and not narrow)
