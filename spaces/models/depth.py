"""The depth of each parameter, for layer-wise learning rates."""

from transformers import PreTrainedModel

from protege.spaces.families import Family
from protege.spaces.models.layout import Layout, Slot


def layers_above(family: Family, model: PreTrainedModel) -> dict[str, int]:
    """Count the layers between each parameter and the output.

    Layer i of a stack of n has ``n - 1 - i`` layers above it. Modules before the first layer have
    n, the depth of the deepest stack; final norms and heads have 0. A tied parameter counts by its
    place closest to the input.

    Args:
        family: The model's family.
        model: A teacher or a student.

    Returns:
        The number of layers by parameter name, with all names of tied parameters.

    Raises:
        Mismatch: The family's table does not name one of the tensors.
        Unsupported: Models of this configuration have no layout.
    """
    layout = Layout.of(family, model)
    prefix = f"{model.base_model_prefix}."
    above = {slot.name: _above(layout, slot, prefix) for slot in layout.slots}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    most: dict[int, int] = {}
    for name, parameter in parameters.items():
        most[id(parameter)] = max(above[name], most.get(id(parameter), 0))
    return {name: most[id(parameter)] for name, parameter in parameters.items()}


def _above(layout: Layout, slot: Slot, prefix: str) -> int:
    family = layout.family
    depths = {stack: layout.depths.get(stack, 0) for stack in family.depths}
    if slot.layer is not None and slot.stack in depths:
        return depths[slot.stack] - 1 - slot.layer
    return max(depths.values()) if family.is_stem(slot.name.removeprefix(prefix)) else 0
