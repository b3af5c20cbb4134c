"""A model of given tensors, built without the random weights it would begin with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from protege.spaces.errors import Mismatch


def filled(
    model_class: type[PreTrainedModel], config: PretrainedConfig, tensors: Mapping[str, Tensor]
) -> PreTrainedModel:
    """A model of that class that holds these very tensors, ties renewed, in evaluation mode.

    Nothing is copied: what `cut` made is what the model trains.

    Raises:
        Mismatch: The tensors are not the ones that the configuration asks for.
    """
    # some classes draw a token or two by themselves, whatever they are told
    with torch.random.fork_rng(devices=[]), no_init_weights(), _weightless():
        model = model_class(config)
    _fill(model, tensors)
    model.tie_weights()
    model.eval()
    return model


def _fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors where their names say; what `load_state_dict` does, without its hooks."""
    asked = model.state_dict()
    unfit = sorted(asked.keys() ^ tensors.keys())
    unfit += [
        name for name in asked.keys() & tensors.keys() if asked[name].shape != tensors[name].shape
    ]
    if unfit:
        raise Mismatch(f"the units kept do not fit the student's sizes: see {', '.join(unfit[:3])}")
    modules = dict(model.named_modules())
    for name, tensor in tensors.items():
        module, _, own = name.rpartition(".")
        if own in modules[module]._parameters:  # noqa: SLF001 - torch offers no other way in
            tensor = nn.Parameter(tensor)  # noqa: PLW2901
        setattr(modules[module], own, tensor)


@contextmanager
def _weightless() -> Iterator[None]:
    """Modules that are made inside have parameters without storage; buffers are real.

    Buffers hold what configurations imply, such as rotary frequencies, and no checkpoint has them.
    """
    module_class: Any = nn.Module  # a method of it is replaced while the block runs
    register: Callable[..., None] = module_class.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    module_class.register_parameter = on_meta
    try:
        yield
    finally:
        module_class.register_parameter = register
