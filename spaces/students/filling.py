"""Build a model from given tensors, without initialising random weights first."""

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
    """Build a model that holds these tensors without copying them, in evaluation mode.

    Tied weights are tied again.

    Raises:
        Mismatch: Names or shapes of the tensors differ from the configuration's.
    """
    # some classes draw a few parameters even under no_init_weights
    with torch.random.fork_rng(devices=[]), no_init_weights(), _parameters_on_meta():
        model = model_class(config)
    _assign(model, tensors)
    model.tie_weights()
    model.eval()
    return model


def _assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Assign the tensors by name, as `load_state_dict` does but without its hooks."""
    expected = model.state_dict()
    unfit = sorted(expected.keys() ^ tensors.keys())
    unfit += [
        name
        for name in expected.keys() & tensors.keys()
        if expected[name].shape != tensors[name].shape
    ]
    if unfit:
        raise Mismatch(f"the kept units do not fit the student's sizes: see {', '.join(unfit[:3])}")
    modules = dict(model.named_modules())
    for name, tensor in tensors.items():
        module, _, own = name.rpartition(".")
        if own in modules[module]._parameters:  # noqa: SLF001 - torch offers no other way in
            tensor = nn.Parameter(tensor)  # noqa: PLW2901
        setattr(modules[module], own, tensor)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Create parameters on the meta device while the block runs; buffers stay real.

    Buffers such as rotary frequencies are computed from the configuration, not stored.
    """
    module_class: Any = nn.Module  # one of its methods is replaced while the block runs
    register: Callable[..., None] = module_class.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    module_class.register_parameter = register_on_meta
    try:
        yield
    finally:
        module_class.register_parameter = register
