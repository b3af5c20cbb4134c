"""Derive the student's configuration from the teacher's."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.errors import Infeasible
from protege.spaces.families.family import Family
from protege.spaces.models.layout import Layout
from protege.spaces.vocabulary.renumbering import renumbered

Layers = tuple[int, ...]


def configured(
    layout: Layout,
    config: PretrainedConfig,
    student: Architecture,
    vocab: Sequence[int] | None = None,
) -> PretrainedConfig:
    """Build the student's configuration.

    Without ``vocab`` the kept tokens are not chosen yet.

    Raises:
        Infeasible: The configuration class refuses the sizes, or the first layer must stay.
    """
    family, fields = layout.family, config.to_dict()
    first = next(iter(family.stacks))
    layers = layout.layers_of(student, first)
    _check_first_layer(family, config, layers)
    for name in family.derived:
        fields.pop(name, None)
    fields.update(_as_hidden(family, config, student))
    fields.update(family.written(student.sizes()))
    fields.update(_by_layer(family, fields, layers, layout.depths[first]))
    if family.dense_layers:
        experts = ("experts" in layout.sites[first, layer] for layer in layers)
        fields[family.dense_layers] = [at for at, has in enumerate(experts) if not has]
    fields.update(family.reset)
    rotation = student.rotation(layout.architecture)
    if rotation and not rotation.tied:
        fields["tie_word_embeddings"] = False
    if vocab is not None:
        fields = renumbered(fields, vocab)
    elif student.vocab_size < layout.architecture.vocab_size:
        _bound_token_ids(fields, student.vocab_size)
    return family.built(config, fields)


def _by_layer(
    family: Family, fields: Mapping[str, Any], layers: Layers, total: int
) -> dict[str, Any]:
    """Return the per-layer fields of the configuration, reduced to the kept layers."""
    listed = {
        name: [fields[name][layer] for layer in layers]
        for name in family.per_layer
        if fields.get(name) is not None
    }
    counted = {
        name: sum(layer < fields[name] for layer in layers)
        for name in family.layer_bounds
        if fields.get(name) is not None and fields[name] < total
    }
    return {**listed, **counted}


def _as_hidden(family: Family, config: PretrainedConfig, student: Architecture) -> dict[str, int]:
    """Return the fields that repeat the hidden size under another name.

    Raises:
        Infeasible: The student's hidden size equals the width of an embedding that the teacher
            projects, so that the model class would leave the projection out.
    """
    own = family.field_of(config, "hidden_size")
    fields = {}
    for name in family.as_hidden:
        width = getattr(config, name, None)
        if width == own:
            fields[name] = student.hidden_size
        elif width == student.hidden_size:
            raise Infeasible(
                f"{config.model_type} of hidden size {width}: the model leaves out the projection "
                f"from {name}={width} there, which the teacher has; choose another hidden size"
            )
    return fields


def _check_first_layer(family: Family, config: PretrainedConfig, layers: Layers) -> None:
    """Raise Infeasible if a first layer that must stay is dropped."""
    tied = any(getattr(config, name, None) for name in family.first_layer_stays)
    if tied and 0 not in layers:
        raise Infeasible(
            f"{config.model_type} with layers {', '.join(map(str, layers))}: its layer 0 is built "
            "unlike the others and must stay; choose layers that begin with it"
        )


def _bound_token_ids(fields: dict[str, Any], vocab_size: int) -> None:
    """Clamp special token ids to the student's vocabulary while its tokens are not chosen.

    A model that is only counted or timed needs valid ids, not the right ones.
    """
    for name, value in fields.items():
        if name.endswith("_token_id") and isinstance(value, int):
            fields[name] = min(value, vocab_size - 1)
