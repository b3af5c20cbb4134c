"""The two kinds of model that can be timed: one with random weights, and one from a folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import PreTrainedModel

from protege.objectives.latency.workload import Workload
from protege.spaces.checkpoints.padding import positions_in
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights, in a folder as transformers saves it.

    Attributes:
        model_class: Name of a class that transformers exports, such as ``"BertModel"``.
        folder: Where ``config.json`` and the weights are.
    """

    model_class: str
    folder: str

    @classmethod
    def at(cls, source: str | Path) -> "Checkpoint":
        """The checkpoint of a folder or a hub id, of the class that its configuration names.

        Raises:
            BadInput: There is no such folder or id, or it has no configuration that names a class.
        """
        path = Path(source).expanduser().resolve()
        if not path.exists():
            path = _downloaded(str(source))
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            return cls(config["architectures"][0], str(path))
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise BadInput(f"{path} has no config.json that names its model class") from error

    def build(self) -> PreTrainedModel:
        """The model with its weights, in float32, ready to be called."""
        kind = class_named(self.model_class)
        model: PreTrainedModel = kind.from_pretrained(
            self.folder, dtype=torch.float32, local_files_only=True
        )
        model.eval()
        return model


def _downloaded(repo_id: str) -> Path:
    """The folder that the hub keeps that checkpoint in on this machine, fetched if need be."""
    try:
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors"]))
    except (HFValidationError, HfHubHTTPError, OSError, ValueError) as error:
        raise BadInput(
            f"{repo_id}: no such folder, and no model of that id could be fetched from the hub"
        ) from error


Model = Blueprint | Checkpoint


def class_named(model_class: str) -> Any:
    """The class of that name; its module is imported if it was not.

    Raises:
        BadInput: When transformers exports no such class.
    """
    try:
        return getattr(transformers, model_class)
    except AttributeError as error:
        raise BadInput(f"transformers exports no class {model_class!r}") from error


def generates(model: Model) -> bool:
    """Whether the model's class can produce tokens one by one."""
    return bool(class_named(model.model_class).can_generate())


def most_tokens(model: Model, prompt: int, new: int) -> tuple[int, int | None]:
    """Return the tokens that one side of the model reads in a call, and how many it can read.

    Of an encoder and a decoder it is the longer side. The bound is None where there is none.

    Args:
        model: The model.
        prompt: Tokens of the prompt.
        new: Tokens that are generated.
    """
    if isinstance(model, Blueprint):
        config = model.configuration()
    else:
        kind = class_named(model.model_class).config_class
        config = kind.from_pretrained(model.folder, local_files_only=True)
    needed = prompt + new
    if config.is_encoder_decoder and new:
        reads_text = class_named(model.model_class).main_input_name == "input_ids"
        needed = max(prompt if reads_text else 0, new + 1)  # the decoder begins with one of its own
    return needed, positions_in(config.to_dict())


def described(model: Model) -> dict[str, str]:
    """The model as JSON values."""
    return asdict(model)


def model_from(fields: Mapping[str, str]) -> Model:
    """The model that `described` made the fields from."""
    return Checkpoint(**fields) if "folder" in fields else Blueprint(**fields)


def built(model: Model) -> PreTrainedModel:
    """The module, in float32.

    A blueprint's weights are random numbers that have really been written: pages that never were
    all map to the same zeros, which would stay in the cache as no real weights do.
    """
    module: PreTrainedModel = model.build().float()
    text: Any = module.config.get_text_config()
    if not module.can_generate() and getattr(text, "pad_token_id", None) is None:
        text.pad_token_id = -1  # no token: a classifier on a decoder takes no batch without an id
    return module


def check_fits(model: Model, workload: Workload) -> None:
    """Refuse a workload that is not one for the model.

    Raises:
        BadInput: It generates no tokens and is asked for some, or has not so many positions.
    """
    if workload.new_tokens and not generates(model):
        raise BadInput(
            f"{model.model_class} generates no tokens: new_tokens must be 0,"
            f" not {workload.new_tokens}"
        )
    needed, bound = most_tokens(model, workload.prompt_tokens, workload.new_tokens)
    if bound is not None and needed > bound:
        raise BadInput(
            f"{model.model_class} has positions for {bound} tokens: {workload} takes {needed}; "
            "expected a workload of fewer tokens"
        )
