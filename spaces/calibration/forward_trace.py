"""Record a forward pass, and run a teacher again from one of its layers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from protege.spaces.models.layout import LaidOutModel, Place


def output_projections(teacher: LaidOutModel) -> Iterator[tuple[nn.Module, Place]]:
    """Yield the output projections of all attentions with their places."""
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit != "ffn":
            yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


@dataclass
class ForwardTrace:
    """Records a forward pass with hooks.

    Attributes:
        outputs: Each layer's output, in forward order.
        before: For each output projection, the number of layers that had finished before it.
    """

    teacher: LaidOutModel
    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    before: dict[nn.Module, int] = field(default_factory=dict)
    _handles: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "ForwardTrace":
        for layers in self.teacher.layout.layers(self.teacher.model).values():
            for layer in layers:
                self._handles.enter_context(layer.register_forward_hook(self._layer_ran))
        for module, _ in output_projections(self.teacher):
            self._handles.enter_context(module.register_forward_pre_hook(self._site_reached))
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def _layer_ran(self, layer: nn.Module, _given: Any, output: Any) -> None:
        self.outputs[layer] = output

    def _site_reached(self, module: nn.Module, _given: Any) -> None:
        self.before[module] = len(self.outputs)


@contextmanager
def standing_in(outputs: Mapping[nn.Module, Any], count: int) -> Iterator[None]:
    """Replace the first ``count`` layers by their recorded outputs inside the block."""
    first = list(outputs)[:count]
    with running({layer: lambda *_, known=outputs[layer], **__: known for layer in first}):
        yield


@contextmanager
def running(forwards: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of each module inside the block."""
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before.items():
            del module.forward  # restores the class's method
            if own is not None:  # accelerate gives modules of sharded models their own
                module.forward = own
