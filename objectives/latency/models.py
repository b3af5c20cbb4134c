"""The models that can be timed: blueprints with random weights, and saved checkpoints."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from protege.objectives.latency.workload import Workload
from protege.spaces.checkpoints.padding import positions_in
from protege.spaces.errors import BadInput
from protege.spaces.models import blueprint
from protege.spaces.models.blueprint import Blueprint

if TYPE_CHECKING:  # jobs and their results are read without torch
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class SavedModel:
    """A model in a folder written by ``save_pretrained``.

    Attributes:
        model_class: Name of a transformers class, such as ``"BertModel"``.
        folder: Path of the folder with ``config.json`` and the weights.
    """

    model_class: str
    folder: str

    @classmethod
    def at(cls, source: str | Path) -> "SavedModel":
        """Return the model of a folder or a hub id, with the class named by its config.

        Raises:
            BadInput: The folder or id does not exist, or its config names no class.
        """
        path = Path(source).expanduser().resolve()
        if not path.exists():
            path = _downloaded(str(source))
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            return cls(config["architectures"][0], str(path))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise BadInput(f"{path} has no config.json that names its model class") from error

    def build(self) -> "PreTrainedModel":
        """Load the model in float32 and evaluation mode."""
        import torch

        kind = class_named(self.model_class)
        model: PreTrainedModel = kind.from_pretrained(
            self.folder, dtype=torch.float32, local_files_only=True
        )
        model.eval()
        return model


def _downloaded(repo_id: str) -> Path:
    """Download a checkpoint from the hub unless it is cached; return its folder."""
    try:
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors"]))
    except (HFValidationError, HfHubHTTPError, OSError, ValueError) as error:
        raise BadInput(
            f"{repo_id}: no such folder, and no model of that id could be fetched from the hub"
        ) from error


Model = Blueprint | SavedModel


def class_named(model_class: str) -> Any:
    """Import a model class by its name.

    Raises:
        BadInput: transformers exports no such class.
    """
    try:
        return blueprint.class_named(model_class)
    except AttributeError as error:
        raise BadInput(f"transformers exports no class {model_class!r}") from error


def generates(model: Model) -> bool:
    """Return whether the model's class can generate tokens."""
    return bool(class_named(model.model_class).can_generate())


def configuration_of(model: Model) -> "PretrainedConfig":
    """Return the model's configuration."""
    if isinstance(model, Blueprint):
        return model.configuration()
    kind = class_named(model.model_class).config_class
    config: PretrainedConfig = kind.from_pretrained(model.folder, local_files_only=True)
    return config


def described(model: Model) -> dict[str, str]:
    """Return the model's fields as JSON values."""
    return asdict(model)


def model_from(fields: Mapping[str, str]) -> Model:
    """Return the model from the fields that `described` returned."""
    return SavedModel(**fields) if "folder" in fields else Blueprint(**fields)


def built(model: Model, dtype: Any = None) -> "PreTrainedModel":
    """Build the module in a torch dtype, float32 if None.

    A blueprint's weights are written with random numbers: untouched pages all map to one zero page,
    which stays in the processor cache as real weights do not.
    """
    module: PreTrainedModel = model.build()
    module = module.float() if dtype is None else module.to(dtype)
    text: Any = module.config.get_text_config()
    if not module.can_generate() and getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = -1  # decoder classifiers refuse a batch without a padding id
    return module


def check_fits(model: Model, workload: Workload) -> None:
    """Check that the model can run the workload.

    Raises:
        BadInput: The model generates no tokens but the workload asks for some, or the workload
            needs more positions than the model has.
    """
    if workload.new_tokens and not generates(model):
        raise BadInput(
            f"{model.model_class} generates no tokens: new_tokens must be 0,"
            f" not {workload.new_tokens}"
        )
    config = configuration_of(model)
    needed = workload.prompt_tokens + workload.new_tokens
    if config.is_encoder_decoder and workload.new_tokens:
        # the longer of its two sequences; the decoder's has a start token
        reads_text = class_named(model.model_class).main_input_name == "input_ids"
        needed = max(workload.prompt_tokens if reads_text else 0, workload.new_tokens + 1)
    bound = positions_in(config.to_dict())
    if bound is not None and needed > bound:
        raise BadInput(
            f"{model.model_class} has positions for {bound} tokens: {workload} takes {needed}; "
            "expected a workload of fewer tokens"
        )
