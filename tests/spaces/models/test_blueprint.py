import torch
import transformers

from protege.spaces import Teacher


def test_a_built_blueprint_is_initialised_like_its_class(teacher: Teacher) -> None:
    blueprint = teacher.blueprint(teacher.architecture)
    built = blueprint.build().state_dict()
    usual = getattr(transformers, blueprint.model_class)(blueprint.configuration()).state_dict()
    assert built.keys() == usual.keys()
    for name, tensor in usual.items():
        assert torch.isfinite(built[name]).all(), name
        if len(tensor.unique()) == 1:  # such as the ones of a normalisation
            assert torch.equal(built[name], tensor), name
        elif tensor.is_floating_point() and tensor.numel() > 100:
            assert 0.5 < built[name].std() / tensor.std() < 2, name
