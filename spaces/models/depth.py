"""How far up a model each of its parameters stands: what learning rates by layer are made of."""

from transformers import PreTrainedModel

from protege.spaces.families import Family
from protege.spaces.models.layout import Layout, Slot


def layers_above(family: Family, model: PreTrainedModel) -> dict[str, int]:
    """How many layers of its stack stand between each parameter and the output.

    Layer i of a stack of n has ``n - 1 - i`` above it. What stands before the first layer, by the
    family's table, has all of them above it: n, of the deepest stack. Final norms and heads have
    none. A parameter that is in two places, as the embedding is that a head shares, counts as the
    earlier one.

    Args:
        family: The model's.
        model: A teacher's or a student's; its own layers are counted.

    Returns:
        The number by the parameter's name, each name of a shared one included.

    Raises:
        Mismatch: The table does not name one of the tensors.
        Unsupported: The configuration makes a model that protege cannot lay out.
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
